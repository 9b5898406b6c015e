/* SPDX-License-Identifier: GPL-2.0-only */
/* Answers that waited for another client's word: the next job of a queue (BLPOP), a long poll.
 *
 * The thread that reads the job is the one that hands it to who waits for it, at once: so the
 * answer leaves right after a question of another connection was read. A slow server's answer
 * leaves when it is done, whoever has asked meanwhile. A thread that was busy with the answer all
 * the time reads the others' questions right before it answers too, but those have been waiting. */
#ifndef TAILRACE_WOKEN_H
#define TAILRACE_WOKEN_H

#include "groups.h"

#define WOKEN_NS 250000ULL /* from the other's question to the answer */
#define LONG_NS 80000000ULL /* a shorter wait cannot be told from work: who was busy, ticks tell */
#define UNREAD_TICKS 2

/* The last question that was read on this CPU, of those that were timed or read by `keen`. */
struct latest {
	u64 thread;
	u64 at_ns;
	u64 late_ns; /* when the thread last read one that had been waiting */
	u64 keen;    /* the last thread here that gave a long answer: the clock is read for it */
};
BPF_PERCPU_ARRAY(latest, struct latest, 1);

static __always_inline struct latest *latest_here(void)
{
	int zero = 0;
	return latest.lookup(&zero);
}

/* A server's thread has read a question, which lay in the socket for `unread` ticks. */
static __always_inline void note_question(u64 now, u32 unread)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct latest *last = latest_here();

	if (!last)
		return;
	if (last->thread != thread) {
		last->thread = thread;
		last->late_ns = 0;
	}
	last->at_ns = now;
	if (unread >= UNREAD_TICKS)
		last->late_ns = now;
}

/* Whether the time of the questions that this thread reads is of interest. */
static __always_inline int is_keen(void)
{
	struct latest *last = latest_here();
	return last && last->keen == bpf_get_current_pid_tgid();
}

/* Whether the answer that a server sends now, to what it read at `since`, waited for another: had
 * none been read meanwhile, the last question would be this one. */
static __always_inline int was_woken(u64 since, u64 now)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct latest *last;

	if (now - since < LONG_NS)
		return 0;
	last = latest_here();
	if (!last)
		return 0;
	last->keen = thread;
	return last->thread == thread && last->late_ns < since && now - last->at_ns < WOKEN_NS;
}

#endif
