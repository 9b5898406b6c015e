/* SPDX-License-Identifier: GPL-2.0-only */
/* Connects that fail before a SYN is sent: for want of a route, no tracepoint tells of them. Each
 * is noted as it begins, and the note taken back when the socket goes to SYN_SENT. */
#ifndef TAILRACE_CONNECTS_H
#define TAILRACE_CONNECTS_H

#include "groups.h"

#define CONNECT_NS 100000000ULL /* from the one to the other it takes microseconds */

struct connecting {
	u64 since_ns;
	u64 group_id;
	u32 group;
	u32 pad;
};

/* By socket. */
BPF_F_TABLE("hash", u64, struct connecting, connecting, MAX_CONNECTING, 0);

static __always_inline void never_left(u32 slot, u64 id)
{
	struct group *g = groups.lookup(&slot);

	if (!g || g->id != id)
		return;
	add(g, ATTEMPTS, 1);
	add(g, UNREACHABLE, 1);
}

/* A TCP socket is about to connect; whether its local address is the same is not known yet. */
static __always_inline void connect_begins(u64 sk, const u8 *address, u16 port)
{
	struct connecting fresh = {}, *before = connecting.lookup(&sk);
	struct group_key key = {};

	if (before) { /* it is tried again, or is another's by now: so that failed */
		never_left(before->group, before->group_id);
		connecting.delete(&sk);
	}
	if (is_loopback(address)) /* there is always a route */
		return;
	if (!is_watched(netns_of((void *)sk)))
		return;
	key.netns = netns_of((void *)sk);
	key.port = port;
	key.role = ROLE_CLIENT;
	key.transport = TRANSPORT_TCP;
	__builtin_memcpy(key.remote, address, 16);
	set_process(&key, (void *)bpf_get_current_task());
	fresh.since_ns = bpf_ktime_get_ns();
	fresh.group = find_group(&key, NULL, (void *)bpf_get_current_task());
	fresh.group_id = id_of(fresh.group);
	if (connecting.update(&sk, &fresh))
		count_lost(LOST_CONNECTIONS);
}

static __always_inline void connect_left(void *sk)
{
	u64 key = (u64)sk;
	connecting.delete(&key);
}

/* A note that the sweep has come to. */
static __always_inline void connect_failed(u64 sk, struct connecting *noted)
{
	u64 now = bpf_ktime_get_ns(), since = noted->since_ns, id = noted->group_id;
	u32 slot = noted->group;

	if (now < since || now - since < CONNECT_NS)
		return;
	if (connecting.delete(&sk) == 0)
		never_left(slot, id);
}

#endif
