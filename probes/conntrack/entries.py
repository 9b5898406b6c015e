"""Translated connections, and what became of a flow on its way through several translations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from probes.conntrack.wire import Entry, mirror

MOST: Final = 1 << 16
_HOPS: Final = 8


class Hop(NamedTuple):
    """An entry, and the namespace in which it is."""

    netns: int
    entry: Entry


class Entries:
    """What conntrack holds, of all namespaces, as far as it is translated.

    Attributes:
        refused: how many were not kept, because there were too many.
    """

    def __init__(self, most: int = MOST) -> None:
        """Start empty; keep `most` at a time."""
        self._most = most
        self._by_reply: dict[int, dict[bytes, bytes]] = {}
        self._by_orig: dict[int, dict[bytes, bytes]] = {}
        self._number = 0
        self.refused = 0

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Hop]:
        for netns, known in self._by_reply.items():
            for reply, orig in known.items():
                yield Hop(netns, Entry(orig, reply))

    def count(self, netns: int) -> int:
        """Return how many are of a namespace."""
        return len(self._by_reply.get(netns, ()))

    def replies(self, netns: int) -> set[bytes]:
        """Return the reply tuples of a namespace's."""
        return set(self._by_reply.get(netns, ()))

    def add(self, netns: int, entry: Entry) -> bool:
        """Keep one; return whether it is new, and there was room."""
        by_reply = self._by_reply.setdefault(netns, {})
        before = by_reply.get(entry.reply)
        if before == entry.orig:
            return False
        if before is not None:  # its end was missed
            self.remove(netns, Entry(before, entry.reply))
        if self._number >= self._most:
            self.refused += 1
            return False
        by_reply[entry.reply] = entry.orig
        self._by_orig.setdefault(netns, {})[entry.orig] = entry.reply
        self._number += 1
        return True

    def remove(self, netns: int, entry: Entry) -> bool:
        """Forget one; return whether it was known."""
        by_reply, by_orig = self._by_reply.get(netns, {}), self._by_orig.get(netns, {})
        if by_reply.get(entry.reply) != entry.orig:
            return False
        del by_reply[entry.reply]
        if by_orig.get(entry.orig) == entry.reply:
            del by_orig[entry.orig]
        self._number -= 1
        return True

    def drop(self, netns: int) -> list[Entry]:
        """Forget a namespace; return what was known of it."""
        gone = [Entry(orig, reply) for reply, orig in self._by_reply.pop(netns, {}).items()]
        self._by_orig.pop(netns, None)
        self._number -= len(gone)
        return gone

    def chain(self, hop: Hop) -> list[Hop]:
        """Return all translations of the flow that `hop` is one of, from client to server.

        [] if that is not certain: two namespaces say otherwise, or it goes round in a circle.
        """
        chain = [hop]
        while before := self._find(self._by_reply, mirror(chain[0].entry.orig)):
            if len(before) > 1 or len(chain) >= _HOPS:
                return []
            netns, key, value = before[0]
            chain.insert(0, Hop(netns, Entry(value, key)))
        while after := self._find(self._by_orig, mirror(chain[-1].entry.reply)):
            if len(after) > 1 or len(chain) >= _HOPS:
                return []
            netns, key, value = after[0]
            chain.append(Hop(netns, Entry(key, value)))
        return chain

    @staticmethod
    def _find(tables: dict[int, dict[bytes, bytes]], key: bytes) -> list[tuple[int, bytes, bytes]]:
        return [
            (netns, key, table[key]) for netns, table in tables.items() if table and key in table
        ]
