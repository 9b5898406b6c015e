/* SPDX-License-Identifier: GPL-2.0-only */
/* The life of TCP connections and listeners, whatever hook tells of it. */
#ifndef TAILRACE_TCP_H
#define TAILRACE_TCP_H

#include "ends.h"
#include "dns.h"
#include "connects.h"

#define TWICE_NS 1000000ULL

/* A connection that begins: a client's at its SYN, by the process that connects; a server's as the
 * child of a listener, in a softirq, where whoever is current has nothing to do with it. */
static __always_inline void open_new(void *sk, u8 role)
{
	struct connection c = {};
	struct owner owner = {}; /* stays empty for a listener that was missed */
	struct listener *from;
	struct connection *already = known(sk);

	c.opened_ns = bpf_ktime_get_ns();
	/* told twice (see mark_seen); the next of the same address comes after its end, or later */
	if (already && already->role == role && already->flags & FLAG_ATTEMPT &&
	    !(already->flags & FLAG_CLOSED) &&
	    c.opened_ns - already->opened_ns < TWICE_NS)
		return;
	if (!is_watched(netns_of(sk)))
		return;
	c.role = role;
	READ(c.port, sk, OFF_skc_dport);
	c.flags = FLAG_ATTEMPT;
	c.interval = 1;
	if (role == ROLE_CLIENT) {
		connect_left(sk);
		c.touched = 1;
		c.tgid = current_tgid();
		if (remote_port(sk) == DNS_PORT) {
			c.flags |= FLAG_DNS;
			dns_opened(sk);
		}
	} else {
		c.flags |= FLAG_ESTABLISHED;
		from = listener_of(sk);
		if (from)
			owner = from->owner;
		c.tgid = owner.tgid;
		start_positions(&c, sk);
		find_half(sk, &c);
	}
	c.group = group_of(sk, &c, role == ROLE_CLIENT ? NULL : &owner,
			   (void *)bpf_get_current_task());
	count(c.group, role == ROLE_CLIENT ? ATTEMPTS : ESTABLISHED);
	raise_mark(groups.lookup(&c.group), c.mark);
	if (c.peer)
		link_groups(c.peer_group, c.peer, c.group);
	store(sk, &c);
}

/* An open connection nobody told us about. Who called whom is known by who listens. */
static __always_inline void open_met(void *sk, void *task, u8 role)
{
	struct connection c = {};
	u64 key = (u64)sk;
	u32 value = 0;

	if (!is_watched(netns_of(sk)))
		return;
	c.opened_ns = bpf_ktime_get_ns();
	c.role = role;
	READ(c.port, sk, OFF_skc_dport);
	c.flags = FLAG_ESTABLISHED;
	c.touched = 1;
	c.interval = 1;
	READ(c.tgid, task, OFF_tgid);
	start_positions(&c, sk);
	READ(value, sk, OFF_data_segs_out);
	c.segments = value;
	READ(value, sk, OFF_total_retrans);
	c.retransmits = value;
	if (role == ROLE_SERVER)
		find_half(sk, &c);
	c.group = group_of(sk, &c, NULL, task);
	if (c.peer)
		link_groups(c.peer_group, c.peer, c.group);
	if (role == ROLE_CLIENT)
		leave_half(sk, &c);
	else
		raise_mark(groups.lookup(&c.group), c.mark);
	/* who loses a race here may fail in peace */
	if (connections.insert(&key, &c) == 0) {
		count(c.group, JOINED);
	} else if (!connections.lookup(&key)) {
		count_lost(LOST_CONNECTIONS);
	}
}

static __always_inline int is_open(void *sk)
{
	u8 state = state_of(sk);
	return state != TCP_LISTEN && state != TCP_CLOSE && state != TCP_SYN_SENT &&
	       state != TCP_SYN_RECV;
}

static __always_inline void established(void *sk, struct connection *c)
{
	c->flags |= FLAG_ESTABLISHED;
	start_positions(c, sk);
	count(c->group, ESTABLISHED);
	add_latency(c->group, LATENCY_CONNECT, bpf_ktime_get_ns() - c->opened_ns, 1);
	leave_half(sk, c);
}

