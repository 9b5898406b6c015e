"""What Tailrace is measured beside: empty programs, tcpdump, softflowd, bpftrace, a BCC tool."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.kernel_child import ROOT, BenchmarkError, Child, python_child
from benchmarks.kernel_watch import Watcher

_EMPTY = "int nothing(void *ctx) { return 0; }"

_COUNTER = r"""
#include <linux/types.h>
struct counts { u64 bytes_out, calls_out, bytes_in, calls_in; };
BPF_HASH(connections, u64, struct counts, 65536);
BPF_ARRAY(closed, u64, 1);

int on_send(struct bpf_raw_tracepoint_args *ctx)
{
    u64 key = ctx->args[0];
    struct counts zero = {}, *known;
    if ((int)ctx->args[1] <= 0)
        return 0;
    known = connections.lookup_or_try_init(&key, &zero);
    if (known) {
        __sync_fetch_and_add(&known->bytes_out, (int)ctx->args[1]);
        __sync_fetch_and_add(&known->calls_out, 1);
    }
    return 0;
}

int on_receive(struct bpf_raw_tracepoint_args *ctx)
{
    u64 key = ctx->args[0];
    struct counts zero = {}, *known;
    if ((int)ctx->args[1] <= 0)
        return 0;
    known = connections.lookup_or_try_init(&key, &zero);
    if (known) {
        __sync_fetch_and_add(&known->bytes_in, (int)ctx->args[1]);
        __sync_fetch_and_add(&known->calls_in, 1);
    }
    return 0;
}

int on_destroy(struct bpf_raw_tracepoint_args *ctx)
{
    u64 key = ctx->args[0];
    int zero = 0;
    u64 *number = closed.lookup(&zero);
    connections.delete(&key);
    if (number)
        __sync_fetch_and_add(number, 1);
    return 0;
}
"""

_BPFTRACE = """
tracepoint:sock:sock_send_length /args->ret > 0/
{ @bytes_out[args->sk] = sum(args->ret); @calls_out[args->sk] = count(); }
tracepoint:sock:sock_recv_length /args->ret > 0/
{ @bytes_in[args->sk] = sum(args->ret); @calls_in[args->sk] = count(); }
tracepoint:tcp:tcp_destroy_sock
{ delete(@bytes_out[args->skaddr]); delete(@calls_out[args->skaddr]);
  delete(@bytes_in[args->skaddr]); delete(@calls_in[args->skaddr]); @closed = count(); }
interval:s:1 { printf("running\\n"); }
END { clear(@bytes_out); clear(@calls_out); clear(@bytes_in); clear(@calls_in); }
"""


def _bcc(text: str) -> Any:
    os.environ["BCC_KERNEL_SOURCE"] = str(ROOT / "bpf")
    try:
        import bcc  # noqa: PLC0415  (only in the processes that load something)
    except ImportError as error:
        sys.exit(f"BCC is not installed ({error}): apt install python3-bpfcc")
    return bcc, bcc.BPF(text=text.encode())


def _attach(bcc: Any, function: Any, tracepoint: str) -> int:
    return int(bcc.lib.bpf_attach_raw_tracepoint(function.fd, tracepoint.encode()))


def _run_time(fd: int) -> tuple[int, int]:
    text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["run_time_ns"]), int(fields["run_cnt"])


def empty_main() -> None:
    """Attach an empty program to each hook named; a line of input is answered with the times."""
    functions = {}
    for hook in sys.argv[1:]:
        # one object each: programs share nothing, as little as a program can be
        bcc, program = _bcc(_EMPTY)
        function = program.load_func(b"nothing", bcc.BPF.RAW_TRACEPOINT)
        if _attach(bcc, function, hook) >= 0:
            functions[hook] = function
    sys.stdout.write(f"ready {json.dumps(list(functions))}\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        times = {hook: _run_time(function.fd) for hook, function in functions.items()}
        sys.stdout.write(f"programs {json.dumps(times)}\n")
        sys.stdout.flush()


class Empty:
    """Programs that do nothing, on the same hooks; they end with the `with`."""

    def __init__(self, hooks: Sequence[str]) -> None:
        """Load and attach them.

        Args:
            hooks: raw tracepoints; one that does not exist is left out.

        Raises:
            BenchmarkError: nothing could be loaded.
        """
        self._child = python_child("benchmarks.kernel_peers:empty_main", *hooks)
        try:
            self._child.expect("ready", 60)
        except BaseException:
            self._child.close()
            raise

    def programs(self) -> dict[str, tuple[int, int]]:
        """Return {tracepoint: (ns spent, times run)} so far."""
        self._child.say()
        times = json.loads(self._child.expect("programs").partition(" ")[2])
        return {name: (spent, runs) for name, (spent, runs) in times.items()}

    def close(self) -> None:
        """End it."""
        self._child.close()

    def __enter__(self) -> Empty:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def counter_main() -> None:
    """Count bytes and calls per connection until the input ends, then say what was seen."""
    bcc, program = _bcc(_COUNTER)
    hooks = {
        "on_destroy": "tcp_destroy_sock",
        "on_send": "sock_send_length",
        "on_receive": "sock_recv_length",
    }
    for name, hook in hooks.items():
        function = program.load_func(name.encode(), bcc.BPF.RAW_TRACEPOINT)
        if _attach(bcc, function, hook) < 0:
            sys.exit(f"this kernel has no raw tracepoint {hook}")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    closed = sum(value.value for value in program[b"closed"].values())
    sys.stdout.write(f"closed {closed}\n")


class Peer:
    """A running tool.

    Attributes:
        said: after the `with`: what it made of the load, in its own terms; empty when it does
            not say.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.said: dict[str, float] = {}


