"""Where the fault lies: at the client, at the server, or on the way between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from detector.parts import rows_with_entries
from detector.table import Column, Table
from probes.histogram import BUCKETS, lower_edge_s
from probes.window import Window

Ints = NDArray[np.int64]
Side = Literal["", "client", "network", "server"]

_PARTS: Final = (
    "request_latency",
    "server_latency",
    "server_read_latency",
    "client_read_latency",
    "rtt",
)
_REQUEST, _SERVER, _SERVER_READ, _CLIENT_READ, _RTT = range(len(_PARTS))
_MIDDLE_S: Final = (lower_edge_s(np.arange(BUCKETS)) + lower_edge_s(np.arange(BUCKETS) + 1)) / 2.0
_MEMORY: Final = 600.0
"""Windows that a baseline looks back on."""
_NEWEST: Final = 0.5
"""Weight of a window in what is recent: a change is found within a few."""
_MOST: Final = 0.5
"""A side is named that explains more of the rise than this."""
UNANSWERED: Final = 0.5
"""Who sends so much of it again gets no answer at all: that is no way on which packets are lost,
but one that ends, or a server that does not accept."""

_OF_CAUSE: Final[Mapping[tuple[str, str], Side]] = {
    ("connect_errors", "refused"): "server",
    ("connect_errors", "reset"): "server",
    ("connect_errors", "unreachable"): "network",
    ("connect_errors", "no_port"): "client",
    ("resets", "by_client"): "client",
    ("resets", "by_client_before_data"): "client",
    ("resets", "by_server"): "server",
    ("resets", "by_server_before_data"): "server",
    ("stalls", "by_client"): "client",
    ("stalls", "by_server"): "server",
    ("drops", "accept_queue"): "server",
    ("drops", "syn"): "server",
    ("dns_errors", "servfail"): "server",
    ("dns_errors", "refused"): "server",
}
_OF_SIGNAL: Final[Mapping[tuple[str, str], Side]] = {
    # the kernel answers a SYN, not the server
    ("connect_latency", "up"): "network",
    ("rtt", "up"): "network",
    ("retransmits", "up"): "network",
    ("requests", "up"): "client",
    ("connections", "up"): "client",
    ("bytes_sent", "up"): "client",
    ("new_pair", "new"): "client",
}


def of_cause(signal: str, cause: str) -> Side:
    """Return the side at which a cause lies; "" when it does not say."""
    return _OF_CAUSE.get((signal, cause), "")


class Sides:
    """Keeps, per pair, where the time of its requests goes, and where it went before.

    The means of the parts add up, as their quantiles do not: the time at the client is that of
    the server, of what lay unread at either end, and of the way. `table` columns: `base`,
    `recent` (seconds, by part), `base_n` (windows, at most 600), `recent_n`.
    """

    def __init__(self) -> None:
        parts = (len(_PARTS),)
        self.table = Table(
            {
                "base": Column("f4", parts),
                "base_n": Column("f4", parts),
                "recent": Column("f4", parts),
                "recent_n": Column("f4", parts),
            }
        )

    def update(self, window: Window, pairs: Ints, number: int, frozen: Iterable[int]) -> None:
        """Take one window.

        Args:
            window: the window.
            pairs: int32[its pairs], the number of each; -1 for none.
            number: how many pairs there are.
            frozen: pairs that have changed; their baselines stay.
        """
        part_of = np.array(
            [_PARTS.index(name) if name in _PARTS else -1 for name in window.signals], np.int64
        )
        entries = window.histograms
        if not len(entries.row) or (part_of < 0).all():
            return
        self.table.grow(max(number - self.table.size, 0))
        still = np.ones(number, np.bool_)
        still[list(frozen)] = False
        row, first = rows_with_entries(entries)
        part, pair = part_of[window.signal[row]], pairs[window.pair[row]]
        mean = np.add.reduceat(entries.number * _MIDDLE_S[entries.bucket], first)
        mean /= np.add.reduceat(entries.number, first)
        known = (part >= 0) & (pair >= 0)
        mean, at = mean[known].astype(np.float32), (part[known], pair[known])
        t = self.table
        recent, base = t["recent"], t["base"]
        weight = np.where(t["recent_n"][at] > 0, _NEWEST, 1.0)
        recent[at] += weight * (mean - recent[at])
        t["recent_n"][at] += 1.0
        calm = still[at[1]]
        at, mean = (at[0][calm], at[1][calm]), mean[calm]
        t["base_n"][at] = np.minimum(t["base_n"][at] + 1.0, _MEMORY)
        base[at] += (mean - base[at]) / t["base_n"][at]

    def adopt(self, pair: int) -> None:
        """Take what is recent for a pair's baseline."""
        if pair < self.table.size:
            self.table["base"][:, pair] = self.table["recent"][:, pair]
            self.table["base_n"][:, pair] = np.minimum(self.table["recent_n"][:, pair], 1.0)

    def guilty(self, pair: int, signal: str, direction: str, cause: str) -> Side:
        """Return the side at which a change arose; "" when the data do not say.

        Args:
            pair: number of the pair.
            signal: of the finding, as are the others.
            direction: "up", "down", "new" or "gone".
            cause: the most frequent; "" for none.
        """
        if signal == "request_latency" and direction == "up":
            return self._of_latency(pair)
        known = of_cause(signal, cause)
        return known or _OF_SIGNAL.get((signal, direction), "")

    def _of_latency(self, pair: int) -> Side:
        if pair >= self.table.size:
            return ""
        known = self.table["base_n"][:, pair] > 0
        rise = np.where(known, self.table["recent"][:, pair] - self.table["base"][:, pair], 0.0)
        rise = np.maximum(rise, 0.0)
        if not known[_CLIENT_READ] and known[_SERVER_READ]:
            return "server"  # measured there, by its own time alone
        if rise[_REQUEST] <= 0.0 or not known[_CLIENT_READ]:
            return ""
        at_client, at_server = rise[_CLIENT_READ], rise[_SERVER] + rise[_SERVER_READ]
        on_the_way = max(rise[_REQUEST] - at_client - at_server, 0.0)
        if not known[_SERVER]:
            # nobody watches the server: what the way does not explain is the server's
            on_the_way = rise[_RTT]
            at_server = max(rise[_REQUEST] - at_client - on_the_way, 0.0) if known[_RTT] else 0.0
        shares: dict[Side, float] = {
            "client": at_client,
            "network": on_the_way,
            "server": at_server,
        }
        side = max(shares, key=lambda each: shares[each])
        return side if shares[side] > _MOST * rise[_REQUEST] else ""
