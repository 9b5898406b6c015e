/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs at tracepoints and kernel functions. */
#ifndef TAILRACE_BY_FUNCTION_H
#define TAILRACE_BY_FUNCTION_H

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

/* A pointer among the arguments, as a plain number: from fentry the verifier knows it as a pointer
 * of some type, with which nothing can be reckoned. */
static __always_inline void *argument(u64 *ctx, int n)
{
	void *value = NULL;
	bpf_probe_read_kernel(&value, sizeof(value), ctx + n);
	return value;
}

/* tcp_destroy_sock(sk): nothing touches the socket after this; or tcp_v4_destroy_sock(sk) */
#ifdef WANT_on_destroy
int on_destroy(u64 *ctx)
{
	void *sk = argument(ctx, 0);
	destroyed(sk);
	mark_seen(SEEN_DESTROY, (u64)sk);
	return 0;
}
#endif

#ifdef WANT_on_destroy_again
int on_destroy_again(u64 *ctx)
{
	if (!was_seen(SEEN_DESTROY, ctx[0]))
		rest.call(ctx, REST_DESTROY);
	return 0;
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
	return retransmitted(argument(ctx, 0));
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
	return reset_in(argument(ctx, 0));
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
	return reset_out(argument(ctx, 0));
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
	return error_reported(argument(ctx, 0));
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
	return listen_started(argument(ctx, 0));
}
#endif

#ifdef WANT_on_listen_k
int on_listen_k(u64 *ctx)
{
	return listen_started((void *)REGISTER_1);
}
#endif


/* inet_sock_set_state(sk, oldstate, newstate), net/ipv4/af_inet.c */
#define STATE_EVENT (ctx[0] << 8 | (ctx[2] & 0xff))

#ifdef WANT_tp_set_state
int tp_set_state(u64 *ctx)
{
	state_changed((void *)ctx[0], (int)ctx[1], (int)ctx[2]);
	mark_seen(SEEN_STATE, STATE_EVENT);
	return 0;
}
#endif

#ifdef WANT_tp_set_state_again
int tp_set_state_again(u64 *ctx)
{
	if (!was_seen(SEEN_STATE, STATE_EVENT))
		rest.call(ctx, REST_STATE);
	return 0;
}
#endif

/* tcp_set_state(sk, state), which has not changed it yet */
#ifdef WANT_on_set_state
int on_set_state(u64 *ctx)
{
	return state_changed(argument(ctx, 0), state_of(argument(ctx, 0)), (int)ctx[1]);
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
	if (was_plain((void *)ctx[0], (int)ctx[1], 1))
		return 0;
	set_direction(ctx[0], 1);
	rest.call(ctx, REST_SENT);
	return 0;
}
#endif

/* sock_recv_length(sk, ret, flags); ret is 0 for MSG_PEEK */
#ifdef WANT_tp_receive
int tp_receive(u64 *ctx)
{
	if (was_plain((void *)ctx[0], (int)ctx[1], 0))
		return 0;
	set_direction(ctx[0], 0);
	rest.call(ctx, REST_RECEIVED);
	return 0;
}
#endif

/* either of the two */
#ifdef WANT_tp_data
int tp_data(u64 *ctx)
{
	int out = direction_of(ctx[0]);
	if (out < 0) {
		count_lost(LOST_CONNECTIONS);
		return 0;
	}
	return data((void *)ctx[0], (int)ctx[1], out);
}
#endif

/* tcp_sendmsg(sk, msg, size), udp_sendmsg(), udpv6_sendmsg(): before the call, as nothing can
 * answer before it */
#ifdef WANT_on_send
int on_send(u64 *ctx)
{
	return data(argument(ctx, 0), (int)ctx[2], 1);
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
	return data(argument(ctx, 0), (int)ctx[1], 0);
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
	return data(argument(ctx, 0), (int)ctx[2], 0);
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
	return data(sk_of(argument(ctx, 0)), (int)ctx[2], 1);
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
	return data(sk_of(argument(ctx, 0)), (int)ctx[4], 0);
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
	return (int)ctx[2] ? udp_dropped(argument(ctx, 0)) : 0;
}
#endif

#endif
