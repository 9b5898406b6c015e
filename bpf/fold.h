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

/* Whether the socket is the one that the record is of: its memory is used again once it is freed. */
static __always_inline int is_of(void *sk, struct connection *c)
{
	u16 port = 0;
	READ(port, sk, OFF_skc_dport);
	return port == c->port;
}

/* The kernel's counters have 32 bits; the difference is right over their end too. */
static __always_inline u64 moved_on(u64 from, u32 now)
{
	return from + (u32)(now - (u32)from);
}

/* Count what is new of a connection. `key`: a sweep's, where the record stands; it does not hold
 * the socket, so both may have been freed and used again while it looked. NULL for who is told of
 * an event of the socket. */
static __always_inline int fold(struct connection *c, struct group *g, void *sk, u64 *key)
{
	/* where it stands is read before where it has got to, which only grows */
	u64 sent_from = c->sent, received_from = c->received, segments_from = c->segments;
	u64 retransmits_from = c->retransmits, requests_from = c->requests_folded;
	u64 waits_from = c->waits_folded, sent = sent_from, received = received_from;
	u64 segments = segments_from, retransmits = retransmits_from;
	u32 now = 0;
	int found = 0;

	if (c->flags & FLAG_ESTABLISHED) {
		sent = sent_position(sk);
		/* asked for after the position was read: then a FIN cannot be in it */
		if (c->flags & FLAG_FIN)
			sent = c->sent_end;
		if (sent == AGAIN)
			sent = sent_from;
		/* what is read after the end moves forward; backward goes only tcp_disconnect() */
		received = received_position(sk);
		if (received == AGAIN || (s64)(received - received_from) < 0)
			received = received_from;
		if (key && sent == sent_from && received == received_from &&
		    c->requests == requests_from)
			return 0;
	}
	/* with FLAG_CLOSED tcp_disconnect() may have set them to zero, as for connect(AF_UNSPEC) */
	if (!(c->flags & FLAG_CLOSED)) {
		READ(now, sk, OFF_data_segs_out);
		segments = moved_on(segments_from, now);
		READ(now, sk, OFF_total_retrans);
		retransmits = moved_on(retransmits_from, now);
	}
	if (key && (*(volatile u64 *)key != (u64)sk || !is_of(sk, c)))
		return 0;
	found = fold_to(g, SEGMENTS, &c->segments, segments_from, segments);
	found |= fold_to(g, RETRANSMITS, &c->retransmits, retransmits_from, retransmits);
	if (!(c->flags & FLAG_ESTABLISHED))
		return found; /* the SYN's repetitions */
	found |= fold_to(g, BYTES_OUT, &c->sent, sent_from, sent);
	found |= fold_to(g, BYTES_IN, &c->received, received_from, received);
	/* a request is counted a moment after its bytes have moved */
	found |= fold_to(g, REQUESTS, &c->requests_folded, requests_from, c->requests);
	return found | fold_to(g, WAITS, &c->waits_folded, waits_from, c->waits);
}

/* The same, for who will not come again: a sweep may at this moment be counting less. */
static __always_inline void fold_all(struct connection *c, struct group *g, void *sk)
{
	if (fold(c, g, sk, NULL) & BEATEN)
		fold(c, g, sk, NULL);
}

#endif
