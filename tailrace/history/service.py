"""The history beside the daemon's loop: a thread of its own, and a queue nobody waits for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from probes.window import Window
from tailrace.history.database import FILE
from tailrace.history.keeper import Keeper
from tailrace.history.names import MAX_PAIRS
from tailrace.history.settings import HistorySettings

FLUSH_S = 10.0
"""What is complete is stored so often: a crash loses no more of the finest tier."""
QUEUE_WINDOWS = 60
"""So many windows wait while the disk is slow; what finds no place is dropped, and counted."""


class History:
    """Keeps windows in the background, so that a slow or full disk delays nothing else."""

    def __init__(
        self,
        state_dir: Path,
        settings: HistorySettings,
        *,
        note: Callable[[str], None],
        warn: Callable[[str], None],
        max_pairs: int = MAX_PAIRS,
    ) -> None:
        """Start the thread.

        Args:
            state_dir: where `history.db` is.
            settings: what is kept.
            note: told what is worth knowing, from the thread.
            warn: told what is wrong and goes on, from the thread.
            max_pairs: so many pairs are kept at most.
        """
        self._keeper = Keeper(state_dir / FILE, settings, note=note, warn=warn, max_pairs=max_pairs)
        self._warn = warn
        self._queue: queue.Queue[Window | None] = queue.Queue(QUEUE_WINDOWS)
        self._dropped = 0  # written by the daemon's thread only
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def add(self, window: Window) -> None:
        """Take one window, or count it as lost; returns at once."""
        try:
            self._queue.put_nowait(window)
        except queue.Full:
            if not self._dropped:
                self._warn("history: the disk is too slow, windows are dropped from it")
            self._dropped += 1

    def waiting(self) -> int:
        """Return how many windows wait for the thread."""
        return self._queue.qsize()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, timeout_s: float = 30.0) -> None:
        """Store what there is, the steps under way too; wait no longer than this."""
        deadline = time.monotonic() + timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            pass
        else:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._warn("history: the disk is too slow, the last windows are not in it")

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # its end must neither be silent nor the daemon's
            self._warn(
                f"history: it ends here, by a fault of Tailrace ({type(error).__name__}: {error}):"
                " please report it"
            )
            while self._queue.get() is not None:
                pass

    def _work(self) -> None:
        keeper = self._keeper
        due = time.monotonic() + FLUSH_S
        keeper.flush()  # opens the file, and says what is in it
        while True:
            try:
                window = self._queue.get(timeout=max(0.0, due - time.monotonic()))
                if window is None:
                    break
                keeper.add(window)
            except queue.Empty:
                pass
            if time.monotonic() >= due:
                self._count_dropped()
                keeper.flush()
                due = time.monotonic() + FLUSH_S
        self._count_dropped()
        keeper.close()

    def _count_dropped(self) -> None:
        if self._dropped:
            self._keeper.lost["windows while the disk was slow"] = self._dropped
