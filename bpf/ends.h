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
		READ(key.tgid, task, OFF_tgid);
		key.started = started(leader_of(task));
	}
	return find_group(&key, from, task);
}

/* A client leaves word of its end; the server's end, which comes up after it, finds it there. */
static __always_inline void leave_half(void *sk, struct connection *c)
{
	struct half half = {};
	struct half_group mine = {};

	read_local(half.client, sk);
	read_remote(half.server, sk);
	half.client_port = local_port(sk);
	half.server_port = remote_port(sk);
	half.transport = TRANSPORT_TCP;
	mine.group = c->group;
	mine.tgid = c->tgid;
	mine.id = id_of(c->group);
	if (halves.update(&half, &mine))
		count_lost(LOST_LINKS);
}

static __always_inline void find_half(void *sk, struct connection *c)
{
	struct half half = {};
	struct half_group *theirs;

	read_local(half.server, sk);
	read_remote(half.client, sk);
	half.server_port = local_port(sk);
	half.client_port = remote_port(sk);
	half.transport = TRANSPORT_TCP;
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
