/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TAILRACE_MAPS_H
#define TAILRACE_MAPS_H

#include "records.h"

/* CONNECTION_FLAGS: allocated as needed where the kernel can do that in a softirq
 * (struct bpf_mem_alloc, Linux 6.1), else in advance. */
BPF_F_TABLE("hash", u64, struct connection, connections, MAX_CONNECTIONS, CONNECTION_FLAGS);
/* Flows of UDP and UNIX sockets, whose end no tracepoint tells: the longest unused give way. */
BPF_F_TABLE("lru_hash", u64, struct connection, flows, MAX_FLOWS, 0);
/* User space reads it through mmap: a window costs no system call per group. */
BPF_F_TABLE("array", u32, struct group, groups, MAX_GROUPS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct details, details, MAX_GROUPS, BPF_F_MMAPABLE); /* of the groups */
BPF_F_TABLE("hash", struct group_key, u32, group_slots, MAX_GROUPS, 0);
BPF_QUEUESTACK("stack", free_slots, u32, MAX_GROUPS, 0); /* filled by user space */
BPF_F_TABLE("hash", struct latency_key, struct latency, latencies, MAX_LATENCIES, 0);
BPF_F_TABLE("lru_hash", struct half, struct half_group, halves, MAX_HALVES, 0);
BPF_F_TABLE("hash", struct endpoint, struct listener, listeners, MAX_LISTENERS, 0);
/* Where each listening socket listens: its port is already gone when it says that it stops. */
BPF_F_TABLE("hash", u64, struct endpoint, listening_at, MAX_LISTENERS, 0);
BPF_ARRAY(lost, u64, LOST_KINDS);

/* What user space asks of the programs. */
#define TUNING_INTERVAL 0 /* time at most one request in so many */
#define TUNING_RTT 1	  /* 0: no round-trip times */
#define TUNING_PASS 2	  /* which sockets the walk over all files looks at: PASS_* */
#define TUNING_JIFFY 3	  /* ns in one: the kernel's tick */
#define TUNING_NETNS 4	  /* 1: only sockets of the namespaces in `watched_netns` */
#define TUNING_ANSWERS 5  /* 1: hand over DNS answers */
#define TUNINGS 6
BPF_ARRAY(tuning, u32, TUNINGS);
#define PASS_LISTENERS 0
#define PASS_CLIENTS 1
#define PASS_SERVERS 2

static __always_inline u32 tuned(int what)
{
	u32 *value = tuning.lookup(&what);
	return value ? *value : 0;
}

/* By the namespace's inode number. */
BPF_F_TABLE("hash", u32, u32, watched_netns, MAX_NETNS, 0);

static __always_inline int is_watched(u32 netns)
{
	return !tuned(TUNING_NETNS) || watched_netns.lookup(&netns);
}

static __always_inline void count_lost(int kind)
{
	u64 *number = lost.lookup(&kind);
	if (number)
		__sync_fetch_and_add(number, 1);
}

static __always_inline void add(struct group *g, int counter, u64 amount)
{
	if (amount)
		__sync_fetch_and_add(&g->counts[counter], amount);
}

static __always_inline void count(u32 slot, int counter)
{
	struct group *g = groups.lookup(&slot);
	if (g)
		__sync_fetch_and_add(&g->counts[counter], 1);
}

/* Programs that others go on to, each a copy that only one other reaches: see Target.program in
 * probes/hooks.py. */
BPF_PROG_ARRAY(rest, 4);
#define REST_SENT 0
#define REST_STATE 1
#define REST_DESTROY 2
#define REST_RECEIVED 3

/* What a program has seen to. The kernel does not run a program on a CPU where it is running
 * already: a connect interrupted by a packet that closes another connection would hide that. So
 * events that happen in both contexts have a second program, which does the work if the first was
 * passed over. */
#define SEEN_STATE 0
#define SEEN_DESTROY 1
BPF_PERCPU_ARRAY(seen, u64, 2);

static __always_inline void mark_seen(int what, u64 event)
{
	u64 *last = seen.lookup(&what);
	if (last)
		*last = event;
}

static __always_inline int was_seen(int what, u64 event)
{
	u64 *last = seen.lookup(&what);
	if (!last || *last != event)
		return 0;
	*last = 0;
	return 1;
}

/* Move a position from where it was read to stand; return whether nobody else has meanwhile. A
 * sweep and the connection's end may fold at once: what one of them counts, the other must not.
 * Before Linux 5.12 there is no atomic way to tell. */
static __always_inline int advance(u64 *at, u64 from, u64 to)
{
#ifdef HAVE_EXCHANGE
	return __sync_val_compare_and_swap(at, from, to) == from;
#else
	*at = to;
	return 1;
#endif
}

#endif
