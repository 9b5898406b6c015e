// SPDX-License-Identifier: GPL-2.0-only
/*
 * TCP connections of the whole host, aggregated in the kernel, one record per connection.
 *
 * Hooks are raw tracepoints only, so this loads where kprobes and fentry are compiled out or
 * locked down. The two hot ones (a send, a receive) do one hash look-up on a connection that is
 * already known; all else happens on rare events.
 *
 * No kernel struct is declared here. BCC's front end lays structs out for the host and its back
 * end for BPF, and on some kernels the two disagree without a word; so every field is read at
 * an offset taken from the running kernel's BTF (OFF_*, see probes/offsets.py) and checked
 * against TCP_INFO at start (probes/selfcheck.py).
 *
 * Keys and lifetimes: a connection is keyed by its socket's address from the moment it is known
 * until tcp_destroy_sock, when its record moves to `closed` under an id of its own. A socket
 * address is reused within microseconds, an id never. State CLOSE is not the end: the owner may
 * still read what has arrived before (after a half close, or a reset).
 */
#include <linux/types.h>
#include "connection.h"
#include "bucket.h"
#include "reading.h"

/* All preallocated: an allocation in a softirq may fail, and a failed update is a lost sample. */
BPF_HASH(connections, u64, struct connection, MAX_CONNECTIONS);
BPF_HASH(closed, u64, struct connection, MAX_CLOSED);
BPF_HASH(latencies, struct latency_key, u64, MAX_LATENCIES);
BPF_HASH(listeners, struct endpoint, struct listener, MAX_LISTENERS);
/* where each listening socket listens: its port is already gone when it says that it stops */
BPF_HASH(listening_at, u64, struct endpoint, MAX_LISTENERS);
BPF_ARRAY(lost, u64, LOST_KINDS);

static __always_inline void count_lost(int kind)
{
	u64 *number = lost.lookup(&kind);
	if (number)
		__sync_fetch_and_add(number, 1);
}

/* Never twice the same: one socket cannot be opened twice in a nanosecond. The multipliers are
 * odd, hence bijections; they only spread the bits. */
static __always_inline u64 new_id(u64 sk, u64 now)
{
	return now * 0x9e3779b97f4a7c15ULL ^ sk * 0xc2b2ae3d27d4eb4fULL;
}

static __always_inline struct listener *listener_of(struct connection *c)
{
	struct endpoint at = {};
	struct listener *found;

	at.netns = c->netns;
	at.port = c->local_port;
	__builtin_memcpy(at.address, c->local_address, 16);
	found = listeners.lookup(&at);
	if (found)
		return found;
	__builtin_memset(at.address, 0, 16);
	return listeners.lookup(&at);
}

static __always_inline void finish(u64 key, struct connection *c)
{
	u64 id = c->id;
	if (closed.update(&id, c))
		count_lost(LOST_CLOSED);
	connections.delete(&key);
}

static __always_inline void store(u64 key, struct connection *c)
{
	struct connection *old = connections.lookup(&key);
	if (old) /* its destroy was missed, or a failed socket connects again */
		finish(key, old);
	if (connections.update(&key, c))
		count_lost(LOST_CONNECTIONS);
}

static __always_inline void open_client(void *sk, u64 now)
{
	struct connection c = {};
	c.id = new_id((u64)sk, now);
	c.opened_ns = now;
	c.role = ROLE_CLIENT;
	c.netns = netns_of(sk);
	c.flags = FLAG_OWNED | FLAG_ATTEMPT;
	read_tuple(&c, sk);
	current_owner(&c.owner);
	store((u64)sk, &c);
}

/* A child of a listener, made in a softirq: whoever is current has nothing to do with it. */
static __always_inline void open_server(void *sk, u64 now)
{
	struct connection c = {};
	struct listener *from;

	c.id = new_id((u64)sk, now);
	c.opened_ns = now;
	c.established_ns = now;
	c.role = ROLE_SERVER;
	c.netns = netns_of(sk);
	c.flags = FLAG_ATTEMPT;
	read_tuple(&c, sk);
	from = listener_of(&c);
	if (from)
		c.owner = from->owner;
	store((u64)sk, &c);
}

