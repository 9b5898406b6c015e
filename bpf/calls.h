/* SPDX-License-Identifier: GPL-2.0-only */
/* The system call that the current task is in, and the buffer it was given. */
#ifndef TAILRACE_CALLS_H
#define TAILRACE_CALLS_H

#include "reading.h"

#ifdef OFF_call_number /* else it is not known where this machine has them */

/* How a system call tells of its buffer: always in its second argument. */
#define BUFFER_UNKNOWN 0
#define BUFFER_PLAIN 1	 /* void * */
#define BUFFER_PIECES 2	 /* struct iovec * */
#define BUFFER_MESSAGE 3 /* struct msghdr * */
#define BUFFER_BATCH 4	 /* struct mmsghdr *, as many as the third argument says */
#define MESSAGE_PIECES 16
#define BATCH_STRIDE 64

struct piece {
	u64 base;
	u64 size;
};

/* Numbers of another ABI (32 bits) are never among these calls; see the tables in
 * arch/x86/entry/syscalls and include/uapi/asm-generic/unistd.h. */
#if defined(ON_X86_64)
static __always_inline int buffer_sent(u32 number)
{
	switch (number) {
	case 1: /* write */
	case 44: /* sendto */
		return BUFFER_PLAIN;
	case 20: /* writev */
		return BUFFER_PIECES;
	case 46: /* sendmsg */
		return BUFFER_MESSAGE;
	case 307: /* sendmmsg */
		return BUFFER_BATCH;
	}
	return BUFFER_UNKNOWN;
}

static __always_inline int buffer_received(u32 number)
{
	switch (number) {
	case 0: /* read */
	case 45: /* recvfrom */
		return BUFFER_PLAIN;
	case 19: /* readv */
		return BUFFER_PIECES;
	case 47: /* recvmsg */
		return BUFFER_MESSAGE;
	case 299: /* recvmmsg */
		return BUFFER_BATCH;
	}
	return BUFFER_UNKNOWN;
}
#elif defined(ON_ARM64)
static __always_inline int buffer_sent(u32 number)
{
	switch (number) {
	case 64: /* write */
	case 206: /* sendto */
		return BUFFER_PLAIN;
	case 66: /* writev */
		return BUFFER_PIECES;
	case 211: /* sendmsg */
		return BUFFER_MESSAGE;
	case 269: /* sendmmsg */
		return BUFFER_BATCH;
	}
	return BUFFER_UNKNOWN;
}

static __always_inline int buffer_received(u32 number)
{
	switch (number) {
	case 63: /* read */
	case 207: /* recvfrom */
		return BUFFER_PLAIN;
	case 65: /* readv */
		return BUFFER_PIECES;
	case 212: /* recvmsg */
		return BUFFER_MESSAGE;
	case 243: /* recvmmsg */
		return BUFFER_BATCH;
	}
	return BUFFER_UNKNOWN;
}
#endif

/* The registers with which the current task entered the kernel. */
static __always_inline void *registers(void)
{
#ifdef HAVE_TASK_REGISTERS
	return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
#else
	/* task_pt_regs(), arch/x86/include/asm/processor.h; before Linux 5.15 */
	void *stack = NULL;
	READ(stack, (void *)bpf_get_current_task(), OFF_stack);
	return (char *)stack + 16384 - 168;
#endif
}

/* Where the list of pieces is that `place` leads to. */
static __always_inline u64 pieces_of(u64 place, int how)
{
	u64 pieces = place;

	if (how != BUFFER_PIECES)
		bpf_probe_read_user(&pieces, 8, (void *)(place + MESSAGE_PIECES));
	return pieces;
}

#endif
#endif
