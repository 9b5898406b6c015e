"""Known traffic against what the probes say of it, once per hook family; a program.

It runs on this host (`python -m tests.kernels.suite [FAMILY]...`) and inside the emulated machines.
For each family one Observer is opened, in a process of its own, since compiling takes up to a
minute under emulation; two at a time. On standard output there is one line per family, as
`tests.kernels.results` reads it, and a last one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from probes.errors import ProbeError
from probes.observer import Observer
from probes.window import Pair
from tests.kernels import peers
from tests.kernels.abilities import abilities
from tests.kernels.peers import SCENES, Scene
from tests.kernels.results import (
    LOST,
    Check,
    GarbledError,
    Hook,
    Result,
    read_results,
    write_end,
    write_result,
)
from tests.support.traffic import hear, running, say
from tests.support.watching import Watch

FAMILIES = ("auto", "tracepoint", "fentry", "kprobe")
WINDOW_S = 1.0
_ONE = "--one"
_WITHIN_S = 420.0
_PEER = Path(peers.__file__).name
_PIPES = {"stdin": -1, "stdout": -1}


class _Peers:
    """The server and the client, from before the observer starts."""

    def __init__(self, stack: ExitStack, lot: int) -> None:
        self._server, self._client = (
            stack.enter_context(running(sys.executable, peers.__file__, role, str(lot), **_PIPES))
            for role in ("server", "client")
        )
        say(self._client, hear(self._server))
        assert hear(self._client) == "open"
        self.ports: dict[str, int] = {}

    def play(self) -> dict[str, dict[str, int]]:
        """Make the traffic; return {scene: {"sent": bytes, "received": bytes}}."""
        say(self._server)
        answer = hear(self._server)
        self.ports = json.loads(answer)
        say(self._client, answer)
        done: dict[str, dict[str, int]] = json.loads(hear(self._client))
        return done


def _samples(watch: Watch, pair: Pair, signal: str) -> int:
    total = 0.0
    for window in watch.windows:
        if pair in window.pairs:
            rows = (window.pair == window.pairs.index(pair)) & (
                window.signal == window.signals.index(signal)
            )
            total += float(window.count[rows].sum())
    return round(total)


def _expected(scene: Scene, moved: dict[str, int]) -> dict[str, int | str]:
    """Return what the windows should say of a scene."""
    opened = 0 if scene.early or scene.refused else scene.connections
    refused = scene.connections if scene.refused else 0
    asked = 0 if scene.refused else scene.connections * scene.requests
    over = 0 if scene.refused else scene.connections
    return {
        "client": _PEER,
        "server": peers.LOOPBACK[scene.family] if scene.refused else _PEER,
        "connections": opened,
        "requests": asked,
        "bytes_sent": moved["sent"],
        "bytes_received": moved["received"],
        "connects that failed": refused,
        "because refused": refused,
        "connects in all": opened + refused,
        "resets by_client": over if scene.closing == "client resets" else 0,
        "resets by_server": over if scene.closing == "server resets" else 0,
        "connections that ended": over,
        "connect_latency samples": opened,
        "request_latency is measured": "yes" if asked else "no",
        "request_latency samples too many": 0,
    }


def _seen(port: int, watch: Watch) -> dict[str, int | str]:
    """Return what the windows say of a scene."""
    pairs = [pair for pair in watch.pairs() if pair.port == port]
    if len(pairs) != 1:
        return {"client": f"{len(pairs)} pairs: {', '.join(map(str, pairs))}"}
    (pair,) = pairs
    failed, tried = watch.part_and_whole(pair, "connect_errors")
    _, over = watch.part_and_whole(pair, "resets")
    # a busy connection has only some of its requests timed
    answers = _samples(watch, pair, "request_latency")
    asked = round(watch.total(pair, "requests"))
    rates = ("connections", "requests", "bytes_sent", "bytes_received")
    return {
        "client": pair.client,
        "server": pair.server,
        **{signal: round(watch.total(pair, signal)) for signal in rates},
        "connects that failed": round(failed),
        "because refused": watch.causes(pair, "connect_errors")["refused"],
        "connects in all": round(tried),
        "resets by_client": watch.causes(pair, "resets")["by_client"],
        "resets by_server": watch.causes(pair, "resets")["by_server"],
        "connections that ended": round(over),
        "connect_latency samples": _samples(watch, pair, "connect_latency"),
        "request_latency is measured": "yes" if answers else "no",
        "request_latency samples too many": max(0, answers - asked),
    }


def _compare(
    watch: Watch, ports: dict[str, int], moved: dict[str, dict[str, int]]
) -> Iterator[Check]:
    # A kernel that preempts tracepoint programs (7.x) skips one now and then. Such a loss is
    # allowed as far as the detector allows it, one event in a hundred, if it was counted; the
    # sums may then be wrong by what was lost, and by no more.
    lost = watch.lost
    events = sum(s.connections * (3 + 2 * s.pieces * s.requests) for s in SCENES)
    yield Check("", LOST, 0, lost, events // 100)
    for scene in SCENES:
        one = {"bytes_sent": peers.HEADER.size + scene.body, "bytes_received": scene.answer}
        seen = _seen(ports[scene.name], watch)
        for name, value in _expected(scene, moved[scene.name]).items():
            slack = lost * one.get(name, 1)
            yield Check(scene.name, name, value, seen.get(name, "nothing"), slack)


def _observed(family: str, lacking: str | None, stack: ExitStack) -> Result:
    both = _Peers(stack, FAMILIES.index(family) % peers.LOTS)
    began = time.monotonic()
    try:
        observer = stack.enter_context(Observer(WINDOW_S, hooks=family))
    except ProbeError as error:
        if lacking:
            return Result.of(family, absent=lacking)
        return Result.of(family, error=str(error))
    took_s = time.monotonic() - began
    watch = Watch(observer)
    watch.start()
    stack.callback(watch.stop)
    moved = both.play()
    # one window for what is under way, one for records born while the maps were read
    watch.settle(3)
    return Result.of(
        family,
        started_s=took_s,
        notes=observer.notes,
        hooks=[
            Hook(hook.event, hook.hook, hook.family, hook.instructions, list(hook.reasons))
            for hook in observer.hooks
        ],
        checks=list(_compare(watch, both.ports, moved)),
    )


def run(family: str, lacking: str | None) -> Result:
    """Try one family.

    Args:
        family: as Observer takes it.
        lacking: why this kernel does not have it, None or "" if it does.
    """
    try:
        with ExitStack() as stack:
            return _observed(family, lacking, stack)
    except Exception:
        return Result.of(family, error=traceback.format_exc())


def _in_a_process(family: str) -> Result:
    """Try one family in a process of its own, so that a compiler that crashes takes only that."""
    command = (sys.executable, "-m", "tests.kernels.suite", _ONE, family)
    try:
        ended = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, text=True, timeout=_WITHIN_S
        )
        (result,) = read_results(ended.stdout.splitlines())
    except subprocess.TimeoutExpired:
        return Result.of(family, error=f"not done after {_WITHIN_S:.0f} s")
    except GarbledError as error:
        return Result.of(family, error=f"{error}; its process ended with {ended.returncode}")
    return result


def main() -> None:
    """Try the families named on the command line, or all."""
    words = sys.argv[1:]
    if words[:1] == [_ONE]:
        family = words[1]
        write_result(run(family, {"auto": "", **abilities()}[family]), sys.stdout)
    else:
        with ThreadPoolExecutor(max_workers=2) as pool:
            for result in pool.map(_in_a_process, words or FAMILIES):
                write_result(result, sys.stdout)
    write_end(sys.stdout)


if __name__ == "__main__":
    main()
