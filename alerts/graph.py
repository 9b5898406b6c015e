"""The service graph: who calls whom, and how much, learned from windows.

In: windows. Out: for each service whom it calls and who calls it, with smoothed traffic. Traffic is
requests per second; where a pair has none, connections; else bytes. A pair that was not seen for an
hour is forgotten, and there are at most `MOST_PAIRS`, those that were seen last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from probes.window import EVERY, Pair, Window

Floats = NDArray[np.float64]

MOST_PAIRS: Final = 20_000
FORGET_S: Final = 3600.0
HALF_LIFE_S: Final = 60.0
_SIGNALS: Final = ("requests", "connections", "bytes_received")
"""What traffic is measured by, the best first."""
_FORGET_EVERY: Final = 600
"""Windows."""


class ServiceGraph:
    """Who calls whom. A window costs a few numpy operations over its rows."""

    def __init__(self) -> None:
        self._pairs: list[Pair] = []
        self._number: dict[Pair, int] = {}
        self._rates: Floats = np.zeros((0, len(_SIGNALS)))
        self._seen: Floats = np.zeros(0)
        self._windows = 0
        self._last: tuple[tuple[Pair, ...], NDArray[np.int64]] | None = None
        self._index: tuple[dict[str, list[int]], dict[str, list[int]]] | None = None
        self._callees: dict[str, set[str]] = {}
        self._callers: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def update(self, window: Window) -> None:
        """Learn from one window."""
        numbers = self._numbers(window.pairs)
        self._seen[numbers] = window.time
        width = next((w for w in (window.width, window.nominal) if w > 0), 1.0)
        weight = 1.0 - 0.5 ** (width / HALF_LIFE_S)
        for column, signal in enumerate(_SIGNALS):
            if signal not in window.signals:
                continue
            at = np.flatnonzero(window.signal == window.signals.index(signal))
            rows = numbers[window.pair[at]]
            rates = self._rates[rows, column]
            # The first value is believed, as there is nothing else to believe
            weights = np.where(rates < 0.0, 1.0, weight)
            value = np.nan_to_num(window.value[at], posinf=0.0, neginf=0.0)
            self._rates[rows, column] = np.where(
                rates < 0.0, value, rates + weights * (value - rates)
            )
        self._windows += 1
        if self._windows % _FORGET_EVERY == 0 or len(self) > 2 * MOST_PAIRS:
            self._forget(window.time)

    def _numbers(self, pairs: tuple[Pair, ...]) -> NDArray[np.int64]:
        if self._last is not None and self._last[0] is pairs:
            return self._last[1]
        fresh = [pair for pair in pairs if pair not in self._number]
        for pair in fresh:
            self._number[pair] = len(self._pairs)
            self._pairs.append(pair)
        if fresh:
            self._rates = np.vstack([self._rates, np.full((len(fresh), len(_SIGNALS)), -1.0)])
            self._seen = np.concatenate([self._seen, np.zeros(len(fresh))])
            self._index = None
        numbers = np.array([self._number[pair] for pair in pairs], np.int64)
        self._last = pairs, numbers
        return numbers

    def _forget(self, now: float) -> None:
        keep = np.flatnonzero(now - self._seen < FORGET_S)
        if len(keep) > MOST_PAIRS:
            latest = np.argsort(-self._seen[keep], kind="stable")[:MOST_PAIRS]
            keep = np.sort(keep[latest])
        self._pairs = [self._pairs[i] for i in keep.tolist()]
        self._rates, self._seen = self._rates[keep], self._seen[keep]
        self._number = {pair: i for i, pair in enumerate(self._pairs)}
        self._last = self._index = None

    def _adjacent(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Return the numbers of the pairs of each client, and of each server."""
        if self._index is None:
            of_client: dict[str, list[int]] = defaultdict(list)
            of_server: dict[str, list[int]] = defaultdict(list)
            for number, pair in enumerate(self._pairs):
                of_client[pair.client].append(number)
                of_server[pair.server].append(number)
            self._index = of_client, of_server
            self._callees = {
                client: {self._pairs[number].server for number in numbers}
                for client, numbers in of_client.items()
            }
            self._callers = {
                server: {self._pairs[number].client for number in numbers}
                for server, numbers in of_server.items()
            }
        return self._index

    def _of(self, numbers: Iterable[int]) -> list[Pair]:
        return [self._pairs[number] for number in numbers]

    def calls(self, service: str) -> list[Pair]:
        """Return the pairs in which a service is the client."""
        return self._of(self._adjacent()[0].get(service, ()))

    def called(self, service: str) -> list[Pair]:
        """Return the pairs in which a service is the server."""
        return self._of(self._adjacent()[1].get(service, ()))

    def callees(self, service: str) -> Collection[str]:
        """Return the services that a service calls."""
        self._adjacent()
        return self._callees.get(service, ())

    def callers(self, service: str) -> Collection[str]:
        """Return the services that call a service."""
        self._adjacent()
        return self._callers.get(service, ())

    def clients(self, pair: Pair) -> Collection[str]:
        """Return the client of a pair; of a roll-up of clients, all that its server has."""
        return self.callers(pair.server) if pair.client == EVERY else (pair.client,)

    def reaches(self, caller: str, callee: str) -> bool:
        """Return whether `caller` is `callee`, or calls it directly."""
        if caller == callee:
            return caller != EVERY
        return callee in self.callees(caller)

    def traffic(self, pair: Pair) -> float:
        """Return the smoothed traffic of a pair, per second; 0 when it is not known.

        A roll-up has that of all its members.
        """
        if EVERY in (pair.client, pair.server):
            whole = self.called(pair.server) if pair.client == EVERY else self.calls(pair.client)
            return sum(self.traffic(member) for member in whole)
        number = self._number.get(pair)
        if number is None:
            return 0.0
        return float(next((rate for rate in self._rates[number] if rate > 0.0), 0.0))

    def share(self, pair: Pair) -> float:
        """Return the share of its server's traffic that a pair has, in [0, 1]; 1 when unknown.

        Of a client's roll-up, the share is 1.
        """
        if EVERY in (pair.client, pair.server):
            return 1.0
        whole = sum(self.traffic(each) for each in self.called(pair.server))
        return self.traffic(pair) / whole if whole > 0.0 else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "pairs": [list(pair) for pair in self._pairs],
            "rates": self._rates.tolist(),
            "seen": self._seen.tolist(),
            "windows": self._windows,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_json` was made of."""
        self = cls()
        self._pairs = [Pair(*pair) for pair in data["pairs"]]
        self._number = {pair: i for i, pair in enumerate(self._pairs)}
        self._rates = np.array(data["rates"], np.float64).reshape(-1, len(_SIGNALS))
        self._seen = np.array(data["seen"], np.float64)
        self._windows = data["windows"]
        return self
