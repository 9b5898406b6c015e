"""A small source of its own for the loader's tests, and the events it knows."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from probes.hooks import Event, Kind, Target, Way
from probes.loader import Loaded
from tests.support.daemon import ROOT

SOURCE = rb"""
#include <linux/types.h>

/* by process << 8 | who counts */
BPF_HASH(sends, u64, u64, 1024);
BPF_HASH(small, u32, u32, 4);
BPF_PERCPU_ARRAY(per_cpu, u64, 2);
BPF_ARRAY(walked, u64, 2);

static __always_inline int count(u64 who)
{
	u64 key = bpf_get_current_pid_tgid() >> 32 << 8 | who, zero = 0, *number;
	int first = 0;

	sends.lookup_or_try_init(&key, &zero);
	number = sends.lookup(&key);
	if (number)
		__sync_fetch_and_add(number, 1);
	number = per_cpu.lookup(&first);
	if (number)
		*number += 1;
	return 0;
}

int by_tracepoint(u64 *ctx) { return count(1); }
int by_typed_tracepoint(u64 *ctx) { return count(2); }
int by_fentry(u64 *ctx) { return count(3); }
int by_fexit(u64 *ctx) { return (int)ctx[3] > 0 ? count(4) : 0; }
struct pt_regs;
int by_kprobe(struct pt_regs *ctx) { return count(5); }
int by_kretprobe(struct pt_regs *ctx) { return count(6); }
int by_cgroup(void *ctx) { count(7); return 1; }

/* More arguments than inet_sock_set_state has. */
int greedy(u64 *ctx) { return ctx[3] ? count(8) : 0; }

/* What no verifier lets pass: a read at an address out of the blue. */
int reckless(u64 *ctx) { return *(volatile int *)ctx[0]; }

static __always_inline void walk(int slot)
{
	u64 *number = walked.lookup(&slot);
	if (number)
		*number += 1;
}

struct bpf_iter__task_file { void *meta; void *task; u64 fd; void *file; };
BPF_ITER(task_file)
{
	if (ctx->file)
		walk(0);
	return 0;
}

struct bpf_iter__bpf_map_elem { void *meta; void *map; void *key; void *value; };
BPF_ITER(bpf_map_elem)
{
	if (ctx->key)
		walk(1);
	return 0;
}
"""

TRACEPOINT, TYPED, FENTRY, FEXIT, KPROBE, KRETPROBE, CGROUP = range(1, 8)


def one(kind: Kind, where: str, function: str, *, required: bool = True) -> Target:
    return Target(where, function, kind, required)


STATE = one("raw_tracepoint", "inet_sock_set_state", "by_tracepoint")
"""A tracepoint that kernels from 4.16 on have."""


def event(name: str, *ways: Way, required: bool = False) -> Event:
    return Event(name, required, ways)


def seen(loaded: Loaded, who: int) -> int:
    """How often `who` ran in this process."""
    value = loaded.maps["sends"].lookup(struct.pack("=Q", os.getpid() << 8 | who))
    return 0 if value is None else int(struct.unpack("=Q", value)[0])


def open_files() -> set[int]:
    """The descriptors of this process."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


def talk(times: int) -> None:
    """Send `times` messages over one TCP connection on loopback, which is then closed."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as answering,
    ):
        for _ in range(times):
            client.sendall(b"x")
            assert answering.recv(1) == b"x"


KPROBE_WAY = Way("kprobe", (one("kprobe", "tcp_sendmsg", "by_kprobe"),))
FENTRY_WAY = Way("fentry", (one("fentry", "tcp_sendmsg", "by_fentry"),))
TRACEPOINT_WAY = Way("tracepoint", (STATE,))
NO_WAY = Way("tracepoint", (one("raw_tracepoint", "no_such_thing", "by_tracepoint"),))
RECKLESS_WAY = Way("tracepoint", (one("raw_tracepoint", "inet_sock_set_state", "reckless"),))
FILES_WAY = Way("iterator", (one("iter", "task_file", "bpf_iter__task_file"),))
ENTRIES_WAY = Way("iterator", (one("iter", "bpf_map_elem:sends", "bpf_iter__bpf_map_elem"),))


@contextmanager
def no_descriptor_is_left() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before


_ALONE = """
import sys
from probes.errors import ProbeError
from probes.hooks import Way
from probes.loader import load
from tests.support.loading import SOURCE, STATE, TRACEPOINT, event, one, seen, talk
connect = Way("cgroup", (one("cgroup", "connect4", "by_cgroup"),))
events = [event("state", Way("tracepoint", (STATE,))), event("connect", connect)]
try:
    loaded = load(SOURCE, cflags=[], events=events)
except ProbeError as error:
    sys.exit(str(error))
loaded.attach()
talk(1)
assert seen(loaded, TRACEPOINT) >= 6
"""


def alone(*prefix: str, then: str = "") -> subprocess.CompletedProcess[str]:
    command = (*prefix, sys.executable, "-c", _ALONE + then)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