/* What became of a connect that failed. Before it has a port of its own, the socket does not choose
 * where its stream begins (tcp_v4_connect()). */
static __always_inline int failure(void *sk, u32 error)
{
	u32 begin = 0;

	switch (error) {
	case 0:
		READ(begin, sk, OFF_write_seq);
		return begin ? ABORTED : NO_PORT;
	case ECONNREFUSED:
		return REFUSED;
	case ETIMEDOUT:
		return TIMED_OUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return UNREACHABLE;
	case ECONNRESET:
		return CONNECT_RESET;
	}
	return ABORTED;
}

/* It is over, and how. */
static __always_inline void count_end(struct connection *c, struct group *g, u32 error)
{
	c->flags |= FLAG_CLOSED;
	if (!(c->flags & FLAG_ESTABLISHED))
		return;
	add(g, ENDED, 1);
	if (error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH)
		add(g, DIED, 1);
}

/* State CLOSE is not the end: the owner may still read what has arrived before. */
static __always_inline void closed(void *sk, struct connection *c, int fin_sent)
{
	u32 slot = c->group, error = 0;
	struct group *g = groups.lookup(&slot);

	if (!g || c->flags & FLAG_CLOSED)
		return;
	if (c->flags & FLAG_ESTABLISHED && !(c->flags & FLAG_FIN)) {
		u64 at = sent_position(sk);
		if (at != AGAIN) {
			/* a FIN takes a number too */
			c->sent_end = fin_sent ? at - 1 : at;
			c->flags |= FLAG_FIN;
		}
	}
	fold_all(c, g, sk);
	READ(error, sk, OFF_sk_err);
	count_end(c, g, error);
	if (!(c->flags & FLAG_ESTABLISHED))
		add(g, failure(sk, error), 1);
	else if (!c->peer) /* else the client's end tells */
		sample_rtt(c, sk);
}

static __always_inline int state_changed(void *sk, int before, int after)
{
	u64 key = (u64)sk;
	struct connection *c;

	if (after == TCP_SYN_SENT || after == TCP_LISTEN ||
	    (before == TCP_SYN_RECV && after == TCP_ESTABLISHED) || before == TCP_LISTEN) {
		if (!is_tcp(sk))
			return 0;
		if (after == TCP_SYN_SENT || after == TCP_ESTABLISHED)
			open_new(sk, after == TCP_SYN_SENT ? ROLE_CLIENT : ROLE_SERVER);
		else if (after == TCP_LISTEN)
			listening(sk, (void *)bpf_get_current_task());
		else if (after == TCP_CLOSE)
			not_listening(sk);
		return 0;
	}
	if (after != TCP_ESTABLISHED && after != TCP_FIN_WAIT1 && after != TCP_LAST_ACK &&
	    after != TCP_CLOSE)
		return 0;
	c = connections.lookup(&key);
	if (!c)
		return 0;
	if (after == TCP_ESTABLISHED) {
		if (before == TCP_SYN_SENT && !(c->flags & FLAG_ESTABLISHED))
			established(sk, c);
	} else if (after == TCP_FIN_WAIT1 || after == TCP_LAST_ACK) {
		u64 at = sent_position(sk);
		/* MPTCP says it a second time, when the FIN has its number */
		if (at != AGAIN && !(c->flags & FLAG_FIN)) { /* the socket is locked: it does not move */
			c->sent_end = at;
			c->flags |= FLAG_FIN;
		}
	} else if (after == TCP_CLOSE) {
		closed(sk, c, before == TCP_FIN_WAIT1 || before == TCP_FIN_WAIT2 ||
				      before == TCP_CLOSING || before == TCP_LAST_ACK);
	}
	return 0;
}

