/* SPDX-License-Identifier: GPL-2.0-only */
/* Empty: BCC includes it, nothing here needs it. */
