"""Server-sent events: of a visitor's view, the parts that changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from alerts.errors import StoreError
from tailrace.errors import TailraceError
from tailrace.page.source import Source
from tailrace.page.views import Part, Rows, View, digest

EVERY_S: Final = 1.0
"""A view is looked at for changes so often."""
SHARE: Final = 10.0
"""And no more often than takes one tenth of the time."""
ALIVE_EVERY_S: Final = 15.0
"""A stream without news says so often that it is still there."""
STREAMS: Final = 32


class Streams:
    """All streams of this process; they are bounded in number."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.open = 0

    async def of(self, view: View, *, have: Collection[str]) -> AsyncIterator[str]:
        """Yield what changes in a view, as events.

        Args:
            view: it.
            have: digests of parts that the visitor has.
        """
        self.open += 1
        try:
            known = Known(have)
            version, said = -1, time.monotonic()
            yield "retry: 2000\n\n"
            while True:
                began = time.monotonic()
                snapshot = await run_in_threadpool(self._source.current)
                if snapshot.version != version:
                    version = snapshot.version
                    parts: Mapping[str, Part] = {}
                    with contextlib.suppress(StoreError, TailraceError):
                        # what cannot be read now is asked for again with the next change
                        parts = await run_in_threadpool(view.parts, snapshot, time.time())
                    if changed := known.changed(parts):
                        yield f"id: {version}\ndata: {text(changed)}\n\n"
                        said = began
                if began - said >= ALIVE_EVERY_S:
                    yield ": still here\n\n"
                    said = began
                await asyncio.sleep(max(EVERY_S, SHARE * (time.monotonic() - began)))
        finally:
            self.open -= 1


class Known:
    """What a visitor has of a view."""

    def __init__(self, have: Collection[str] = ()) -> None:
        self._have = set(have)
        self._sent: dict[str, Part] = {}

    def changed(self, parts: Mapping[str, Part]) -> dict[str, Any]:
        """Return what the visitor does not have, and take it as sent; empty for nothing."""
        whole: dict[str, str] = {}
        lists: dict[str, Any] = {}
        for name, part in parts.items():
            sent = self._sent.get(name)
            self._sent[name] = part
            if sent is None and digest(part) in self._have:
                continue
            if isinstance(part, Rows):
                if changed := _rows(part, sent if isinstance(sent, Rows) else Rows({})):
                    lists[name] = changed
            elif part != sent:
                whole[name] = str(part)
        return {key: each for key, each in (("parts", whole), ("lists", lists)) if each}


def _rows(part: Rows, sent: Rows) -> dict[str, Any]:
    """Return what is another in a list: whole lines, only their cells, their order."""
    rows: dict[str, str] = {}
    cells: dict[str, Sequence[str]] = {}
    for key, row in part.items.items():
        before = sent.items.get(key)
        if before is None or before.rest != row.rest:
            rows[key] = str(row.html)
        elif before.cells != row.cells:
            cells[key] = row.cells
    order = [] if list(part.items) == list(sent.items) else list(part.items)
    changed = {"rows": rows, "cells": cells, "order": order}
    if not part.items and sent.items:
        return {"order": []}
    return {key: each for key, each in changed.items() if each}


def text(message: Mapping[str, Any]) -> str:
    """Return a message as one line."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
