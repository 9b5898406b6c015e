// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sockets of the whole host, counted in the kernel, per group of connections.
 *
 * What happens is in the headers, once; here are the ways to be told of it. A program's arguments
 * come as an array of u64 from raw tracepoints and fentry, as registers from kprobes; which hook
 * is used for which event is decided at start, by what loads (probes/hooks.py).
 *
 * No kernel struct is declared here. BCC's front end lays structs out for the host and its back
 * end for BPF, and on some kernels the two disagree without a word; so every field is read at
 * an offset taken from the running kernel's BTF (OFF_*, see probes/offsets.py) and checked
 * against TCP_INFO at start (probes/selfcheck.py).
 *
 * Keys and lifetimes: a connection is keyed by its socket's address from the moment it is known
 * until tcp_destroy_sock; then it is folded into its group and forgotten.
 */
#include <linux/types.h>
#include "bucket.h"
#include "records.h"
#include "maps.h"
#include "reading.h"
#include "groups.h"
#include "turns.h"
#include "fold.h"
#include "tcp.h"
#include "datagrams.h"
#include "unix.h"
#include "data.h"

#define ARG(n) ((void *)ctx[n])

/* inet_sock_set_state(sk, oldstate, newstate), net/ipv4/af_inet.c */
int tp_set_state(u64 *ctx)
{
	return state_changed(ARG(0), (int)ctx[1], (int)ctx[2]);
}

/* tcp_destroy_sock(sk): nothing touches the socket after this; also tcp_v4_destroy_sock(sk) */
int on_destroy(u64 *ctx)
{
	return destroyed(ARG(0));
}

/* sock_send_length(sk, ret, flags), net/socket.c; in the sender's context, after the call */
int tp_send(u64 *ctx)
{
	int length = (int)ctx[1];
	if (length == -ECONNREFUSED)
		return refused(ARG(0));
	return length > 0 ? data(ARG(0), length, 1) : 0;
}

/* sock_recv_length(sk, ret, flags); ret is 0 for MSG_PEEK */
int tp_receive(u64 *ctx)
{
	int length = (int)ctx[1];
	if (length == -ECONNREFUSED)
		return refused(ARG(0));
	return length > 0 ? data(ARG(0), length, 0) : 0;
}

/* tcp_retransmit_skb(sk, skb) */
int on_retransmit(u64 *ctx)
{
	return retransmitted(ARG(0));
}

/* tcp_receive_reset(sk); also tcp_reset(sk, skb) */
int on_reset_in(u64 *ctx)
{
	return reset(ARG(0), 0);
}

/* tcp_send_reset(sk, skb, ...); sk is NULL for a port nobody listens on */
int on_reset_out(u64 *ctx)
{
	return reset(ARG(0), 1);
}

/* udp_fail_queue_rcv_skb(rc, sk, ...): no room in the socket's buffer */
int tp_udp_drop(u64 *ctx)
{
	return udp_dropped(ARG(1));
}

/* struct bpf_sock_addr, include/uapi/linux/bpf.h */
struct sock_addr {
	u32 user_family;
	u32 user_ip4;
	u32 user_ip6[4];
	u32 user_port;
	u32 family, type, protocol;
	u32 msg_src_ip4;
	u32 msg_src_ip6[4];
};
#define SOCK_ADDR_SK 64

/* The socket's address as a plain number: the verifier knows it as a pointer of a type of its own,
 * with which nothing can be reckoned. A copy by a helper is a number to it. */
static __always_inline u64 socket_of(struct sock_addr *ctx)
{
	u64 typed, sk = 0;
	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(typed) : "r"(ctx), "i"(SOCK_ADDR_SK));
	bpf_probe_read_kernel(&sk, sizeof(sk), &typed);
	return sk;
}

/* cgroup/getpeername4 and 6: accept(2) with an address to fill in comes by here */
int on_accept(struct sock_addr *ctx)
{
	accepted(socket_of(ctx));
	return 1;
}

static __always_inline int named4(struct sock_addr *ctx)
{
	u64 sk = socket_of(ctx);
	struct named_peer peer = {};

	*(u32 *)(peer.address + 8) = 0xffff0000;
	*(u32 *)(peer.address + 12) = ctx->user_ip4;
	peer.port = swap16(ctx->user_port);
	named_peers.update(&sk, &peer);
	return 1;
}

static __always_inline int named6(struct sock_addr *ctx)
{
	u64 sk = socket_of(ctx);
	struct named_peer peer = {};

	*(u32 *)peer.address = ctx->user_ip6[0];
	*(u32 *)(peer.address + 4) = ctx->user_ip6[1];
	*(u32 *)(peer.address + 8) = ctx->user_ip6[2];
	*(u32 *)(peer.address + 12) = ctx->user_ip6[3];
	peer.port = swap16(ctx->user_port);
	named_peers.update(&sk, &peer);
	return 1;
}

/* cgroup/sendmsg4, recvmsg4 and 6: datagrams whose peer is named with them */
int on_named4(struct sock_addr *ctx)
{
	return named4(ctx);
}

int on_named6(struct sock_addr *ctx)
{
	return named6(ctx);
}

/* Iterator over the map `connections` (kernel/bpf/map_iter.c): its key, then its value. */
int on_sweep(u64 *ctx)
{
	u64 *key;
	struct connection *c;
	struct group *g;
	u32 window = 0, end = 0, acked = 0;
	u8 state = 0;
	int moved;
	void *sk;

	asm volatile("%0 = *(u64 *)(%1 + 16)" : "=r"(key) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(c) : "r"(ctx));
	if (!key || !c)
		return 0;
	sk = (void *)*key;
	g = groups.lookup(&c->group);
	if (!g)
		return 0;
	moved = fold(c, g, sk);
	if (c->rest < 255 && c->turn == TURN_ANSWERED)
		c->rest++;
	if (moved) {
		add(g, ACTIVE, 1);
		sample_rtt(c, sk);
	}
	READ(state, sk, OFF_skc_state);
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

/* Iterator over every file of every process (kernel/bpf/task_iter.c): meta, task, fd, file. The
 * only walk that crosses network namespaces and names the owner. In passes: who listens decides
 * who is the server of a connection, and a server's end looks for its client's. */
int on_file(u64 *ctx)
{
	void *task, *file, *socket, *sk = NULL;
	u32 pass = tuned(TUNING_PASS);
	u8 role;

	asm volatile("%0 = *(u64 *)(%1 + 8)" : "=r"(task) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(file) : "r"(ctx));
	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	READ(sk, socket, OFF_socket_sk);
	if (!sk || !is_tcp(sk))
		return 0;
	if (pass == PASS_LISTENERS) {
		if (state_of(sk) == TCP_LISTEN)
			listening(sk, task);
		return 0;
	}
	if (!is_open(sk))
		return 0;
	role = listener_of(sk) ? ROLE_SERVER : ROLE_CLIENT;
	if (role == (pass == PASS_CLIENTS ? ROLE_CLIENT : ROLE_SERVER))
		open_met(sk, task, role);
	return 0;
}
