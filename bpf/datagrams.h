/* SPDX-License-Identifier: GPL-2.0-only */
/* UDP: a flow is a socket and the peer it talks to, connected or not. Nothing says when one ends,
 * so flows count at once and the longest unused are forgotten. */
#ifndef TAILRACE_DATAGRAMS_H
#define TAILRACE_DATAGRAMS_H

#include "tcp.h"
#include "held.h"

/* Who the datagram now on its way is to or from, for sockets without a fixed peer. */
struct named_peer {
	u8 address[16];
	u16 port;
	u16 pad;
	u32 pad2;
};
BPF_F_TABLE("lru_hash", u64, struct named_peer, named_peers, MAX_FLOWS, 0);

static __always_inline u64 flow_key(void *sk, const u8 *address, u16 port)
{
	u64 h = mix((u64)sk, port);
	h = mix(h, *(u64 *)address);
	return mix(h, *(u64 *)(address + 8));
}

/* Return whether the socket has a peer; fill in who that is. */
static __always_inline int peer_of(void *sk, u8 *address, u16 *port)
{
	u64 key = (u64)sk;
	struct named_peer *named;

	*port = remote_port(sk);
	if (*port) {
		read_remote(address, sk);
		return 1;
	}
	named = named_peers.lookup(&key);
	if (!named)
		return 0;
	__builtin_memcpy(address, named->address, 16);
	*port = named->port;
	return 1;
}

static __always_inline u32 udp_group(void *sk, struct connection *c, const u8 *address, u16 port)
{
	void *task = (void *)bpf_get_current_task();
	struct group_key key = {};
	u64 local[2] = {};

	key.netns = netns_of(sk);
	key.role = c->role;
	key.transport = TRANSPORT_UDP;
	key.port = c->role == ROLE_CLIENT ? port : local_port(sk);
	if (c->peer) {
		key.peer = c->peer;
	} else {
		__builtin_memcpy(key.remote, address, 16);
		read_local((u8 *)local, sk);
		key.self = is_loopback(key.remote) || same_address(key.remote, (u8 *)local);
	}
	set_process(&key, task);
	return find_group(&key, NULL, task);
}

/* A flow's record, made when it is first seen, or when its socket, its group or its other end has
 * changed. */
static __always_inline void open_flow(void *sk, u64 flow, const u8 *address, u16 port, int out,
				      struct connection *before)
{
	struct connection c = {};
	struct half_group *theirs;
	struct held *waiting;
	u32 error = 0;

	c.role = out || remote_port(sk) ? ROLE_CLIENT : ROLE_SERVER;
	if (before) {
		c.role = before->role;
		c.turn = before->turn;
		c.asked_ns = before->asked_ns;
	}
	c.touched = 1;
	c.interval = 1;
	c.tgid = current_tgid();
	c.port = local_port(sk);
	c.timeouts = tuned(TUNING_TRANSLATED);
	if (c.role == ROLE_SERVER) {
		theirs = half_of_flow(sk, address, port);
		if (theirs) {
			c.peer = theirs->id;
			c.peer_group = theirs->group;
		}
	}
	c.group = udp_group(sk, &c, address, port);
	c.group_id = id_of(c.group);
	if (c.role == ROLE_CLIENT) {
		leave_udp_half(sk, &c, address, port);
	} else if (c.peer) {
		link_groups(c.peer_group, c.peer, c.group);
		waiting = held.lookup(&flow);
		if (waiting) {
			waiting->group = c.group;
			waiting->group_id = c.group_id;
			waiting->settled = 1;
		}
	} else {
		raise_mark(groups.lookup(&c.group), mark_of_flow(address, port, c.port));
		if (tuned(TUNING_HOLD))
			hold(sk, flow, &c, port);
	}
	if (flows.update(&flow, &c))
		count_lost(LOST_CONNECTIONS);
	else if (!(c.flags & FLAG_HELD))
		count(c.group, ESTABLISHED);
	/* on one host the answer to the first comes before the flow is known */
	READ(error, sk, OFF_sk_err);
	if (error == ECONNREFUSED && c.role == ROLE_CLIENT)
		count(c.group, REFUSED);
}

/* Whether the other end of a server's flow is now known, or is another: where the server ran before
 * its client's hook, when a translation has come since. */
static __always_inline int other_end(void *sk, struct connection *c, const u8 *address, u16 port)
{
	u32 now = tuned(TUNING_TRANSLATED);
	struct half_group *theirs;

	if (c->role != ROLE_SERVER || (c->timeouts == now && (c->peer || c->datagrams >= 4)))
		return 0;
	c->timeouts = now;
	theirs = half_of_flow(sk, address, port);
	return theirs && theirs->id != c->peer;
}

/* The flow of a datagram, which is counted, or NULL if there is no more to do. */
static __always_inline struct connection *udp_flow(void *sk, int length, int out)
{
	u64 address[2] = {}, flow;
	u16 port = 0;
	struct connection *c, *before;
	struct group *g;

	if (!peer_of(sk, (u8 *)address, &port))
		return NULL;
	flow = flow_key(sk, (u8 *)address, port);
	c = flows.lookup(&flow);
	if (c && c->port != local_port(sk)) /* another socket, in the same memory */
		c = NULL;
	before = c;
	if (c && (c->tgid != current_tgid() || id_of(c->group) != c->group_id ||
		  other_end(sk, c, (u8 *)address, port)))
		c = NULL;
	if (!c) {
		if (!is_watched(netns_of(sk)))
			return NULL;
		open_flow(sk, flow, (u8 *)address, port, out, before);
		c = flows.lookup(&flow);
		if (!c)
			return NULL;
	}
	g = groups.lookup(&c->group);
	if (!g)
		return NULL;
	c->datagrams++;
	if (c->flags & FLAG_HELD && held_back(flow, c, length, out))
		return NULL;
	add(g, DATAGRAMS, 1);
	add(g, out ? BYTES_OUT : BYTES_IN, length);
	if (port == DNS_PORT && c->role == ROLE_CLIENT)
		dns_datagram(sk, c, flow, length, out);
	return c;
}

/* An ICMP has said that nobody listens there. */
static __always_inline int error_reported(void *sk)
{
	u64 address[2] = {}, flow;
	u32 error = 0;
	u16 port = 0;
	struct connection *c;

	if (protocol_of(sk) != IPPROTO_UDP || !peer_of(sk, (u8 *)address, &port))
		return 0;
	READ(error, sk, OFF_sk_err);
	if (error != ECONNREFUSED)
		return 0;
	flow = flow_key(sk, (u8 *)address, port);
	c = flows.lookup(&flow);
	if (c)
		count(c->group, REFUSED);
	return 0;
}

/* The socket's buffer is full. In a softirq: whose datagram it was is not known, so it counts at
 * the last that the socket heard from. */
static __always_inline int udp_dropped(void *sk)
{
	u64 address[2] = {}, flow;
	u16 port = 0;
	struct connection *c;
	struct held *h;

	if (!peer_of(sk, (u8 *)address, &port))
		return 0;
	flow = flow_key(sk, (u8 *)address, port);
	c = flows.lookup(&flow);
	if (!c)
		return 0;
	h = c->flags & FLAG_HELD ? held.lookup(&flow) : NULL;
	if (h)
		__sync_fetch_and_add(&h->drops, 1);
	else
		count(c->group, DROPS);
	return 0;
}

#endif
