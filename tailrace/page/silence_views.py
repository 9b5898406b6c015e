"""Silences: those there are, a form for one more, and what comes of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from alerts import silences
from alerts.matchers import parse_all
from alerts.silences import Silence
from tailrace.durations import duration_s
from tailrace.page.render import render
from tailrace.page.source import Snapshot
from tailrace.page.views import Part

LENGTHS: Final[Mapping[str, str]] = {
    "30m": "30 minutes", "1h": "1 hour", "2h": "2 hours", "8h": "8 hours", "1d": "1 day",
    "3d": "3 days", "7d": "7 days",
}  # fmt: skip


class SilenceList:
    """The silences that have not ended."""

    title = "Silences"
    template = "silences.html"

    def __init__(self, *, form: str, made: str = "") -> None:
        """Take the mark of our forms, and the id of a silence that was just made."""
        self.form, self.made = form, made

    def parts(self, snapshot: Snapshot, now: float) -> Mapping[str, Part]:
        """Return the parts, as `View` says."""
        return {"silences": render("parts/silences.html", silences=snapshot.silences, now=now,
                                   token=self.form, made=self.made)}  # fmt: skip


def add(state_dir: Path, form: Mapping[str, str], *, now: float) -> Silence:
    """Leave the daemon the silence that a form asks for, as `tailrace silence add` does.

    Raises:
        ValueError: it asks for none; the message says what is wrong.
        StoreError: it cannot be stored.
    """
    try:
        texts = shlex.split(form.get("matchers", ""))
    except ValueError as error:
        raise ValueError(f"what to silence cannot be read: {error}") from None
    length = form.get("length", "")
    made = silences.make(
        parse_all(texts),
        starts=now,
        ends=now + duration_s(length),
        comment=form.get("comment", ""),
        author=form.get("author", ""),
        now=now,
    )
    silences.add(state_dir, made)
    return made
