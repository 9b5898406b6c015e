"""Groups written by hand, and a tracker that is given them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bpf import layout
from probes import memory
from probes.endpoints import mapped
from probes.identity.resolver import Services
from probes.naming import PairNames
from probes.programs import Snapshot
from probes.tracker import Tracker
from probes.window import Pair, Window

_PLACES = 32


def _group(id_: int, role: int, program: str, **fields: Any) -> Any:
    """Return a group; its place is its id."""
    group = np.zeros((), layout.GROUP)
    group["id"] = id_
    group["link"] = fields.pop("link", 0)
    group["owner"]["tgid"] = fields.setdefault("tgid", 100 + id_)
    group["owner"]["command"] = group["owner"]["executable"] = program.encode()
    key = {"transport": layout.TCP, "port": 80, "netns": 1, "remote": "10.0.0.2"}
    for name, value in {**key, "role": role}.items():
        fields.setdefault(name, value)
    for name in layout.GROUP_KEY.names or ():
        if name in fields:
            value = fields.pop(name)
            group["key"][name] = np.void(mapped(value)) if name == "remote" else value
    for name, value in fields.items():
        group["counts"][layout.COUNTERS.index(name)] = value
    return group


def client(id_: int, program: str = "web", **fields: Any) -> Any:
    return _group(id_, layout.CLIENT, program, **fields)


def server(id_: int, program: str = "api", **fields: Any) -> Any:
    remote = {} if fields.get("peer") else {"remote": "10.0.0.1"}
    if fields.get("peer"):
        remote = {"remote": "::"}
    return _group(id_, layout.SERVER, program, **{**remote, **fields})


class Run:
    """A tracker that is given one sweep a second."""

    def __init__(self, tmp_path: Path, *, most_pairs: int = 10_000) -> None:
        services = Services(proc=tmp_path)  # nobody is alive: programs are the names
        self.names = PairNames(services, own_tgid=999, most_pairs=most_pairs)
        self.tracker = Tracker(self.names, capacity=_PLACES)
        self.second = 0

    def save(self) -> bytes:
        return memory.save(self.names, self.tracker)

    def restore(self, saved: bytes) -> None:
        memory.restore(saved, self.names, self.tracker)

    def sweep(
        self,
        groups: Sequence[Any] = (),
        latencies: Sequence[tuple[int, str, int, int, int]] = (),
        *,
        lost: int = 0,
    ) -> dict[tuple[Pair, str], tuple[float, float]]:
        """Args: groups; latencies as (group, kind, bucket, samples, weight)."""
        self.second += 1
        overflow = np.zeros((), layout.GROUP)
        overflow["id"] = 1
        groups = sorted(groups, key=lambda group: int(group["id"]))
        keys = [(g, b, layout.LATENCIES.index(kind)) for g, kind, b, _, _ in latencies]
        snapshot = Snapshot(
            np.array([0, *(int(group["id"]) for group in groups)]),
            np.array([overflow, *groups], layout.GROUP),
            np.array(keys, layout.LATENCY_KEY),
            np.array([(n, w) for *_, n, w in latencies], layout.LATENCY),
            lost,
            np.zeros(_PLACES, layout.DETAILS),
        )
        self.window = self.tracker.update(
            snapshot, now_s=self.second, time=self.second, width=1.0, nominal=1.0
        )
        return table(self.window)


def table(window: Window) -> dict[tuple[Pair, str], tuple[float, float]]:
    return {
        (window.pairs[pair], window.signals[signal]): (float(value), float(count))
        for pair, signal, value, count in zip(
            window.pair, window.signal, window.value, window.count, strict=True
        )
    }


PAIR = Pair("web", "api", 80)
BOTH = (client(2, link=3, established=1), server(3, peer=2, established=1))
