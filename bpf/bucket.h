/* SPDX-License-Identifier: GPL-2.0-only */
/* The log-scale buckets of probes/histogram.py, which explains them; a test runs both. */
#ifndef TAILRACE_BUCKET_H
#define TAILRACE_BUCKET_H

static __always_inline u32 bucket_of(u64 value)
{
	u32 shift = 0;
	u64 high = value >> 5; /* what stands above the five bits that are kept */
	int step;

	/* BPF has no instruction that finds the top bit: a binary search, unrolled */
#pragma unroll
	for (step = 32; step; step >>= 1) {
		if (high >> step) {
			shift += step;
			high >>= step;
		}
	}
	if (high)
		shift += 1;
	return shift * 16 + (u32)(value >> shift);
}

#endif
