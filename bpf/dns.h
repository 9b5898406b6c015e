/* SPDX-License-Identifier: GPL-2.0-only */
/* DNS, seen from who asks: each query and its answer, told apart by their id.
 *
 * The only payload that is looked at: of each message the first four bytes, which hold id, kind and
 * outcome; and if user space wants names, answers go there (answers.h). They are read from the
 * buffer that the program gave to the system call it is in: the saved registers tell which call and
 * where. What comes by io_uring, and what is encrypted, has no such buffer and is counted as any
 * other message. */
#ifndef TAILRACE_DNS_H
#define TAILRACE_DNS_H

#include "answers.h"
#include "calls.h"
#include "groups.h"

#define DNS_PORT 53
#define DNS_PATIENCE_NS 5000000000ULL /* resolvers' own: 5 s in resolv.conf(5), dig(1) */
#define DNS_AT_ONCE 16	/* messages of one sendmmsg(2) or recvmmsg(2) that are looked through */
#define DNS_BATCH_NS 500000000ULL /* in one call: what is asked again comes later than this */
#define DNS_TOGETHER_NS 1000000000ULL /* asked at once, if answered by another within this */
#define DNS_STEPS 16	/* over what one call moved of a TCP stream: two to five a message */
#define DNS_HEAD 6	/* a stream has the length, two bytes, before each message */

struct dns_question {
	u64 flow; /* UDP: as in `flows`; TCP: the socket */
	u64 id;
};

struct dns_asked {
	u64 at_ns;
	u64 group_id;
	u64 socket; /* 0: it has one peer only */
	u32 group;
	u32 pad;
};

/* Queries without an answer yet. */
BPF_F_TABLE("hash", struct dns_question, struct dns_asked, dns_pending, MAX_QUERIES, 0);

/* Some ask all their servers at once, and go on with the first answer (musl, dnsmasq): by socket and
 * id, when one came. */
BPF_F_TABLE("lru_hash", struct dns_question, u64, dns_answered, MAX_STREAMS, 0);

/* Where in its stream of messages one direction of a TCP connection is. */
struct dns_side {
	u64 head; /* the first `have` bytes of the message */
	u32 have;
	u32 left; /* bytes to pass over until the next message */
	u32 to_come; /* of what moved now */
	u32 astray;  /* some bytes went by unseen: where the next message begins is not known */
	u64 base;    /* the rest of a piece of the program's buffer */
	u64 size;
	u64 pieces; /* those that follow, as struct iovec */
};

struct dns_stream {
	struct dns_side out, in;
};
BPF_F_TABLE("hash", u64, struct dns_stream, dns_streams, MAX_STREAMS, 0);
BPF_ARRAY(dns_blank, struct dns_stream, 1); /* zeros */

#ifdef OFF_call_number
static __always_inline int dns_lasted(u64 flow, u16 id, u64 now, u64 limit)
{
	struct dns_question key = {.flow = flow, .id = id};
	struct dns_asked *asked = dns_pending.lookup(&key);
	return asked && now - asked->at_ns < limit;
}

static __always_inline void dns_unanswered(struct dns_asked *asked)
{
	struct group *g = groups.lookup(&asked->group);
	if (g && g->id == asked->group_id)
		add(g, DNS_TIMED_OUT, 1);
}

/* The socket, if it may ask several servers. */
static __always_inline u64 dns_shared(void *sk)
{
	return remote_port(sk) ? 0 : (u64)sk;
}

static __always_inline void dns_query(void *sk, struct connection *c, u64 flow, u16 id)
{
	struct dns_question key = {.flow = flow, .id = id};
	struct dns_asked fresh = {}, *before = dns_pending.lookup(&key);

	if (before) /* asked again, so given up before */
		dns_unanswered(before);
	fresh.at_ns = bpf_ktime_get_ns();
	fresh.socket = dns_shared(sk);
	fresh.group = c->group;
	fresh.group_id = id_of(c->group);
	if (dns_pending.update(&key, &fresh))
		count_lost(LOST_QUERIES);
}

/* RFC 1035, 4.1.1 */
static __always_inline int dns_outcome(u8 outcome)
{
	switch (outcome) {
	case 2:
		return DNS_SERVFAIL;
	case 3:
		return DNS_NXDOMAIN;
	case 5:
		return DNS_REFUSED;
	}
	return DNS_OTHER;
}

