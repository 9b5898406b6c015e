"""A signal's past as a chart of the page: small, and as markup."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from alerts.incident import Trigger
from detector.finding import Finding
from tailrace.history.reader import Series
from tailrace.report.past import line_of
from tailrace.report.pictures import describe
from tailrace.report.pictures import drawn as picture_of

_SIZE: Final = (420.0, 190.0)


def drawn(
    series: Series,
    *,
    title: str,
    since: float,
    until: float,
    finding: Finding | None = None,
    trigger: Trigger | None = None,
) -> Markup:
    """Return the chart of a signal, as `tailrace.report.pictures.drawn` makes it."""
    picture = picture_of(
        line_of(series, finding), title=title, since=since, until=until, size=_SIZE,
        desc=title if finding is None else describe(finding), finding=finding, trigger=trigger,
    )  # fmt: skip
    return Markup(picture)  # noqa: S704 - built as a tree, so it is escaped
