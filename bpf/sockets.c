// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sockets of the whole host, counted in the kernel, per group of connections.
 *
 * What happens is in the headers, once; here are the ways to be told of it. A program's arguments
 * come as an array of u64 from raw tracepoints and fentry, as registers from kprobes; which hook
 * is used for which event is decided at start, by what loads (probes/hooks.py); only the programs
 * of those are compiled (WANT_*), since each holds all that it does.
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
#include "calls.h"
#include "dns.h"
#include "connects.h"
#include "tcp.h"
#include "datagrams.h"
#include "unix.h"
#include "data.h"
#include "listeners.h"

/* Arguments and result of a function, by kprobe: struct pt_regs as an array. */
#if defined(ON_X86_64)
#define REGISTER_1 ctx[14]
#define REGISTER_2 ctx[13]
#define REGISTER_3 ctx[12]
#define RESULT ctx[10]
#elif defined(ON_ARM64)
#define REGISTER_1 ctx[0]
#define REGISTER_2 ctx[1]
#define REGISTER_3 ctx[2]
#define RESULT ctx[0]
#endif

/* tcp_destroy_sock(sk): nothing touches the socket after this; or tcp_v4_destroy_sock(sk) */
#ifdef WANT_on_destroy
int on_destroy(u64 *ctx)
{
	return destroyed((void *)ctx[0]);
}
#endif

#ifdef WANT_on_destroy_k
int on_destroy_k(u64 *ctx)
{
	return destroyed((void *)REGISTER_1);
}
#endif

/* tcp_retransmit_skb(sk, skb), or __tcp_retransmit_skb(sk, skb, segs) */
#ifdef WANT_on_retransmit
int on_retransmit(u64 *ctx)
{
	return retransmitted((void *)ctx[0]);
}
#endif

#ifdef WANT_on_retransmit_k
int on_retransmit_k(u64 *ctx)
{
	return retransmitted((void *)REGISTER_1);
}
#endif

/* tcp_receive_reset(sk), or tcp_reset(sk, skb) */
#ifdef WANT_on_reset_in
int on_reset_in(u64 *ctx)
{
	return reset_in((void *)ctx[0]);
}
#endif

#ifdef WANT_on_reset_in_k
int on_reset_in_k(u64 *ctx)
{
	return reset_in((void *)REGISTER_1);
}
#endif

/* tcp_send_reset(sk, skb, ...), where sk is NULL for a port nobody listens on; or
 * tcp_send_active_reset(sk, ...) */
#ifdef WANT_on_reset_out
int on_reset_out(u64 *ctx)
{
	return reset_out((void *)ctx[0]);
}
#endif

#ifdef WANT_on_reset_out_k
int on_reset_out_k(u64 *ctx)
{
	return reset_out((void *)REGISTER_1);
}
#endif

/* inet_sk_error_report(sk), or sock_def_error_report(sk) */
#ifdef WANT_on_error
int on_error(u64 *ctx)
{
	return error_reported((void *)ctx[0]);
}
#endif

#ifdef WANT_on_error_k
int on_error_k(u64 *ctx)
{
	return error_reported((void *)REGISTER_1);
}
#endif

/* inet_csk_listen_start(sk, ...) */
#ifdef WANT_on_listen
int on_listen(u64 *ctx)
{
	return listen_started((void *)ctx[0]);
}
#endif

#ifdef WANT_on_listen_k
int on_listen_k(u64 *ctx)
{
	return listen_started((void *)REGISTER_1);
}
#endif


/* inet_sock_set_state(sk, oldstate, newstate), net/ipv4/af_inet.c */
#ifdef WANT_tp_set_state
int tp_set_state(u64 *ctx)
{
	return state_changed((void *)ctx[0], (int)ctx[1], (int)ctx[2]);
}
#endif

/* tcp_set_state(sk, state), which has not changed it yet */
#ifdef WANT_on_set_state
int on_set_state(u64 *ctx)
{
	return state_changed((void *)ctx[0], state_of((void *)ctx[0]), (int)ctx[1]);
}
#endif

#ifdef WANT_on_set_state_k
int on_set_state_k(u64 *ctx)
{
	return state_changed((void *)REGISTER_1, state_of((void *)REGISTER_1), (int)REGISTER_2);
}
#endif

/* sock_send_length(sk, ret, flags), net/socket.c; in the sender's context, after the call */
#ifdef WANT_tp_send
int tp_send(u64 *ctx)
{
	return data((void *)ctx[0], (int)ctx[1], 1);
}
#endif

/* sock_recv_length(sk, ret, flags); ret is 0 for MSG_PEEK */
#ifdef WANT_tp_receive
int tp_receive(u64 *ctx)
{
	return data((void *)ctx[0], (int)ctx[1], 0);
}
#endif

/* tcp_sendmsg(sk, msg, size), udp_sendmsg(), udpv6_sendmsg(): before the call, as nothing can
 * answer before it */
#ifdef WANT_on_send
int on_send(u64 *ctx)
{
	return data((void *)ctx[0], (int)ctx[2], 1);
}
#endif

#ifdef WANT_on_send_k
int on_send_k(u64 *ctx)
{
	return data((void *)REGISTER_1, (int)REGISTER_3, 1);
}
#endif

/* tcp_cleanup_rbuf(sk, copied) */
#ifdef WANT_on_receive
int on_receive(u64 *ctx)
{
	return data((void *)ctx[0], (int)ctx[1], 0);
}
#endif