/* Return whether it is the answer to a query. */
static __always_inline int dns_answer(void *sk, struct connection *c, u64 flow, u16 id, u8 outcome)
{
	struct dns_question key = {.flow = flow, .id = id};
	struct dns_asked *asked = dns_pending.lookup(&key);
	u64 now, since;

	if (!asked) /* too late, a second one, or its query was not seen */
		return 0;
	since = asked->at_ns;
	if (dns_pending.delete(&key))
		return 1; /* a sweep has just given it up */
	now = bpf_ktime_get_ns();
	key.flow = dns_shared(sk);
	if (key.flow)
		dns_answered.update(&key, &now);
	add_latency(c->group, LATENCY_DNS, now > since ? now - since : 0, 1);
	count(c->group, DNS_ANSWERS);
	if (outcome)
		count(c->group, dns_outcome(outcome));
	return 1;
}

/* A message by its first four bytes, in the order of the wire. Return whether it was new. */
static __always_inline int dns_message(void *sk, struct connection *c, u64 flow, u32 head, int out,
				       int batch)
{
	u16 id = head;
	int is_answer = head >> 23 & 1;

	if (!out)
		return is_answer && dns_answer(sk, c, flow, id, head >> 24 & 15);
	if (is_answer)
		return 0;
	if (batch && dns_lasted(flow, id, bpf_ktime_get_ns(), DNS_BATCH_NS))
		return 0;
	dns_query(sk, c, flow, id);
	return 1;
}

static __always_inline int dns_datagram_at(void *sk, struct connection *c, u64 flow,
					   struct piece *first, int how, int out)
{
	u32 head = 0;

	if (how != BUFFER_PLAIN)
		bpf_probe_read_user(first, sizeof(*first), (void *)pieces_of(first->base, how));
	if (first->size < sizeof(head) || bpf_probe_read_user(&head, 4, (void *)first->base))
		return 0;
	return dns_message(sk, c, flow, head, out, how == BUFFER_BATCH);
}

/* A client's datagram to or from port 53. Of several in one system call, this is the first that
 * was not seen before. */
static __always_inline void dns_datagram(void *sk, struct connection *c, u64 flow, u32 length,
					 int out)
{
	void *regs = registers();
	u64 place = 0, number = 0;
	struct piece first;
	u32 call = 0;
	int how, i;

	READ(call, regs, OFF_call_number);
	READ(place, regs, OFF_call_second);
	how = out ? buffer_sent(call) : buffer_received(call);
	if (how == BUFFER_UNKNOWN)
		return;
	READ(number, regs, OFF_call_third); /* of messages, or the size of a plain buffer */
	for (i = 0; i < DNS_AT_ONCE; i++) {
		first.base = place + i * BATCH_STRIDE;
		first.size = number;
		if (dns_datagram_at(sk, c, flow, &first, how, out))
			goto seen;
		if (how != BUFFER_BATCH || i + 1 >= number)
			return;
	}
	return;
seen:
	if (!out)
		hear(sk, first.base, length < first.size ? length : first.size);
}

/* Where the first of the bytes is that moved now. */
static __always_inline void dns_begin(volatile struct dns_side *side, u64 place, int how, u32 length)
{
	side->to_come = length;
	if (how == BUFFER_PLAIN) {
		side->base = place;
		side->size = length;
		side->pieces = 0;
	} else {
		side->size = 0;
		side->pieces = pieces_of(place, how);
	}
}

/* The first answer in what a client's TCP connection has received, if the buffer begins with it or
 * with its length; to be called before dns_moved(), which moves on. Others are not handed over. */
static __always_inline void dns_hear(void *sk, u32 length)
{
	struct piece piece = {};
	struct dns_stream *stream;
	u64 key = (u64)sk;
	void *regs = registers();
	u32 call = 0;
	u16 size = 0;
	int how;

	stream = dns_streams.lookup(&key);
	if (!stream || stream->in.astray || (stream->in.have && stream->in.have != 2))
		return;
	READ(call, regs, OFF_call_number);
	READ(piece.base, regs, OFF_call_second);
	how = buffer_received(call);
	if (how == BUFFER_UNKNOWN || how == BUFFER_BATCH)
		return;
	piece.size = length;
	if (how != BUFFER_PLAIN)
		bpf_probe_read_user(&piece, sizeof(piece), (void *)pieces_of(piece.base, how));
	if (piece.size > length)
		piece.size = length;
	if (stream->in.have) {
		size = stream->in.head;
	} else {
		if (piece.size < 2 || bpf_probe_read_user(&size, 2, (void *)piece.base))
			return;
		piece.base += 2;
		piece.size -= 2;
	}
	size = swap16(size);
	hear(sk, piece.base, piece.size < size ? piece.size : size);
}

