"""Which pair, as one host sees it, is which pair of another host: found by common connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from probes.window import Mark, Pair

_MOST: Final = 100_000
_FORGET_S: Final = 300.0
"""A meeting counts for so long; those that go on are told again every minute, see Tracker."""
_WAIT_S: Final = 5.0
"""For so long a mark may stay without its other end: the hosts' windows differ a little."""


class End(NamedTuple):
    """A pair as one host sees it, at one of its ends."""

    host: str
    pair: Pair


class _Connection:
    """One connection, by its mark: where its two ends were seen."""

    __slots__ = ("client", "first", "last", "server")

    def __init__(self, time: float) -> None:
        self.first = self.last = time
        self.client: End | None = None
        self.server: End | None = None


class Meetings:
    """Puts together what several hosts saw of the same connections."""

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}
        self._servers: dict[End, dict[End, float]] = {}  # client's end: servers' ends, last met
        self._clients: dict[End, dict[End, float]] = {}
        self._lonely: dict[End, dict[int, _Connection]] = {}  # server's end: marks without a client

    def __bool__(self) -> bool:
        return bool(self._servers)

    def note(self, host: str, pair: Pair, marks: Iterable[Mark], time: float) -> None:
        """Take note of connections that a host has seen.

        Args:
            host: which.
            pair: its name for the pair.
            marks: of some of its connections.
            time: epoch seconds.
        """
        end = End(host, pair)
        for mark in marks:
            # last seen, last forgotten
            seen = self._connections.pop(mark.value, None) or _Connection(time)
            self._connections[mark.value] = seen
            seen.last = time
            if mark.client:
                seen.client = end
            else:
                seen.server = end
                self._lonely.setdefault(end, {})[mark.value] = seen
            if seen.client and seen.server:
                self._servers.setdefault(seen.client, {})[seen.server] = time
                self._clients.setdefault(seen.server, {})[seen.client] = time
                self._lonely[seen.server].pop(mark.value, None)
        while len(self._connections) > _MOST:
            del self._connections[next(iter(self._connections))]

    def forget(self, time: float) -> None:
        """Let go of what was not seen for long."""
        for meetings in (self._servers, self._clients):
            for end, met in list(meetings.items()):
                meetings[end] = {other: at for other, at in met.items() if at > time - _FORGET_S}
                if not meetings[end]:
                    del meetings[end]
        for end, marks in list(self._lonely.items()):
            self._lonely[end] = {m: seen for m, seen in marks.items() if seen.last > time - 120.0}
            if not self._lonely[end]:
                del self._lonely[end]

    def of_client(self, end: End) -> Pair:
        """Return what a pair seen at the client's end is called: by its server's own host.

        As the client's host calls it when nobody saw the server, or when several different
        services answer: then it is known by the address they have in common.
        """
        names = {(other.pair.server, other.pair.port) for other in self._servers.get(end, ())}
        if len(names) != 1:
            return end.pair
        ((server, port),) = names
        return end.pair._replace(server=server, port=port)

    def of_server(self, end: End) -> list[Pair]:
        """Return the pairs that one seen at the server's end is, by its clients' own hosts.

        Several where the clients have an address in common; none when nobody saw a client.
        """
        names = {other.pair.client for other in self._clients.get(end, ())}
        return [end.pair._replace(client=name) for name in sorted(names)]

    def is_whole(self, end: End, time: float) -> bool:
        """Return whether all clients of a pair, seen at the server's end, were seen themselves."""
        marks = self._lonely.get(end, {})
        return all(seen.first > time - _WAIT_S for seen in marks.values())
