"""What is shown and in which order; keys change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from tailrace.pairs import Row

Order = Literal["requests", "errors", "latency", "odd", "name"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
_BY_KEY: Final[Mapping[str, Order]] = {order[0]: order for order in ORDERS}
_FAILURES: Final = ("connect_errors", "resets", "dns_errors", "drops")
_LONGEST_FILTER: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a user has chosen.

    Attributes:
        order: which pairs come first.
        text: only pairs in which this occurs, whatever its case; "" for all.
        typing: whether keys go into `text`.
        first: how many rows are scrolled past.
        done: whether the user wants to leave.
    """

    order: Order = "requests"
    text: str = ""
    typing: bool = False
    first: int = 0
    done: bool = False

    def pressed(self, key: str, *, page: int, rows: int) -> View:
        """Return what it is after a key.

        Args:
            key: a character, or a name of `tailrace.top.terminal.NAMED`.
            page: how many rows are shown at a time.
            rows: how many there are to show.
        """
        if self.typing:
            return self._typed(key)
        if key in _BY_KEY:
            return replace(self, order=_BY_KEY[key], first=0)
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page,
                 "home": -self.first}  # fmt: skip
        if key in moves:
            last = max(0, rows - page)
            return replace(self, first=min(max(0, self.first + moves[key]), last))
        others: Mapping[str, dict[str, Any]] = {
            "q": {"done": True},
            "/": {"typing": True, "first": 0},
            "escape": {"text": "", "first": 0},
        }
        return replace(self, **others.get(key, {}))

    def _typed(self, key: str) -> View:
        match key:
            case "enter":
                return replace(self, typing=False)
            case "escape":
                return replace(self, typing=False, text="")
            case "backspace":
                return replace(self, text=self.text[:-1])
        if len(key) == 1 and key.isprintable() and len(self.text) < _LONGEST_FILTER:
            return replace(self, text=self.text + key)
        return self

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that it shows, in its order; `first` is not taken off."""
        wanted = self.text.casefold()
        shown = [row for row in rows if wanted in _name(row).casefold()]
        if self.order == "name":
            return sorted(shown, key=_name)
        key = _KEYS[self.order]
        return sorted(shown, key=lambda row: (-key(row), -requests(row), _name(row)))


def requests(row: Row) -> float:
    """Return a pair's requests per second, else its connections."""
    value = row.get("requests", row.get("connections"))
    return 0.0 if value is None else float(value)


def failures(row: Row) -> float | None:
    """Return the largest share of anything of a pair that fails; None when nothing is known."""
    known = [row[name] for name in _FAILURES if row.get(name) is not None]
    return max(known, default=None)


def latency(row: Row, quantile: str) -> float | None:
    """Return a quantile of a pair's request latency, seconds; None when it is not known."""
    known: Mapping[str, Any] = row.get("request_latency") or {}
    value = known.get(quantile)
    return None if value is None else float(value)


def _name(row: Row) -> str:
    return f"{row['client']} {row['server']}:{row['port']}/{row['transport']}"


_KEYS: Final[Mapping[Order, Callable[[Row], float]]] = {
    "requests": requests,
    "errors": lambda row: failures(row) or 0.0,
    "latency": lambda row: latency(row, "p50") or 0.0,
    "odd": lambda row: float(row.get("oddity", -1.0)),
}