/* What a client's TCP connection to port 53 has sent or received. The place in the stream is kept
 * in the map and not in variables, of which the verifier would follow every value. */
static __always_inline void dns_moved(void *sk, u32 length, int out)
{
	struct connection *c;
	struct dns_stream *stream;
	volatile struct dns_side *side;
	struct piece piece;
	u64 key = (u64)sk, place = 0, bytes;
	void *regs = registers();
	u32 call = 0, want, pass;
	int how, i;

	c = connections.lookup(&key);
	stream = dns_streams.lookup(&key);
	if (!c || !stream)
		return;
	side = out ? &stream->out : &stream->in;
	if (side->astray)
		return;
	READ(call, regs, OFF_call_number);
	READ(place, regs, OFF_call_second);
	how = out ? buffer_sent(call) : buffer_received(call);
	if (how == BUFFER_UNKNOWN || how == BUFFER_BATCH) {
		side->astray = 1;
		return;
	}
	dns_begin(side, place, how, length);
	for (i = 0; i < DNS_STEPS; i++) {
		if (!side->to_come)
			return;
		if (!side->size) {
			if (!side->pieces ||
			    bpf_probe_read_user(&piece, sizeof(piece), (void *)side->pieces))
				break;
			side->base = piece.base;
			side->size = piece.size;
			side->pieces += sizeof(piece);
			continue;
		}
		pass = side->to_come;
		if (pass > side->size)
			pass = side->size;
		want = side->have < DNS_HEAD ? DNS_HEAD - side->have : side->left;
		if (pass > want)
			pass = want;
		if (side->have < DNS_HEAD) {
			bytes = 0;
			if (bpf_probe_read_user(&bytes, pass & 7, (void *)side->base))
				break;
			side->head |= bytes << 8 * (side->have & 7);
			side->have += pass;
			if (side->have == DNS_HEAD) {
				want = swap16(side->head);
				side->left = want > 4 ? want - 4 : 0;
				dns_message(sk, c, key, side->head >> 16, out, 0);
			}
		} else {
			side->left -= pass;
		}
		side->base += pass;
		side->size -= pass;
		side->to_come -= pass;
		if (side->have == DNS_HEAD && !side->left) {
			side->have = 0;
			side->head = 0;
		}
	}
	if (!side->to_come)
		return;
	side->astray = 1;
	count_lost(LOST_QUERIES);
}

static __always_inline void dns_opened(void *sk)
{
	u64 key = (u64)sk;
	int zero = 0;
	struct dns_stream *fresh = dns_blank.lookup(&zero); /* too large for the stack */

	if (fresh && dns_streams.update(&key, fresh))
		count_lost(LOST_QUERIES);
}

static __always_inline void dns_closed(void *sk)
{
	u64 key = (u64)sk;
	dns_streams.delete(&key);
}

/* A query that the sweep has come to. */
static __always_inline void dns_give_up(struct dns_question *question, struct dns_asked *asked)
{
	struct dns_question key;
	struct dns_asked copy;
	u64 now = bpf_ktime_get_ns(), since = asked->at_ns, *answered;

	if (now < since || now - since < DNS_PATIENCE_NS)
		return;
	key.flow = question->flow;
	key.id = question->id;
	copy.group = asked->group;
	copy.group_id = asked->group_id;
	copy.socket = asked->socket;
	if (dns_pending.delete(&key))
		return;
	key.flow = copy.socket;
	answered = dns_answered.lookup(&key);
	if (!answered || *answered < since || *answered - since > DNS_TOGETHER_NS)
		dns_unanswered(&copy);
}
#else
static __always_inline void dns_datagram(void *sk, struct connection *c, u64 flow, u32 length,
					 int out)
{
}

static __always_inline void dns_hear(void *sk, u32 length)
{
}

static __always_inline void dns_moved(void *sk, u32 length, int out)
{
}

static __always_inline void dns_opened(void *sk)
{
}

static __always_inline void dns_closed(void *sk)
{
}

static __always_inline void dns_give_up(struct dns_question *question, struct dns_asked *asked)
{
}
#endif

#endif
