/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC wants the macros; nothing of ours may branch on a version. */
#define LINUX_VERSION_CODE 0x060000
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
