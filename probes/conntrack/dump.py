"""All that a namespace's conntrack holds, asked for and told part by part."""

from __future__ import annotations

from probes.conntrack import wire
from probes.conntrack.namespaces import Namespace
from probes.conntrack.wire import Entry


class Dump:
    """A namespace's connections, being told.

    Attributes:
        whose: the namespace.
        unseen: reply tuples of what was known before, and has not been told yet.
        gone: entries that ended meanwhile: an answer may be older than that.
    """

    def __init__(self, whose: Namespace, known: set[bytes]) -> None:
        """Ask.

        Args:
            whose: the namespace.
            known: reply tuples of what is known of it.

        Raises:
            OSError: the namespace is gone.
        """
        self.whose = whose
        self.unseen = known
        self.gone: set[Entry] = set()
        self._requests = list(wire.dump_requests())
        self._over = False
        self._socket = whose.dump_socket()

    def step(self) -> list[Entry] | None:
        """Return the next of them; None at the end.

        Raises:
            OSError: the kernel's refusal.
        """
        if self._over:
            return None
        found: list[Entry] = []
        try:
            found.extend(entry for _, entry in wire.events(self._socket.recv(1 << 16)))
        except (BlockingIOError, wire.StopDump):  # the last part may have had some
            if self._requests:
                self._socket.send(self._requests.pop(0))
            else:
                self._over = True
        return found

    def heard(self, entry: Entry, *, new: bool) -> None:
        """Something was told of an entry meanwhile."""
        if new:
            self.gone.discard(entry)
            self.unseen.discard(entry.reply)
        else:
            self.gone.add(entry)

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()
