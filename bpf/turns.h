/* SPDX-License-Identifier: GPL-2.0-only */
/* Requests without a look at the payload: who spoke last, and how long the answer took.
 *
 * A client's request takes from the last thing it sent to the first that it received; a server's
 * from the last received to the first sent. Every request is counted. Reading the clock costs as
 * much as all the rest together, so a busy connection has only some of its requests timed, at least
 * 250 a second, and so has a busy group of calm connections, at least 2,000 a second; at random
 * distances, each with the number that it stands for. */
#ifndef TAILRACE_TURNS_H
#define TAILRACE_TURNS_H

#include "groups.h"
#include "woken.h"

#define BUSY_NS 2000000ULL  /* timed more often than this: time fewer */
#define CALM_NS 10000000ULL
#define MOST_INTERVAL 32
#define WAIT_NS 10000000000ULL /* an answer that takes longer may be a long poll's */
#define WAIT_AGAIN_NS 1000000000ULL /* and on the same connection, so may one that takes this long */
#define STREAMING 8 /* pushed at least this much: what comes is no answer */

static __always_inline void pace(struct connection *c, u64 now)
{
	u64 gap = now - c->timed_ns;
	struct group *g = groups.lookup(&c->group);
	u32 least = tuned(TUNING_INTERVAL);
	u32 interval = c->interval;

	if (g && g->interval > least) /* a busy group of many calm connections */
		least = g->interval;

	if (gap < BUSY_NS && interval < MOST_INTERVAL)
		interval *= 2;
	else if (gap > CALM_NS && interval > 1)
		interval /= 2;
	if (interval < least)
		interval = least;
	c->interval = interval;
	c->timed_ns = now;
	/* the low bits of the clock are as good as random: no rhythm of the traffic keeps step */
	c->skip = interval > 1 ? (now ^ now >> 7) & (2 * interval - 1) : 0;
}

/* And no flow of datagrams, or of a UNIX socket. */
static __always_inline int is_of_tcp(struct connection *c)
{
	return !c->group_id;
}

static __always_inline int serves_tcp(struct connection *c)
{
	return c->role == ROLE_SERVER && is_of_tcp(c);
}

/* How many ticks what was read just now had lain in a TCP socket: since the last segment with data
 * came. The kernel notes that (tcp_event_data_recv(), net/ipv4/tcp_input.c). */
static __always_inline u32 unread_ticks(void *sk)
{
	u32 arrived = 0;

	READ(arrived, sk, OFF_lrcvtime);
	return (u32)bpf_jiffies64() - arrived;
}

static __always_inline void add_read_latency(struct connection *c, u32 ticks)
{
	add_latency(c->group, LATENCY_READ, (u64)ticks * tuned(TUNING_JIFFY), 1);
}

static __always_inline void asked(struct connection *c, void *sk)
{
	u64 now;
	u32 unread;

	if (c->turn == TURN_ASKED) {
		if (!c->asked_ns)
			return;
		/* a question in several parts is asked with the last */
		c->asked_ns = now = bpf_ktime_get_ns();
		if (serves_tcp(c))
			note_question(now, 0);
		return;
	}
	c->turn = TURN_ASKED;
	if (c->pushed > 0)
		c->pushed--;
	if (c->skip) {
		c->skip--;
		if (!serves_tcp(c) || !is_keen())
			return;
		now = bpf_ktime_get_ns();
		note_question(now, unread_ticks(sk));
		if (now - c->timed_ns > CALM_NS) /* who waits for others asks rarely */
			c->asked_ns = c->timed_ns = now;
		return;
	}
	now = bpf_ktime_get_ns();
	pace(c, now);
	c->asked_ns = now;
	if (serves_tcp(c)) {
		unread = unread_ticks(sk);
		add_read_latency(c, unread);
		note_question(now, unread);
	}
}

/* Return whether this answered a request. */
static __always_inline int answered(struct connection *c, void *sk)
{
	u64 took, now, since = c->asked_ns;
	u16 kind = LATENCY_REQUEST;

	if (c->turn != TURN_ASKED) {
		/* nobody asked, and it was quiet before: a stream of messages, not of answers */
		if (c->rest >= 2 && c->turn == TURN_ANSWERED && c->pushed < 32)
			c->pushed += 4;
		if (c->rest)
			c->rest = 0;
		c->turn = TURN_ANSWERED;
		return 0;
	}
	c->turn = TURN_ANSWERED;
	if (c->rest)
		c->rest = 0;
	c->requests++;
	if (c->pushed >= STREAMING) {
		c->waits++;
		c->asked_ns = 0;
		return 1;
	}
	if (!since)
		return 1;
	now = bpf_ktime_get_ns();
	took = now > since ? now - since : 0;
	c->asked_ns = 0;
	/* user space knows whether the two of them are given to waiting */
	if (took >= WAIT_NS)
		c->touched = TOUCHED_WAITED;
	if (took >= WAIT_AGAIN_NS && c->touched == TOUCHED_WAITED)
		kind = LATENCY_WAIT;
	else if (serves_tcp(c) && was_woken(since, now))
		kind = LATENCY_WOKEN;
	add_latency(c->group, kind, took, c->requests - c->timed_requests);
	if (c->role == ROLE_CLIENT && is_of_tcp(c) && kind == LATENCY_REQUEST)
		add_read_latency(c, unread_ticks(sk));
	c->timed_requests = c->requests;
	return 1;
}

#endif