#ifdef WANT_on_receive_k
int on_receive_k(u64 *ctx)
{
	return data((void *)REGISTER_1, (int)REGISTER_2, 0);
}
#endif

/* skb_consume_udp(sk, skb, len); len is negative for MSG_PEEK */
#ifdef WANT_on_datagram
int on_datagram(u64 *ctx)
{
	return data((void *)ctx[0], (int)ctx[2], 0);
}
#endif

#ifdef WANT_on_datagram_k
int on_datagram_k(u64 *ctx)
{
	return data((void *)REGISTER_1, (int)REGISTER_3, 0);
}
#endif

/* unix_stream_sendmsg(sock, msg, len), unix_dgram_sendmsg() */
#ifdef WANT_on_unix_send
int on_unix_send(u64 *ctx)
{
	return data(sk_of((void *)ctx[0]), (int)ctx[2], 1);
}
#endif

#ifdef WANT_on_unix_send_k
int on_unix_send_k(u64 *ctx)
{
	return data(sk_of((void *)REGISTER_1), (int)REGISTER_3, 1);
}
#endif

/* unix_stream_recvmsg(sock, msg, size, flags), unix_dgram_recvmsg(), with their result */
#ifdef WANT_on_unix_receive
int on_unix_receive(u64 *ctx)
{
	return data(sk_of((void *)ctx[0]), (int)ctx[4], 0);
}
#endif

/* What a thread is in the middle of, for kprobes: the result is told without the arguments. */
BPF_F_TABLE("lru_hash", u64, u64, calls, 16384, 0);

#ifdef WANT_on_unix_receive_k
int on_unix_receive_k(u64 *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), socket = REGISTER_1;
	calls.update(&thread, &socket);
	return 0;
}
#endif

#ifdef WANT_on_unix_received_k
int on_unix_received_k(u64 *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	u64 *socket = calls.lookup(&thread);
	void *sk;
	if (!socket)
		return 0;
	sk = sk_of((void *)*socket);
	calls.delete(&thread);
	return data(sk, (int)RESULT, 0);
}
#endif

/* inet_csk_accept(), with its result */
#ifdef WANT_on_accepted_k
int on_accepted_k(u64 *ctx)
{
	u64 sk = RESULT;
	if (sk)
		accepted(sk);
	return 0;
}
#endif

/* udp_fail_queue_rcv_skb(rc, sk, ...): no room in the socket's buffer */
#ifdef WANT_tp_udp_drop
int tp_udp_drop(u64 *ctx)
{
	return udp_dropped((void *)ctx[1]);
}
#endif

/* __udp_enqueue_schedule_skb(sk, skb), with its result */
#ifdef WANT_on_udp_queued
int on_udp_queued(u64 *ctx)
{
	return (int)ctx[2] ? udp_dropped((void *)ctx[0]) : 0;
}
#endif

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
#ifdef WANT_on_accept
int on_accept(struct sock_addr *ctx)
{
	accepted(socket_of(ctx));
	return 1;
}
#endif

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
#ifdef WANT_on_named4
int on_named4(struct sock_addr *ctx)
{
	return named4(ctx);
}
#endif

#ifdef WANT_on_named6
int on_named6(struct sock_addr *ctx)
{
	return named6(ctx);
}
#endif

/* cgroup/connect4 and 6: before a socket connects, or finds that it cannot */
#ifdef WANT_on_connect4
int on_connect4(struct sock_addr *ctx)
{
	u64 address[2] = {};

	if (ctx->protocol != IPPROTO_TCP || !ctx->user_ip4) /* to 0.0.0.0 there is always a way */
		return 1;
	*(u32 *)((u8 *)address + 8) = 0xffff0000;
	*(u32 *)((u8 *)address + 12) = ctx->user_ip4;
	connect_begins(socket_of(ctx), (u8 *)address, swap16(ctx->user_port));
	return 1;
}
#endif

#ifdef WANT_on_connect6
int on_connect6(struct sock_addr *ctx)
{
	u64 address[2] = {};

	*(u32 *)address = ctx->user_ip6[0];
	*(u32 *)((u8 *)address + 4) = ctx->user_ip6[1];
	*(u32 *)((u8 *)address + 8) = ctx->user_ip6[2];
	*(u32 *)((u8 *)address + 12) = ctx->user_ip6[3];
	if (ctx->protocol == IPPROTO_TCP && !is_wildcard((u8 *)address))
		connect_begins(socket_of(ctx), (u8 *)address, swap16(ctx->user_port));
	return 1;
}
#endif

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
	u8 state = 0;
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

/* The same before bpf_sock_from_file() (5.11): a socket's file is known by its operations. */
#if defined(WANT_on_file_by_operations) && defined(SOCKET_FILE_OPS)
int on_file_by_operations(u64 *ctx)
{
	void *task, *file, *socket = NULL;
	u64 operations = 0;

	asm volatile("%0 = *(u64 *)(%1 + 8)" : "=r"(task) : "r"(ctx));
	asm volatile("%0 = *(u64 *)(%1 + 24)" : "=r"(file) : "r"(ctx));
	if (!task || !file)
		return 0;
	bpf_probe_read_kernel(&operations, 8, (char *)file + OFF_f_op);
	if (operations != SOCKET_FILE_OPS)
		return 0;
	bpf_probe_read_kernel(&socket, 8, (char *)file + OFF_private_data);
	return socket ? found_open(task, socket) : 0;
}
#endif
