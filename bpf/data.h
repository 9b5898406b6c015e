/* SPDX-License-Identifier: GPL-2.0-only */
/* Data that moved: the hot path, one look-up on a socket that is known. */
#ifndef TAILRACE_DATA_H
#define TAILRACE_DATA_H

#include "tcp.h"
#include "datagrams.h"
#include "unix.h"

/* The socket is in other hands than before: accepted, inherited, or passed on. From here on its
 * connection counts in the group of who has it now. */
static __always_inline void rehome(void *sk, struct connection *c)
{
	void *task = (void *)bpf_get_current_task();
	struct group *before = groups.lookup(&c->group), *after;
	struct listener *from;
	u32 slot;

	if (is_kernel_thread(task))
		return;
	if (before)
		fold_all(c, before, sk);
	c->tgid = current_tgid();
	slot = group_of(sk, c, NULL, task);
	if (c->peer)
		link_groups(c->peer_group, c->peer, slot);
	if (c->role == ROLE_SERVER) {
		/* the listener's next child will most likely be his */
		from = listener_of(sk);
		if (from)
			read_owner(&from->owner, task);
	}
	if (slot == c->group)
		return;
	if (before)
		add(before, LEFT, 1);
	after = groups.lookup(&slot);
	if (before && after && !after->link) /* the other end stays where it is */
		after->link = before->link;
	count(slot, JOINED);
	c->group = slot;
}

/* accept(2) asks for the peer's name: the only word of it that needs no hook on a system call */
static __always_inline void accepted(u64 sk)
{
	struct connection *c = connections.lookup(&sk);

	if (!c || c->role != ROLE_SERVER || c->touched)
		return;
	c->touched = 1;
	add_latency(c->group, LATENCY_ACCEPT, bpf_ktime_get_ns() - c->opened_ns, 1);
	if (c->tgid != current_tgid())
		rehome((void *)sk, c);
}

/* The record of a socket that is not known as a TCP connection, or NULL. */
static __always_inline struct connection *met(void *sk, int length, int out)
{
	u16 family = family_of(sk), protocol;

	if (family == AF_UNIX)
		return unix_flow(sk, length, out);
	if (family != AF_INET && family != AF_INET6)
		return NULL;
	protocol = protocol_of(sk);
	if (protocol == IPPROTO_UDP)
		return udp_flow(sk, length, out);
	if (protocol == IPPROTO_TCP && is_open(sk)) {
		open_met(sk, (void *)bpf_get_current_task(),
			 listener_of(sk) ? ROLE_SERVER : ROLE_CLIENT);
		return known(sk);
	}
	return NULL;
}

/* Where an MPTCP socket's data moves: its first subflow is a TCP socket like any other, but
 * nobody sends on that. Any other socket's moves on itself. */
static __always_inline void *carrier(void *sk)
{
	void *first = NULL;

#ifdef OFF_mptcp_first
	if (protocol_of(sk) == IPPROTO_MPTCP && family_of(sk) != AF_UNIX)
		READ(first, sk, OFF_mptcp_first);
#endif
	return first ? first : sk;
}

/* All that may have to be done. */
static __always_inline int data(void *sk, int length, int out)
{
	struct connection *c;

	if (length <= 0)
		return 0;
	c = known(sk);
	if (!c) {
		sk = carrier(sk);
		c = known(sk);
	}
	if (!c) {
		c = met(sk, length, out);
		if (!c)
			return 0;
	} else if (c->tgid != current_tgid()) {
		rehome(sk, c);
	}
	if (!c->touched)
		c->touched = 1;
	if (out == (c->role == ROLE_CLIENT))
		asked(c, sk);
	else if (answered(c, sk) && c->group_id) /* a flow is never folded: it counts at once */
		count(c->group, REQUESTS);
	if (c->flags & FLAG_DNS) {
		if (!out)
			dns_hear(sk, length);
		dns_moved(sk, length, out);
	}
	return 0;
}

/* Nearly always nothing has to be done but this, on one line of the cache; return whether so. */
static __always_inline int was_plain(void *sk, int length, int out)
{
	struct connection *c;

	if (length <= 0)
		return 1;
	c = known(sk);
	if (!c || c->tgid != current_tgid() || !c->touched || c->flags & FLAG_DNS)
		return 0;
	if (out == (c->role == ROLE_CLIENT))
		asked(c, sk);
	else
		answered(c, sk);
	return 1;
}

#ifdef WANT_tp_data
/* The rest is a program of its own, compiled once for both directions, as it is large. The
 * direction goes with the socket, as a bit of its address. */
BPF_PERCPU_ARRAY(directions, u64, 1);

static __always_inline void set_direction(u64 sk, int out)
{
	int zero = 0;
	u64 *direction = directions.lookup(&zero);
	if (direction)
		*direction = sk | out;
}

/* 0 or 1; -1 if another thread has come between, as may be where tracepoints are preempted. */
static __always_inline int direction_of(u64 sk)
{
	int zero = 0;
	u64 *direction = directions.lookup(&zero);
	if (!direction || (*direction & ~1ULL) != sk)
		return -1;
	return *direction & 1;
}
#endif

#endif
