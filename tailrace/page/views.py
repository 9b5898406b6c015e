"""What a view of the page is: parts of HTML that are made again when something changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from markupsafe import Markup

from tailrace.page.source import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a list.

    Attributes:
        html: it.
        cells: the texts in it that change with every window, in order.
        rest: another one means that something else of it changed, too.
    """

    html: Markup
    cells: Sequence[str]
    rest: str


@dataclass(frozen=True, slots=True)
class Rows:
    """A part that is a list, of which only what changed is sent: lines by key, in order."""

    items: Mapping[str, Row]

    def __html__(self) -> str:
        """Return the whole part."""
        return "".join(row.html for row in self.items.values())


Part = Markup | Rows


class View(Protocol):
    """One visitor's view; it may remember what it made last."""

    @property
    def title(self) -> str:
        """What the window is called."""

    @property
    def template(self) -> str:
        """The template of the whole page, which takes `parts`."""

    def parts(self, snapshot: Snapshot, now: float) -> Mapping[str, Part]:
        """Return the parts that follow what changes, by name."""


def digest(part: Part) -> str:
    """Return what tells a part from another."""
    return hashlib.blake2b(part.__html__().encode(), digest_size=6).hexdigest()


class Seldom:
    """Makes a part anew only some time after the last: what is costly, and changes with time."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._made: tuple[float, Markup] | None = None

    def __call__(self, now: float, make: Callable[[], Markup]) -> Markup:
        """Return the part, made anew if it is time."""
        if self._made is None or now >= self._made[0] + self._every_s:
            self._made = now, make()
        return self._made[1]
