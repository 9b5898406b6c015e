/* SPDX-License-Identifier: GPL-2.0-only */
/* UNIX sockets: who has an address of his own is the server, who is connected to one the client.
 * Pairs of sockets without an address are pipes within a program and not watched. */
#ifndef TAILRACE_UNIX_H
#define TAILRACE_UNIX_H

#include "datagrams.h"

#ifdef OFF_unix_addr
static __always_inline void read_path(char *to, void *address)
{
	char *from = (char *)address + OFF_unix_address_path;

	if (bpf_probe_read_kernel_str(to, 64, from) > 1)
		return;
	to[0] = '@'; /* an abstract name, as ss(8) writes it */
	bpf_probe_read_kernel_str(to + 1, 63, from + 1);
}

static __always_inline u32 peer_tgid(void *sk)
{
	void *pid = NULL;
	u32 number = 0;

	READ(pid, sk, OFF_sk_peer_pid);
	if (pid)
		READ(number, pid, OFF_pid_number);
	return number;
}

/* A record for a socket that was not known, or is another one than it was. */
static __always_inline void open_unix(void *sk, void *peer)
{
	void *task = (void *)bpf_get_current_task();
	void *mine = NULL, *theirs = NULL;
	struct connection c = {}, *other;
	struct group_key key = {};
	struct group *g;
	u64 flow = (u64)sk, from = (u64)peer;
	u64 path[8] = {};
	u16 type = 0;
	int i;

	READ(type, sk, OFF_sk_type);
	READ(mine, sk, OFF_unix_addr);
	READ(theirs, peer, OFF_unix_addr);
	if (mine && type == SOCK_STREAM)
		c.role = ROLE_SERVER;
	else if (theirs)
		c.role = ROLE_CLIENT;
	c.sent = (u64)peer;
	c.touched = 1;
	c.interval = 1;
	c.tgid = current_tgid();
	if (c.role) {
		read_path((char *)path, c.role == ROLE_CLIENT ? theirs : mine);
		other = flows.lookup(&from);
		if (c.role == ROLE_SERVER && other && other->role == ROLE_CLIENT) {
			c.peer = other->group_id;
			c.peer_group = other->group;
		}
		key.peer = c.peer;
		key.role = c.role;
		key.transport = TRANSPORT_UNIX;
		key.self = 1;
		*(u64 *)key.remote = peer_tgid(sk);
#pragma unroll
		for (i = 0; i < 8; i++)
			*(u64 *)(key.remote + 8) = mix(*(u64 *)(key.remote + 8), path[i]);
		set_current_process(&key);
		c.group = find_group(&key, NULL, task);
		c.group_id = id_of(c.group);
		g = groups.lookup(&c.group);
		if (g && c.group != OVERFLOW)
			__builtin_memcpy(g->path, path, 64);
		if (c.peer)
			link_groups(c.peer_group, c.peer, c.group);
	}
	if (flows.update(&flow, &c))
		count_lost(LOST_CONNECTIONS);
	else if (c.role)
		count(c.group, ESTABLISHED);
}

/* The flow of what moved, which is counted, or NULL. */
static __always_inline struct connection *unix_flow(void *sk, int length, int out)
{
	u64 key = (u64)sk;
	void *peer = NULL;
	struct connection *c = flows.lookup(&key);
	struct group *g;

	READ(peer, sk, OFF_unix_peer);
	if (!peer)
		return NULL;
	/* an address in memory is used again: it is the same socket if all else is the same */
	if (!c || c->sent != (u64)peer || c->tgid != current_tgid() ||
	    (c->role && id_of(c->group) != c->group_id)) {
		open_unix(sk, peer);
		c = flows.lookup(&key);
	}
	if (!c || !c->role)
		return NULL;
	g = groups.lookup(&c->group);
	if (!g)
		return NULL;
	add(g, out ? BYTES_OUT : BYTES_IN, length);
	return c;
}
#else
/* The flow of what moved, which is counted, or NULL. */
static __always_inline struct connection *unix_flow(void *sk, int length, int out)
{
	return 0;
}
#endif

#endif
