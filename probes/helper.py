"""The helper process that compiles (`probes/compiler.py`): asked once, and then gone."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from bpf import layout
from probes.errors import ProbeError

COMPILE_LIMIT_S: Final = 300.0
"""How long the helper may take; an emulated machine needs a minute or two."""

REPORT: Final = "Please report it with the output of `tailrace doctor -o json`."

_LEAVING_S: Final = 5.0
_SAID_LINES: Final = 20


def ask(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int], str]:
    """Run the helper; return its answer, the descriptors, and what the compiler printed.

    Raises:
        ProbeError: it could not do what was asked, died, or took longer than `COMPILE_LIMIT_S`.
        OSError: it cannot be started.
    """
    ours, theirs = socket.socketpair()
    # Files in memory and not pipes: nobody has to read while the other side writes
    asked, spoken = os.memfd_create("request"), os.memfd_create("messages")
    environment = {
        **os.environ,
        "BCC_KERNEL_SOURCE": str(layout.HEADERS),
        # it must see the packages that this process sees
        "PYTHONPATH": os.pathsep.join(os.path.abspath(part) for part in sys.path),  # noqa: PTH100
    }
    descriptors: list[int] = []
    try:
        with open(asked, "wb", closefd=False) as file:
            file.write(json.dumps(request).encode())
        os.lseek(asked, 0, os.SEEK_SET)
        helper = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", "probes.compiler", str(theirs.fileno())],
            stdin=asked,
            stdout=spoken,
            stderr=spoken,
            pass_fds=(theirs.fileno(),),
            env=environment,
        )
        theirs.close()
        try:
            answer = _receive(ours, descriptors)
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(_LEAVING_S)
        finally:
            helper.kill()  # a no-op for one that has ended
            code = helper.wait()
        words = _words(spoken)
        return _judged(answer, code, words), descriptors, words
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    finally:
        ours.close()
        theirs.close()
        os.close(asked)
        os.close(spoken)


def _receive(channel: socket.socket, descriptors: list[int]) -> bytes:
    deadline = time.monotonic() + COMPILE_LIMIT_S
    room = socket.CMSG_SPACE(253 * array.array("i").itemsize)
    said = b""
    try:
        while True:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
            part, extra, flags, _ = channel.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
            for level, kind, data in extra:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    whole = len(data) - len(data) % array.array("i").itemsize
                    descriptors += array.array("i", data[:whole])
            if flags & socket.MSG_CTRUNC:
                raise ProbeError(
                    "this process may not have as many files open as Tailrace's programs and maps "
                    "need. Raise its limit (ulimit -n; systemd: LimitNOFILE=)."
                )
            if not part:
                return said
            said += part
    except TimeoutError:
        raise ProbeError(
            f"compiling the eBPF programs took longer than {COMPILE_LIMIT_S:g} s. The machine may "
            "be short of CPU time or memory; try again when it is less busy."
        ) from None


def _words(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, errors="replace", closefd=False) as file:
        return file.read()


def _judged(answer: bytes, code: int, words: str) -> dict[str, Any]:
    """Return the answer, unless it is none."""
    last = "\n".join(words.strip().splitlines()[-_SAID_LINES:]) or "nothing"
    try:
        said: dict[str, Any] = json.loads(answer)
    except ValueError:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        short = " It may have run out of memory." if code == -9 else ""
        raise ProbeError(
            f"the process that compiles the eBPF programs {how} without an answer.{short} "
            f"{REPORT} It said: {last}"
        ) from None
    if "error" in said:
        raise ProbeError(said["error"])
    if "refused" in said:
        if ": error:" in words or ": fatal error:" in words:
            raise ProbeError(f"the eBPF programs do not compile here. {REPORT}\n{last}")
        raise ProbeError(
            f"the eBPF programs cannot be prepared here: {said['refused']}. They need CAP_BPF and "
            f"CAP_PERFMON, and memory for their maps. BCC said: {last}"
        )
    return said