def _started(child: Child, beginning: str) -> Child:
    try:
        child.expect(beginning, 30)
    except BaseException:
        child.close()
        raise
    return child


def _must_have_seen(what: str, number: float) -> None:
    if number <= 0:
        raise BenchmarkError(f"{what} saw nothing of the load: the comparison would be worthless")


@contextlib.contextmanager
def tailrace() -> Iterator[Peer]:
    """Tailrace's observer, windows of one second."""
    with Watcher() as watcher:
        peer = Peer(watcher.pid)
        watcher.so_far()
        yield peer
        seen = [*watcher.so_far(), watcher.window()]  # the last one begins under the load
        _must_have_seen("Tailrace", max((one.rows for one in seen), default=0))
        peer.said["lost"] = sum(one.lost for one in seen)


@contextlib.contextmanager
def tcpdump() -> Iterator[Peer]:
    """Packets of every interface, 96 bytes of each, thrown away."""
    command = ["tcpdump", "-i", "any", "-s", "96", "-w", "/dev/null"]
    # its messages are on the standard error, hence the shell: one stream to listen to
    words = ["sh", "-c", 'exec "$@" 2>&1', "sh", *command]
    with Child(*words, name="tcpdump", stop=signal.SIGINT) as child:
        _started(child, "tcpdump: listening")
        peer = Peer(child.pid)
        yield peer
        child.close()
        text = "\n".join(child.said())
        numbers = {
            kind: int(number)
            for number, kind in re.findall(r"(\d+) packets? (captured|dropped by kernel)", text)
        }
        _must_have_seen("tcpdump", numbers.get("captured", 0))
        peer.said["captured"] = numbers["captured"]
        peer.said["dropped"] = numbers.get("dropped by kernel", 0)


@contextlib.contextmanager
def softflowd(directory: Path) -> Iterator[Peer]:
    """Flows of the loopback interface, exported as NetFlow to a socket nobody reads."""
    control = directory / "softflowd.ctl"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        to = f"127.0.0.1:{sink.getsockname()[1]}"
        files = ["-p", directory / "softflowd.pid", "-c", control]
        words = ["sh", "-c", 'exec "$@" 2>&1', "sh", "softflowd", "-d", "-i", "lo", "-n", to]
        with Child(*words, *files, name="softflowd", stop=signal.SIGTERM) as child:
            _started(child, "softflowd")
            peer = Peer(child.pid)
            yield peer
            command = ["softflowctl", "-c", str(control), "statistics"]
            run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            processed = re.search(r"Packets processed: (\d+)", run.stdout)
            dropped = re.search(r"dropped by libpcap: (\d+)", run.stdout)
            peer.said["captured"] = int(processed[1]) if processed else 0
            _must_have_seen("softflowd", peer.said["captured"])
            if dropped:
                peer.said["dropped"] = int(dropped[1])


@contextlib.contextmanager
def bpftrace(directory: Path) -> Iterator[Peer]:
    """Bytes and calls per connection by bpftrace, at the same tracepoints."""
    script = directory / "count.bt"
    script.write_text(_BPFTRACE)
    with Child("bpftrace", script, stop=signal.SIGINT) as child:
        _started(child, "running")
        peer = Peer(child.pid)
        yield peer
        child.close()
        closed = re.search(r"@closed: (\d+)", "\n".join(child.said()))
        peer.said["closed"] = int(closed[1]) if closed else 0
        _must_have_seen("bpftrace", peer.said["closed"])


@contextlib.contextmanager
def bcc_counter() -> Iterator[Peer]:
    """Bytes and calls per connection by a BCC tool, at the same raw tracepoints."""
    with python_child("benchmarks.kernel_peers:counter_main") as child:
        _started(child, "ready")
        peer = Peer(child.pid)
        yield peer
        child.close()
        closed = [line for line in child.said() if line.startswith("closed")]
        peer.said["closed"] = int(closed[0].split()[1]) if closed else 0
        _must_have_seen("the BCC tool", peer.said["closed"])


def tools(directory: Path) -> dict[str, Callable[[], contextlib.AbstractContextManager[Peer]]]:
    """Return how to start each tool, Tailrace first.

    Raises:
        BenchmarkError: one of them is not installed.
    """
    missing = [name for name in ("tcpdump", "softflowd", "bpftrace") if not shutil.which(name)]
    if missing:
        raise BenchmarkError(f"not installed: {', '.join(missing)} (apt-get install them)")
    return {
        "tailrace": tailrace,
        "bpftrace": lambda: bpftrace(directory),
        "bcc": bcc_counter,
        "softflowd": lambda: softflowd(directory),
        "tcpdump": tcpdump,
    }


def versions() -> dict[str, str]:
    """Return the version of each tool and load generator, as Debian's package manager has it."""
    names = ["bpftrace", "nginx", "python3-bpfcc", "redis-server", "softflowd", "tcpdump", "wrk"]
    if not shutil.which("dpkg-query"):
        return {}
    command = ["dpkg-query", "-W", "-f=${Package} ${Version}\n", *names]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return dict(line.split(" ", 1) for line in run.stdout.splitlines())
