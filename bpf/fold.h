/* SPDX-License-Identifier: GPL-2.0-only */
/* From a connection to its group: what has come since the last time.
 *
 * Bytes are not counted as they move but read off the socket: its positions in the two streams
 * are exact for every way of moving data (sendfile, splice, io_uring, MPTCP), and cost nothing
 * per call. A sweep folds all living connections; the end of one folds it a last time. */
#ifndef TAILRACE_FOLD_H
#define TAILRACE_FOLD_H

#include "turns.h"

#define SOCK_DONE 2 /* bit of sk_flags: a FIN has come (tcp_fin(), net/ipv4/tcp_input.c) */
#define AGAIN ((u64)-1)

/* How much was ever given to this socket to send, plus a constant; AGAIN if it moved meanwhile.
 * bytes_acked counts all that snd_una has passed, so the sum does not wrap (RFC 4898). */
static __always_inline u64 sent_position(void *sk)
{
	u64 acked = 0;
	u32 before = 0, after = 0, end = 0;

	READ(before, sk, OFF_snd_una);
	READ(acked, sk, OFF_bytes_acked);
	READ(end, sk, OFF_write_seq);
	READ(after, sk, OFF_snd_una);
	return before == after ? acked + (u32)(end - before) : AGAIN;
}

/* How much its owner has ever read from it, plus a constant; AGAIN if it moved meanwhile. */
static __always_inline u64 received_position(void *sk)
{
	u64 received = 0, flags = 0;
	u32 before = 0, after = 0, read = 0;

	READ(before, sk, OFF_rcv_nxt);
	READ(received, sk, OFF_bytes_received);
	READ(read, sk, OFF_copied_seq);
	READ(flags, sk, OFF_skc_flags);
	READ(after, sk, OFF_rcv_nxt);
	if (before != after)
		return AGAIN;
	/* the end of the stream takes a number too, and who has read that has read no byte */
	if (flags & SOCK_DONE && read == before)
		received -= 1;
	return received - (u32)(before - read);
}

static __always_inline void start_positions(struct connection *c, void *sk)
{
	c->sent = sent_position(sk);
	c->received = received_position(sk);
}

static __always_inline void sample_rtt(struct connection *c, void *sk)
{
	u32 value = 0;

	if (!tuned(TUNING_RTT))
		return;
	READ(value, sk, OFF_srtt_us);
	if (value) /* in eighths of a microsecond */
		add_latency(c->group, LATENCY_RTT, (u64)value * 125, 1);
	READ(value, sk, OFF_rtt_min);
	if (value && value != ~0U)
		add_latency(c->group, LATENCY_RTT_MIN, (u64)value * 1000, 1);
}

/* what fold() returns */
#define MOVED 1
#define BEATEN 2 /* somebody else was folding the same connection */

/* Count up to `to` what stands at `from`; nothing if somebody else just did. */
static __always_inline int fold_to(struct group *g, int counter, u64 *at, u64 from, u64 to)
{
	if (to == from)
		return 0;
	if (!advance(at, from, to))
		return MOVED | BEATEN;
	add(g, counter, to - from);
	return MOVED;
}

static __always_inline int fold_requests(struct connection *c, struct group *g)
{
	u64 from = c->requests_folded;
	int found = fold_to(g, REQUESTS, &c->requests_folded, from, c->requests);
	from = c->waits_folded;
	return found | fold_to(g, WAITS, &c->waits_folded, from, c->waits);
}

/* The kernel's counters have 32 bits; the difference is right over their end too. With FLAG_CLOSED
 * tcp_disconnect() may have set them to zero, as it does for connect(AF_UNSPEC) and MPTCP. */
static __always_inline int fold_segments(struct connection *c, struct group *g, void *sk)
{
	u64 from = c->segments;
	u32 now = 0;
	int found;

	if (c->flags & FLAG_CLOSED)
		return 0;
	READ(now, sk, OFF_data_segs_out);
	found = fold_to(g, SEGMENTS, &c->segments, from, from + (u32)(now - (u32)from));
	from = c->retransmits;
	READ(now, sk, OFF_total_retrans);
	return found |
	       fold_to(g, RETRANSMITS, &c->retransmits, from, from + (u32)(now - (u32)from));
}

/* What is read after the end moves forward; backward goes only tcp_disconnect(). */
static __always_inline int fold_received(struct connection *c, struct group *g, void *sk)
{
	u64 from = c->received, at = received_position(sk);

	if (at == AGAIN || (s64)(at - from) <= 0)
		return 0;
	return fold_to(g, BYTES_IN, &c->received, from, at);
}

static __always_inline int fold(struct connection *c, struct group *g, void *sk)
{
	u64 from, at;
	int found = 0;

	if (!(c->flags & FLAG_ESTABLISHED))
		return fold_segments(c, g, sk); /* the SYN's repetitions */
	from = c->sent;
	at = sent_position(sk);
	/* asked for after the position was read: then a FIN cannot be in it */
	if (c->flags & FLAG_FIN)
		at = c->sent_end;
	if (at != AGAIN)
		found |= fold_to(g, BYTES_OUT, &c->sent, from, at);
	found |= fold_received(c, g, sk);
	/* a request is counted a moment after its bytes have moved */
	found |= fold_requests(c, g);
	return found ? found | fold_segments(c, g, sk) : 0;
}

#endif
