// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sockets of the whole host, counted in the kernel, per group of connections.
 *
 * What happens is in the headers, once; here are the ways to be told of it. A program's arguments
 * come as an array of u64 from raw tracepoints and fentry, as registers from kprobes; which hook
 * is used for which event is decided at start, by what loads (probes/hooks.py); only the programs
 * of those are compiled (WANT_*), since each holds all that it does.
 *
 * No kernel struct is declared here. BCC's front end lays structs out for the host and its back
 * end for BPF, and on some kernels the two disagree without a word; so every field is read at
 * an offset taken from the running kernel's BTF (OFF_*, see probes/offsets.py) and checked
 * against TCP_INFO at start (probes/selfcheck.py).
 *
 * Keys and lifetimes: a connection is keyed by its socket's address from the moment it is known
 * until tcp_destroy_sock; then it is folded into its group and forgotten.
 */
#include <linux/types.h>
#include "bucket.h"
#include "records.h"
#include "maps.h"
#include "reading.h"
#include "groups.h"
#include "woken.h"
#include "turns.h"
#include "fold.h"
#include "calls.h"
#include "answers.h"
#include "dns.h"
#include "connects.h"
#include "tcp.h"
#include "held.h"
#include "datagrams.h"
#include "unix.h"
#include "data.h"
#include "listeners.h"
#include "by_function.h"
#include "by_cgroup.h"
#include "by_walk.h"
