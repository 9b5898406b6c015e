/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs that walk over a map, or over every open file, when user space asks. */
#ifndef TAILRACE_BY_WALK_H
#define TAILRACE_BY_WALK_H

/* Iterator over the map `connecting`. */
#ifdef WANT_on_connecting
int on_connecting(u64 *ctx)
{
	u64 *key;
	struct connecting *noted;

	asm volatile("%0 = *(u64 *)(%1 + 16)" : "=r"(key) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(noted) : "r"(ctx));
	if (key && noted)
		connect_failed(*key, noted);
	return 0;
}
#endif

/* Iterator over the map `connections` (kernel/bpf/map_iter.c): its key, then its value. */
#ifdef WANT_on_sweep
int on_sweep(u64 *ctx)
{
	u64 *key;
	struct connection *c;
	struct group *g;
	u32 slot, window = 0, end = 0, acked = 0;
	u8 state;
	int moved;
	void *sk;

	asm volatile("%0 = *(u64 *)(%1 + 16)" : "=r"(key) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(c) : "r"(ctx));
	if (!key || !c)
		return 0;
	sk = (void *)*key;
	slot = c->group; /* older kernels (6.1) take no key out of an iterator's buffer */
	g = groups.lookup(&slot);
	if (!g)
		return 0;
	moved = fold(c, g, sk, key) & MOVED;
	raise_mark(g, c->mark);
	if (c->rest < 255 && c->turn == TURN_ANSWERED)
		c->rest++;
	if (moved) {
		add(g, ACTIVE, 1);
		if (!c->peer) /* else the client's end tells */
			sample_rtt(c, sk);
	}
	state = state_of(sk);
	if (state == TCP_CLOSE || !is_of(sk, c)) {
		check_end(sk);
		return 0;
	}
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
		return 0;
	READ(end, sk, OFF_write_seq);
	READ(acked, sk, OFF_snd_una);
	if (end == acked)
		return 0;
	READ(window, sk, OFF_snd_wnd);
	if (window)
		return 0;
	add(g, STALLS, 1);
	if (!moved)
		add(g, ACTIVE, 1);
	return 0;
}
#endif

/* Iterator over the map `listening_at`, which tells what it sees. */
#ifdef WANT_on_listener
int on_listener(u64 *ctx)
{
	struct backlog told = {};
	struct endpoint *at;
	u64 *key;
	void *meta, *seq;

	asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(meta) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 16)" : "=r"(key) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(at) : "r"(ctx));
	if (!key || !at || !read_backlog(&told, *key, at))
		return 0;
	asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(seq) : "r"(meta));
	bpf_seq_write(seq, &told, sizeof(told));
	return 0;
}
#endif

/* Iterator over the map `dns_pending`. */
#ifdef WANT_on_query
int on_query(u64 *ctx)
{
	struct dns_question *key;
	struct dns_asked *asked;

	asm volatile("%0 = *(u64 *)(%1 + 16)" : "=r"(key) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(asked) : "r"(ctx));
	if (key && asked)
		dns_give_up(key, asked);
	return 0;
}
#endif

/* Iterator over the map `held`. */
#ifdef WANT_on_held
int on_held(u64 *ctx)
{
	u64 *key;
	struct held *noted;
	u64 flow;

	asm volatile("%0 = *(u64 *)(%1 + 16)" : "=r"(key) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(noted) : "r"(ctx));
	if (!key || !noted)
		return 0;
	flow = *key;
	noted = held.lookup(&flow);
	if (noted)
		settle(flow, noted);
	return 0;
}
#endif

/* Iterator over every file of every process (kernel/bpf/task_iter.c): meta, task, fd, file. The
 * only walk that crosses network namespaces and names the owner. In passes: who listens decides
 * who is the server of a connection, and a server's end looks for its client's. */
#ifdef WANT_on_file
int on_file(u64 *ctx)
{
	void *task, *file, *socket;

	asm volatile("%0 = *(u64 *)(%1 + 8)" : "=r"(task) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(file) : "r"(ctx));
	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	return socket ? found_open(task, socket) : 0;
}
#endif

/* The same before bpf_sock_from_file() (5.11): a file is a socket's if what it calls its own points
 * back at it. */
#ifdef WANT_on_file_by_link
int on_file_by_link(u64 *ctx)
{
	void *task, *file, *socket = NULL, *back = NULL;

	asm volatile("%0 = *(u64 *)(%1 + 8)" : "=r"(task) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(file) : "r"(ctx));
	if (!task || !file)
		return 0;
	bpf_probe_read_kernel(&socket, sizeof(socket), (char *)file + OFF_private_data);
	if (!socket)
		return 0;
	READ(back, socket, OFF_socket_file);
	return back == file ? found_open(task, socket) : 0;
}
#endif

#endif
