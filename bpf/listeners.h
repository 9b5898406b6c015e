/* SPDX-License-Identifier: GPL-2.0-only */
/* What listening sockets had to turn away, read off them at a sweep: nothing is counted as it
 * happens, and a flood of SYNs costs nothing. */
#ifndef TAILRACE_LISTENERS_H
#define TAILRACE_LISTENERS_H

#include "maps.h"
#include "reading.h"

/* Mirrored by bpf.layout.BACKLOG. */
struct backlog {
	u64 socket;
	struct endpoint at;
	u32 drops;  /* since it listens; and a SYN that comes again counts too (tcp_check_req()) */
	u32 length; /* connections that wait for accept(2) */
	u32 limit;  /* more than so many may not */
	u32 pad;
};

/* Return whether `b` says something of a socket in `listening_at`. */
static __always_inline int read_backlog(struct backlog *b, u64 socket, struct endpoint *at)
{
	void *sk = (void *)socket;

	if (state_of(sk) != TCP_LISTEN)
		return 0;
	b->socket = socket;
	b->at = *at;
	READ(b->drops, sk, OFF_sk_drops);
	READ(b->length, sk, OFF_sk_ack_backlog);
	READ(b->limit, sk, OFF_sk_max_ack_backlog);
	return 1;
}

#endif
