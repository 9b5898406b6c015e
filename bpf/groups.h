/* SPDX-License-Identifier: GPL-2.0-only */
/* Groups: all connections of one process to or from one other end, counted together, so that
 * user space reads as much as there are groups and not as there are connections. */
#ifndef TAILRACE_GROUPS_H
#define TAILRACE_GROUPS_H

#include "maps.h"
#include "reading.h"

/* Never twice the same: one place cannot be given away twice in a nanosecond. The multipliers are
 * odd, hence bijections; they only spread the bits. */
static __always_inline u64 new_id(u64 place, u64 now)
{
	return now * 0x9e3779b97f4a7c15ULL ^ place * 0xc2b2ae3d27d4eb4fULL;
}

/* The place of a group, made if it is new. `from`: its owner, or NULL for `task`'s. */
static __always_inline u32 find_group(struct group_key *key, struct owner *from, void *task)
{
	u32 *known = group_slots.lookup(key);
	u32 slot = OVERFLOW;
	struct details *more;
	struct group *g;

	if (known)
		return *known;
	if (free_slots.pop(&slot)) {
		count_lost(LOST_GROUPS);
		return OVERFLOW;
	}
	g = groups.lookup(&slot);
	if (!g)
		return OVERFLOW;
	__builtin_memset(g, 0, sizeof(*g));
	g->key = *key;
	if (from) {
		g->owner = *from;
	} else {
		read_owner(&g->owner, task);
	}
	more = details.lookup(&slot);
	if (more) {
		__builtin_memset(more, 0, sizeof(*more));
		if (!from)
			read_details(more, task);
	}
	/* a reader that sees the id sees the rest */
	asm volatile("" ::: "memory");
	g->id = new_id(slot, bpf_ktime_get_ns());
	if (group_slots.insert(key, &slot) == 0)
		return slot;
	/* another CPU was faster */
	g->id = 0;
	free_slots.push(&slot, 0);
	known = group_slots.lookup(key);
	return known ? *known : OVERFLOW;
}

static __always_inline u64 id_of(u32 slot)
{
	struct group *g = groups.lookup(&slot);
	return g ? g->id : 0;
}

/* Tell the client's group where its other end is. */
static __always_inline void link_groups(u32 client, u64 client_id, u32 server)
{
	struct group *g = groups.lookup(&client);
	if (g && g->id == client_id)
		g->link = id_of(server);
}

/* A task's process, as part of a key whose role is set. A client that executes another program is
 * another from then on; a server is who listens or accepts, whatever it executed in between. */
static __always_inline void set_process(struct group_key *key, void *task)
{
	void *leader = leader_of(task);

	READ(key->tgid, task, OFF_tgid);
	key->started = started(leader);
	if (key->role == ROLE_CLIENT)
		READ(key->executed, leader, OFF_self_exec_id);
}

/* Who listens where, found from a connection of his. */
static __always_inline struct listener *listener_at(const u8 *address, u32 netns, u16 port)
{
	struct endpoint at = {};
	struct listener *found;

	at.netns = netns;
	at.port = port;
	__builtin_memcpy(at.address, address, 16);
	found = listeners.lookup(&at);
	if (found)
		return found;
	__builtin_memset(at.address, 0, 16);
	return listeners.lookup(&at);
}

static __always_inline struct listener *listener_of(void *sk)
{
	u64 address[2] = {};
	read_local((u8 *)address, sk);
	return listener_at((u8 *)address, netns_of(sk), local_port(sk));
}

/* One sample, which stands for `weight` of its kind. */
static __always_inline void add_latency(u32 group, u16 kind, u64 took_ns, u64 weight)
{
	struct latency_key key = {};
	struct latency fresh = {};
	struct latency *known;

	key.group = group;
	key.kind = kind;
	key.bucket = bucket_of(took_ns);
	known = latencies.lookup(&key);
	if (!known) {
		fresh.samples = 1;
		fresh.weight = weight;
		if (latencies.insert(&key, &fresh) == 0)
			return;
		known = latencies.lookup(&key); /* another CPU was faster, or there is no room */
	}
	if (!known) {
		count_lost(LOST_LATENCIES);
		return;
	}
	__sync_fetch_and_add(&known->samples, 1);
	__sync_fetch_and_add(&known->weight, weight);
}

#endif
