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
	struct group *before = groups.lookup(&c->group);
	struct listener *from;
	u32 slot;

	if (is_kernel_thread(task))
		return;
	if (before)
		fold(c, before, sk);
	c->tgid = current_tgid();
	if (c->role == ROLE_CLIENT) {
		slot = client_group(sk, task, TRANSPORT_TCP);
	} else {
		slot = server_group(sk, c, NULL, task, TRANSPORT_TCP);
		if (c->peer)
			link_groups(c->peer_group, c->peer, slot);
		/* the listener's next child will most likely be his */
		from = listener_of(sk);
		if (from)
			read_owner(&from->owner, task);
	}
	if (slot == c->group)
		return;
	if (before)
		add(before, LEFT, 1);
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

/* A TCP socket that nobody told us of, or one of another kind. */
static __always_inline int others_data(void *sk, int length, int out)
{
	u16 family = family_of(sk), protocol;
	void *first = NULL;
	struct connection *c;
	u64 key;

	if (family == AF_UNIX)
		return unix_data(sk, length, out);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	protocol = protocol_of(sk);
	if (protocol == IPPROTO_UDP)
		return udp_data(sk, length, out);
	if (protocol == IPPROTO_TCP && is_open(sk)) {
		open_met(sk, (void *)bpf_get_current_task(),
			 listener_of(sk) ? ROLE_SERVER : ROLE_CLIENT);
		return 0;
	}
#ifdef OFF_mptcp_first
	if (protocol == IPPROTO_MPTCP) {
		/* its first subflow is a TCP socket like any other, but nobody sends on that */
		READ(first, sk, OFF_mptcp_first);
		key = (u64)first;
		c = connections.lookup(&key);
		if (!c)
			return 0;
		if (c->tgid != current_tgid())
			rehome(first, c);
		c->touched = 1;
		if (out == (c->role == ROLE_CLIENT))
			asked(c);
		else
			answered(c);
	}
#endif
	return 0;
}

static __always_inline int data(void *sk, int length, int out)
{
	u64 key = (u64)sk;
	struct connection *c;

	if (length <= 0)
		return 0;
	c = connections.lookup(&key);
	if (!c)
		return others_data(sk, length, out);
	if (c->tgid != current_tgid())
		rehome(sk, c);
	if (!c->touched)
		c->touched = 1;
	if (out == (c->role == ROLE_CLIENT))
		asked(c);
	else
		answered(c);
	if (c->flags & FLAG_DNS)
		dns_moved(sk, c, length, out);
	return 0;
}

#endif