/* Whoever deletes the record counts that it left. */
static __always_inline void forget(void *sk, struct connection *c)
{
	u64 key = (u64)sk;
	u32 slot = c->group;

	if (c->flags & FLAG_DNS)
		dns_closed(sk);
	if (connections.delete(&key) == 0)
		count(slot, LEFT);
}

static __always_inline int destroyed(void *sk)
{
	struct connection *c = known(sk);
	struct group *g;

	if (!c)
		return 0;
	closed(sk, c, !(c->flags & FLAG_RESET));
	g = groups.lookup(&c->group);
	if (g)
		fold_all(c, g, sk);
	forget(sk, c);
	return 0;
}

/* A sweep comes by. A kernel may pass over a program (kprobes in a kprobe, for one), so what ended
 * unseen is found here. */
static __always_inline void check_end(void *sk)
{
	struct connection *c = known(sk);
	u32 references = 0;
	struct group *g;

	if (!c) /* it has just been told */
		return;
	READ(references, sk, OFF_skc_refcnt);
	if (is_of(sk, c)) {
		/* the state of one that begins is set after we are told */
		if (c->flags & FLAG_ESTABLISHED)
			closed(sk, c, !(c->flags & FLAG_RESET));
		if (!references)
			forget(sk, c);
		return;
	}
	/* what it moved since the last sweep, nobody can tell */
	g = groups.lookup(&c->group);
	if (g && !(c->flags & FLAG_CLOSED)) {
		count_end(c, g, 0);
		count_lost(LOST_CONNECTIONS);
	}
	forget(sk, c);
}

/* `out`: whether we sent it. */
static __always_inline int reset(void *sk, int out)
{
	u64 key = (u64)sk;
	struct connection *c = connections.lookup(&key);
	int early;

	/* a refused connect is no reset; of two that cross, the first counts */
	if (!c || !(c->flags & FLAG_ESTABLISHED) || c->flags & FLAG_RESET)
		return 0;
	c->flags |= FLAG_RESET;
	early = c->turn == TURN_NONE;
	if (out)
		count(c->group, early ? RESET_OUT_EARLY : RESET_OUT);
	else
		count(c->group, early ? RESET_IN_EARLY : RESET_IN);
	return 0;
}

static __always_inline int reset_in(void *sk)
{
	return reset(sk, 0);
}

static __always_inline int reset_out(void *sk)
{
	return reset(sk, 1);
}

static __always_inline int listen_started(void *sk)
{
	if (is_tcp(sk))
		listening(sk, (void *)bpf_get_current_task());
	return 0;
}

/* A socket of the walk over all files. */
static __always_inline int found_open(void *task, void *socket)
{
	u32 pass = tuned(TUNING_PASS);
	void *sk = sk_of(socket);
	struct connection *c;
	u8 role;

	if (!sk || !is_tcp(sk))
		return 0;
	if (pass == PASS_LISTENERS) {
		if (state_of(sk) == TCP_LISTEN)
			listening(sk, task);
		return 0;
	}
	if (!is_open(sk))
		return 0;
	role = listener_of(sk) ? ROLE_SERVER : ROLE_CLIENT;
	if (role != (pass == PASS_CLIENTS ? ROLE_CLIENT : ROLE_SERVER))
		return 0;
	/* a server's end that moved data before its client's end was met: now that is */
	c = known(sk);
	if (c && role == ROLE_SERVER && !c->peer && is_awaited(sk))
		forget(sk, c);
	open_met(sk, task, role);
	return 0;
}

/* One event may stand for several segments: those are read off the socket. */
static __always_inline int retransmitted(void *sk)
{
	u64 key = (u64)sk;
	struct connection *c = connections.lookup(&key);
	struct group *g;
	u8 timeouts = 0;

	if (!c)
		return 0;
	g = groups.lookup(&c->group);
	if (!g)
		return 0;
	READ(timeouts, sk, OFF_icsk_retransmits);
	if (timeouts > c->timeouts && c->flags & FLAG_ESTABLISHED)
		add(g, TIMEOUTS, 1);
	c->timeouts = timeouts;
	fold_all(c, g, sk);
	return 0;
}

#endif