/* An open connection nobody told us about. Who called whom is known by who listens. */
static __always_inline void open_seeded(void *sk, u64 now, void *task, u64 cgroup)
{
	struct connection c = {};
	u64 key = (u64)sk;
	u8 state = 0;

	READ(state, sk, OFF_skc_state);
	if (state == TCP_LISTEN || state == TCP_CLOSE || state == TCP_SYN_SENT ||
	    state == TCP_SYN_RECV)
		return;
	c.id = new_id(key, now);
	c.opened_ns = now;
	c.established_ns = now;
	c.netns = netns_of(sk);
	c.flags = FLAG_OWNED | FLAG_SEEDED;
	read_tuple(&c, sk);
	c.role = listener_of(&c) ? ROLE_SERVER : ROLE_CLIENT;
	read_owner(&c.owner, task);
	c.owner.cgroup = cgroup;
	READ(c.segments_base, sk, OFF_data_segs_out);
	READ(c.retransmits_base, sk, OFF_total_retrans);
	sample_tcp(&c, sk, now);
	if (connections.insert(&key, &c) == -7) /* -E2BIG: full; a race's loser may fail in peace */
		count_lost(LOST_CONNECTIONS);
}

static __always_inline void listening(void *sk, void *task, u64 cgroup)
{
	struct endpoint at = {};
	struct listener fresh = {};
	struct listener *known;
	u64 key = (u64)sk;

	if (listening_at.lookup(&key)) /* one socket, shared by a parent and its workers */
		return;
	read_address(at.address, sk, OFF_skc_rcv_saddr, OFF_skc_v6_rcv_saddr);
	at.netns = netns_of(sk);
	READ(at.port, sk, OFF_skc_num);
	/* the two wildcards, 0.0.0.0 and ::, are one */
	if (*(u64 *)at.address == 0 && *(u32 *)(at.address + 12) == 0)
		__builtin_memset(at.address, 0, 16);
	known = listeners.lookup(&at);
	read_owner(&fresh.owner, task);
	fresh.owner.cgroup = cgroup;
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

/* raw tracepoint inet_sock_set_state(sk, oldstate, newstate), net/ipv4/af_inet.c */
int on_set_state(struct bpf_raw_tracepoint_args *ctx)
{
	void *sk = (void *)ctx->args[0];
	int before = (int)ctx->args[1];
	int after = (int)ctx->args[2];
	u64 key = (u64)sk;
	u64 now;
	struct connection *c;
	u16 error = 0;

	if (!is_tcp(sk))
		return 0;
	now = bpf_ktime_get_ns();
	if (after == TCP_LISTEN) {
		listening(sk, (void *)bpf_get_current_task(), bpf_get_current_cgroup_id());
		return 0;
	}
	if (before == TCP_LISTEN && after == TCP_CLOSE) {
		not_listening(sk);
		return 0;
	}
	if (after == TCP_SYN_SENT) {
		open_client(sk, now);
		return 0;
	}
	if (before == TCP_SYN_RECV && after == TCP_ESTABLISHED) {
		open_server(sk, now);
		return 0;
	}
	c = connections.lookup(&key);
	if (!c)
		return 0;
	if (before == TCP_SYN_SENT && after == TCP_ESTABLISHED) {
		c->established_ns = now;
		read_tuple(c, sk); /* the source was not chosen yet at SYN_SENT */
	} else if (after == TCP_CLOSE) {
		READ(error, sk, OFF_sk_err);
		c->error = error;
		sample_tcp(c, sk, now);
		if (before == TCP_SYN_SENT)
			c->flags |= FLAG_FAILED;
		c->closed_ns = now;
	}
	return 0;
}

/* raw tracepoint tcp_destroy_sock(sk): nothing touches the socket after this */
int on_destroy(struct bpf_raw_tracepoint_args *ctx)
{
	u64 key = ctx->args[0];
	struct connection *c = connections.lookup(&key);
	if (c)
		finish(key, c);
	return 0;
}

static __always_inline void turned_around(struct connection *c, u64 since, u64 now)
{
	struct latency_key key = {};
	u64 one = 1;
	u64 *number;

	__sync_fetch_and_add(&c->turnarounds, 1);
	key.id = c->id;
	key.bucket = bucket_of(now > since ? now - since : 0);
	number = latencies.lookup(&key);
	if (number)
		__sync_fetch_and_add(number, 1);
	else if (latencies.update(&key, &one))
		count_lost(LOST_LATENCIES);
}

/* The known connection of a socket that just moved data, or NULL. UDP and UNIX sockets pass here
 * too; they are told apart only after the look-up has failed, which keeps TCP's path short. */
static __always_inline struct connection *moved(void *sk, u64 now)
{
	u64 key = (u64)sk;
	struct connection *c = connections.lookup(&key);
	if (!c) {
		if (!is_tcp(sk))
			return NULL;
		open_seeded(sk, now, (void *)bpf_get_current_task(), bpf_get_current_cgroup_id());
		c = connections.lookup(&key);
		if (!c)
			return NULL;
	}
	if (!(c->flags & FLAG_OWNED)) {
		current_owner(&c->owner);
		c->flags |= FLAG_OWNED;
	}
	if (now - c->sampled_ns > SAMPLE_NS)
		sample_tcp(c, sk, now);
	return c;
}

/* `way` is a constant where this is called, so nothing of the other way is compiled in. */
static __always_inline int count_data(void *sk, int length, u8 way)
{
	/* an answer goes out at the server and comes in at the client */
	u8 who_is_answering = way == TURN_OUT ? ROLE_SERVER : ROLE_CLIENT;
	u8 other_way = way == TURN_OUT ? TURN_IN : TURN_OUT;
	struct connection *c;
	u64 now;

	if (length <= 0)
		return 0;
	now = bpf_ktime_get_ns();
	c = moved(sk, now);
	if (!c)
		return 0;
	__sync_fetch_and_add(way == TURN_OUT ? &c->bytes_out : &c->bytes_in, length);
	if (c->role == who_is_answering && c->turn == other_way)
		turned_around(c, way == TURN_OUT ? c->last_in_ns : c->last_out_ns, now);
	c->turn = way;
	if (way == TURN_OUT)
		c->last_out_ns = now;
	else
		c->last_in_ns = now;
	return 0;
}

/* raw tracepoint sock_send_length(sk, ret, flags), net/socket.c; in the sender's context, after
 * the call: on loopback the peer may have read before this runs */
int on_send(struct bpf_raw_tracepoint_args *ctx)
{
	return count_data((void *)ctx->args[0], (int)ctx->args[1], TURN_OUT);
}

/* raw tracepoint sock_recv_length(sk, ret, flags); ret is 0 for MSG_PEEK */
int on_receive(struct bpf_raw_tracepoint_args *ctx)
{
	return count_data((void *)ctx->args[0], (int)ctx->args[1], TURN_IN);
}

/* raw tracepoint tcp_retransmit_skb(sk, skb): one per call, not per segment, so count by the socket's own counter */
int on_retransmit(struct bpf_raw_tracepoint_args *ctx)
{
	void *sk = (void *)ctx->args[0];
	u64 key = (u64)sk;
	struct connection *c = connections.lookup(&key);
	if (c)
		sample_tcp(c, sk, bpf_ktime_get_ns());
	return 0;
}

/* raw tracepoint tcp_receive_reset(sk) */
int on_reset_in(struct bpf_raw_tracepoint_args *ctx)
{
	u64 key = ctx->args[0];
	struct connection *c = connections.lookup(&key);
	if (c)
		c->flags |= FLAG_RESET_IN;
	return 0;
}

/* raw tracepoint tcp_send_reset(sk, skb, ...); sk is NULL for a port nobody listens on */
int on_reset_out(struct bpf_raw_tracepoint_args *ctx)
{
	u64 key = ctx->args[0];
	struct connection *c = connections.lookup(&key);
	if (c)
		c->flags |= FLAG_RESET_OUT;
	return 0;
}

/* Which of its two passes the iterator below is in: 0 listeners, 1 connections. */
BPF_ARRAY(seed_pass, u32, 1);

/* The iterator's context, fixed by the kernel's user-space interface (kernel/bpf/task_iter.c). */
struct bpf_iter__task_file {
	void *meta;
	void *task;
	u64 fd;
	void *file;
};

/* Every file of every process: the only walk that crosses network namespaces and names the
 * owner. Two passes, because who listens decides who is the server of a connection. */
BPF_ITER(task_file)
{
	void *task = ctx->task;
	void *file = ctx->file;
	void *socket, *sk = NULL;
	int zero = 0;
	u32 *pass;
	u8 state = 0;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	READ(sk, socket, OFF_socket_sk);
	if (!sk || !is_tcp(sk))
		return 0;
	pass = seed_pass.lookup(&zero);
	if (!pass)
		return 0;
	READ(state, sk, OFF_skc_state);
	/* no helper tells a foreign task's cgroup: user space finds it by the process */
	if (*pass == 0 && state == TCP_LISTEN)
		listening(sk, task, 0);
	else if (*pass == 1)
		open_seeded(sk, bpf_ktime_get_ns(), task, 0);
	return 0;
}
