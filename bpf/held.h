/* SPDX-License-Identifier: GPL-2.0-only */
/* How the two ends of a UDP flow find each other. Nothing but addresses tells, and a translation of
 * them becomes known to user space a moment after the first datagram: so what a server's end counts
 * is held until its client's end is found, or has not been for a while. */
#ifndef TAILRACE_HELD_H
#define TAILRACE_HELD_H

#include "ends.h"

#define HOLD_NS 1000000000ULL /* nearly always it is a matter of milliseconds */

/* What tells a UDP flow from others, at both its ends and on whatever hosts, unless its addresses are
 * translated: a server bound to the wildcard does not know which of its own was asked. */
static __always_inline u64 mark_of_flow(const u8 *client, u16 client_port, u16 server_port)
{
	u64 h = mix(TRANSPORT_UDP, *(u64 *)client);

	h = mix(h, *(u64 *)(client + 8));
	return mix(h, (u32)client_port << 16 | server_port);
}

/* Word of a client's flow, under its own address; if that is not chosen yet, under none, and under
 * its namespace. */
static __always_inline void leave_udp_half(void *sk, struct connection *c, const u8 *server,
					   u16 server_port)
{
	struct half half = {};
	struct half_group mine = {};

	half.transport = TRANSPORT_UDP;
	half.client_port = local_port(sk);
	half.server_port = server_port;
	read_local(half.client, sk);
	mine.group = c->group;
	mine.tgid = c->tgid;
	mine.id = c->group_id;
	mine.netns = netns_of(sk);
	__builtin_memcpy(mine.server, server, 16);
	if (!is_wildcard(half.client)) {
		raise_mark(groups.lookup(&c->group),
			   mark_of_flow(half.client, half.client_port, server_port));
	} else {
		__builtin_memset(half.client, 0, 16);
		if (tuned(TUNING_HOLD)) {
			*(u32 *)half.client = mine.netns;
			if (halves.update(&half, &mine))
				count_lost(LOST_LINKS);
			*(u32 *)half.client = 0;
		}
	}
	if (halves.update(&half, &mine))
		count_lost(LOST_LINKS);
}

/* The client's end of a server's flow, if that is on this host. `local`: where the server is bound. */
static __always_inline struct half_group *udp_half(struct view *view, const u8 *local)
{
	struct half half = {};
	struct half_group *theirs;
	struct asked *asked = translated.lookup(view);

	half.transport = TRANSPORT_UDP;
	if (asked) {
		half.client_port = asked->client_port;
		half.server_port = asked->server_port;
		__builtin_memcpy(half.client, asked->client, 16);
		theirs = halves.lookup(&half);
		if (!theirs && asked->netns) {
			__builtin_memset(half.client, 0, 16);
			*(u32 *)half.client = asked->netns;
			theirs = halves.lookup(&half);
		}
		if (!theirs || !same_address(theirs->server, asked->server) ||
		    (asked->netns && asked->netns != theirs->netns))
			return NULL;
		return theirs;
	}
	half.client_port = view->client_port;
	half.server_port = view->server_port;
	__builtin_memcpy(half.client, view->client, 16);
	theirs = halves.lookup(&half);
	if (!theirs) {
		__builtin_memset(half.client, 0, 16);
		theirs = halves.lookup(&half);
	}
	if (!theirs || (!is_wildcard(local) && !same_address(local, theirs->server)))
		return NULL;
	return theirs;
}

static __always_inline struct half_group *half_of_flow(void *sk, const u8 *address, u16 port)
{
	struct view view = {};
	u64 local[2] = {};

	view.netns = netns_of(sk);
	view.client_port = port;
	view.server_port = local_port(sk);
	__builtin_memcpy(view.client, address, 16);
	read_local((u8 *)local, sk);
	return udp_half(&view, (u8 *)local);
}

