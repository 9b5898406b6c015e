"""The least change that is news, as the configuration says it: by signal, or by kind of signal."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from detector.settings import MIN_CHANGE
from probes.window import SIGNALS, VIEWS, Kind, kind_of
from tailrace.durations import change

_JUDGED = {name for name, kind in SIGNALS.items() if kind is not Kind.PRESENCE} - VIEWS


def by_name(asked: Any) -> dict[str, float]:
    """Return fractions by name, from text like "20%" by name.

    Raises:
        ValueError: a name is neither a judged signal's nor a kind's, or a text is not a change.
    """
    if not isinstance(asked, Mapping):
        raise ValueError('a table, written like { requests = "20%" }')  # noqa: TRY004 - pydantic
    known, read = _JUDGED | MIN_CHANGE.keys(), {}
    for name, text in asked.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            meant = f", did you mean `{near[0]}`?" if near else ""
            raise ValueError(
                f"`{name}` is neither a signal that is judged nor a kind of signals "
                f"({', '.join(MIN_CHANGE)}){meant}"
            )
        try:
            value = change(text)
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from None
        kind = Kind(name) if name in MIN_CHANGE else kind_of(name)
        if kind is Kind.RATIO and value > 1.0:
            raise ValueError(f"`{name}`: a share is at most 100%, and so is its change")
        read[str(name)] = value
    return read
