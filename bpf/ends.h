/* SPDX-License-Identifier: GPL-2.0-only */
/* Which group a connection belongs to, how its two ends find each other, and who listens where. */
#ifndef TAILRACE_ENDS_H
#define TAILRACE_ENDS_H

#include "fold.h"

static __always_inline struct connection *known(void *sk)
{
	u64 key = (u64)sk;
	return connections.lookup(&key);
}

static __always_inline void store(void *sk, struct connection *c)
{
	u64 key = (u64)sk;
	struct connection *old = connections.lookup(&key);

	/* a socket that failed or was disconnected connects again; or its end went unseen */
	if (old) {
		if (old->flags & FLAG_ESTABLISHED && !(old->flags & FLAG_CLOSED))
			count(old->group, ENDED);
		count(old->group, LEFT);
	}
	if (connections.update(&key, c))
		count_lost(LOST_CONNECTIONS);
	else
		count(c->group, JOINED);
}

/* The group of a connection. A client's: by the server's address and port. A server's: by the
 * client's group if that is on this host, else by the client's address. `from`: the owner, or NULL
 * for `task`. */
static __always_inline u32 group_of(void *sk, struct connection *c, struct owner *from, void *task)
{
	struct group_key key = {};
	u64 local[2] = {};

	key.netns = netns_of(sk);
	key.role = c->role;
	key.transport = TRANSPORT_TCP;
	key.port = c->role == ROLE_CLIENT ? remote_port(sk) : local_port(sk);
	if (c->peer) {
		key.peer = c->peer;
	} else {
		read_remote(key.remote, sk);
		read_local((u8 *)local, sk);
		key.self = is_loopback(key.remote) || same_address(key.remote, (u8 *)local);
	}
	if (from) {
		key.tgid = from->tgid;
		key.started = from->started;
	} else {
		set_process(&key, task);
	}
	return find_group(&key, from, task);
}

/* The numbers with which the two streams of a connection began (RFC 9293, 3.4.1): its two ends have
 * them in common whatever translates their addresses in between, and with 64 random bits no other
 * connection has. Told at any time of its life, by what has been counted since; the acknowledged SYN
 * of a client counts as a byte (tcp_snd_una_update(), net/ipv4/tcp_input.c). */
static __always_inline void read_beginnings(struct half *half, void *sk, u8 role)
{
	u64 acked = 0, received = 0;
	u32 mine = 0, theirs = 0;

	READ(mine, sk, OFF_snd_una);
	READ(acked, sk, OFF_bytes_acked);
	READ(theirs, sk, OFF_rcv_nxt);
	READ(received, sk, OFF_bytes_received);
	mine -= (u32)acked;
	theirs -= (u32)received;
	half->transport = TRANSPORT_TCP;
	*(u32 *)half->client = role == ROLE_CLIENT ? mine + 1 : theirs;
	*(u32 *)half->server = role == ROLE_CLIENT ? theirs : mine;
}

/* What tells a connection from all others, and is the same at both its ends. */
static __always_inline u64 mark_of(struct half *half)
{
	return mix(mix(0, *(u32 *)half->client), *(u32 *)half->server);
}

/* Two groups, on two hosts, that have the same connections have the same highest mark. */
static __always_inline void raise_mark(struct group *g, u64 mark)
{
	if (g && mark > g->mark)
		g->mark = mark;
}

/* A client leaves word of its end; the server's end, which comes up after it, finds it there. */
static __always_inline void leave_half(void *sk, struct connection *c)
{
	struct half half = {};
	struct half_group mine = {};

	read_beginnings(&half, sk, ROLE_CLIENT);
	c->mark = mark_of(&half);
	raise_mark(groups.lookup(&c->group), c->mark);
	mine.group = c->group;
	mine.tgid = c->tgid;
	mine.id = id_of(c->group);
	if (halves.update(&half, &mine))
		count_lost(LOST_LINKS);
}

/* Return whether a client's end has left word for this server's. */
static __always_inline int is_awaited(void *sk)
{
	struct half half = {};

	read_beginnings(&half, sk, ROLE_SERVER);
	return halves.lookup(&half) != NULL;
}

static __always_inline void find_half(void *sk, struct connection *c)
{
	struct half half = {};
	struct half_group *theirs;

	read_beginnings(&half, sk, ROLE_SERVER);
	c->mark = mark_of(&half);
	theirs = halves.lookup(&half);
	if (!theirs)
		return;
	c->peer = theirs->id;
	c->peer_group = theirs->group;
	halves.delete(&half);
}

static __always_inline void listening(void *sk, void *task)
{
	struct endpoint at = {};
	struct listener fresh = {};
	struct listener *known;
	u64 key = (u64)sk;

	if (!is_watched(netns_of(sk)))
		return;
	if (listening_at.lookup(&key)) /* one socket, shared by a parent and its workers */
		return;
	read_local(at.address, sk);
	at.netns = netns_of(sk);
	at.port = local_port(sk);
	if (is_wildcard(at.address))
		__builtin_memset(at.address, 0, 16);
	known = listeners.lookup(&at);
	read_owner(&fresh.owner, task);
	fresh.count = known ? known->count + 1 : 1;
	if (listening_at.update(&key, &at) || listeners.update(&at, &fresh))
		count_lost(LOST_LISTENERS);
}

static __always_inline void not_listening(void *sk)
{
	u64 key = (u64)sk;
	struct endpoint *where = listening_at.lookup(&key);
	struct endpoint at;
	struct listener *known;

	if (!where)
		return;
	at = *where;
	listening_at.delete(&key);
	known = listeners.lookup(&at);
	if (!known)
		return;
	if (known->count > 1)
		known->count -= 1;
	else
		listeners.delete(&at);
}

#endif
