/* SPDX-License-Identifier: GPL-2.0-only */
/* DNS answers, whole, for user space: by which name a client found an address. Each is written to a
 * place that was taken from a stack and that nobody else has until user space gives it back. */
#ifndef TAILRACE_ANSWERS_H
#define TAILRACE_ANSWERS_H

#include "calls.h"
#include "maps.h"
#include "reading.h"

#define ANSWER_BYTES 1024 /* a power of 2; the last byte is not used */
#define DNS_HEADER 12	  /* RFC 1035, 4.1.1 */
#define DNS_ANCOUNT 6	  /* where in it the number of answers is */

/* Mirrored by bpf.layout.ANSWER. */
struct answer {
	u64 at_ns; /* 0: not written */
	u32 netns;
	u32 tgid;   /* who asked */
	u32 length; /* of the message, as far as it came with this call */
	u32 copied; /* the beginning of it, in `message` */
	u8 message[ANSWER_BYTES];
};
/* User space reads it through mmap. */
BPF_F_TABLE("array", u32, struct answer, answers, MAX_ANSWERS, BPF_F_MMAPABLE);
BPF_QUEUESTACK("stack", free_answers, u32, MAX_ANSWERS, 0); /* filled by user space */

#ifdef OFF_call_number
/* A message that answers a query, in the program's buffer. */
static __always_inline void hear(void *sk, u64 place, u64 length)
{
	struct answer *answer;
	u64 copied = length;
	u16 records = 0;
	u32 slot = 0;

	if (!tuned(TUNING_ANSWERS) || length < DNS_HEADER)
		return;
	if (bpf_probe_read_user(&records, 2, (void *)(place + DNS_ANCOUNT)) || !records)
		return;
	if (free_answers.pop(&slot)) {
		count_lost(LOST_ANSWERS);
		return;
	}
	answer = answers.lookup(&slot);
	if (!answer)
		return;
	if (copied > ANSWER_BYTES - 1)
		copied = ANSWER_BYTES - 1;
	asm volatile("%0 &= 1023" : "+r"(copied)); /* which the verifier understands */
	if (bpf_probe_read_user(answer->message, copied, (void *)place)) {
		free_answers.push(&slot, 0);
		count_lost(LOST_ANSWERS);
		return;
	}
	answer->netns = netns_of(sk);
	answer->tgid = current_tgid();
	answer->length = length;
	answer->copied = copied;
	/* a reader that sees the time sees the rest */
	asm volatile("" ::: "memory");
	answer->at_ns = bpf_ktime_get_ns();
}
#endif

#endif