/* A flow of which no other end was found: have it wait until `settle`. */
static __always_inline void hold(void *sk, u64 flow, struct connection *c, u16 port)
{
	struct held *old = held.lookup(&flow), *fresh;
	int zero = 0;

	if (old && !old->settled) { /* its flow was forgotten, or is in other hands */
		old->group = c->group;
		old->group_id = c->group_id;
		old->flows += 1;
		c->flags |= FLAG_HELD;
		return;
	}
	fresh = blank.lookup(&zero); /* it has no room on the stack */
	if (old || !fresh || held.insert(&flow, fresh))
		return;
	fresh = held.lookup(&flow);
	if (!fresh)
		return;
	fresh->flows = 1;
	fresh->group = c->group;
	fresh->group_id = c->group_id;
	fresh->port = port;
	read_local(fresh->local, sk);
	asm volatile("" ::: "memory");
	fresh->since_ns = bpf_ktime_get_ns();
	c->flags |= FLAG_HELD;
}

/* Count a datagram of a flow that waits; return whether it does. */
static __always_inline int held_back(u64 flow, struct connection *c, int length, int out)
{
	struct held *h = held.lookup(&flow);

	if (!h)
		return 0;
	__sync_fetch_and_add(&h->datagrams, 1);
	if (!out) {
		__sync_fetch_and_add(&h->bytes_in, length);
		c->asked_ns = bpf_ktime_get_ns();
		c->turn = TURN_ASKED;
		return 1;
	}
	__sync_fetch_and_add(&h->bytes_out, length);
	if (c->turn == TURN_ASKED) {
		__sync_fetch_and_add(&h->requests, 1);
		h->took_ns = bpf_ktime_get_ns() - c->asked_ns;
		c->asked_ns = 0;
	}
	c->turn = TURN_ANSWERED;
	return 1;
}

/* Move a number to the group where it belongs, however it grows meanwhile. */
static __always_inline u64 settle_one(struct group *g, int counter, u64 *at)
{
	u64 number = *(volatile u64 *)at;

	if (number) {
		add(g, counter, number);
		__sync_fetch_and_add(at, -number);
	}
	return number;
}

/* A sweep comes by a flow that waits. `key` and `h` are in the map, where others count. */
static __always_inline void settle(u64 flow, struct held *h)
{
	struct view view = {};
	struct group_key key = {};
	struct half_group *theirs;
	struct connection *c;
	struct group *g, *to;
	struct details *from, *more;
	u64 requests, last = h->settled, id;
	u32 slot = h->group;

	if (!h->since_ns) /* it is being written */
		return;
	g = groups.lookup(&slot);
	if (!g || g->id != h->group_id) {
		count_lost(LOST_LINKS);
		held.delete(&flow);
		return;
	}
	if (!last) {
		view.netns = g->key.netns;
		view.client_port = h->port;
		view.server_port = g->key.port;
		__builtin_memcpy(view.client, g->key.remote, 16);
		theirs = udp_half(&view, h->local);
		if (!theirs && bpf_ktime_get_ns() - h->since_ns < HOLD_NS)
			return;
		if (theirs) {
			key = g->key;
			key.peer = theirs->id;
			key.self = 0;
			__builtin_memset(key.remote, 0, 16);
			slot = find_group(&key, &g->owner, NULL);
			from = details.lookup(&h->group);
			more = details.lookup(&slot);
			if (from && more)
				__builtin_memcpy(more, from, sizeof(*more));
			link_groups(theirs->group, theirs->id, slot);
		}
		to = groups.lookup(&slot);
		if (!to)
			return;
		g = to;
		id = g->id;
		c = flows.lookup(&flow);
		if (c) {
			c->peer = key.peer;
			if (theirs)
				c->peer_group = theirs->group;
			c->group = slot;
			c->group_id = id;
			c->flags &= ~FLAG_HELD;
		}
		h->group = slot;
		h->group_id = id;
		h->settled = 1;
	}
	settle_one(g, ESTABLISHED, &h->flows);
	settle_one(g, DATAGRAMS, &h->datagrams);
	settle_one(g, BYTES_OUT, &h->bytes_out);
	settle_one(g, BYTES_IN, &h->bytes_in);
	settle_one(g, DROPS, &h->drops);
	requests = settle_one(g, REQUESTS, &h->requests);
	if (requests)
		add_latency(slot, LATENCY_REQUEST, h->took_ns, requests);
	/* a datagram may be counting here at this moment: it is deleted the next time */
	if (last)
		held.delete(&flow);
}

#endif
