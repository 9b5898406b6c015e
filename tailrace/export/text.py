"""Prometheus' text formats.

The library writes what is of no pair. What is of pairs can be a hundred thousand lines, which take
it half a second: here they take a fifteenth of that, in the same form (the tests read both with the
library's own parsers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from prometheus_client import Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from tailrace.export import columns, points
from tailrace.export.family import Family, Measured
from tailrace.export.pair_families import FIRING, Names
from tailrace.export.points import Points
from tailrace.export.totals import Snapshot, Whose

_END: Final = b"# EOF\n"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS: Final = "application/openmetrics-text"
_LE: Final = (*map(repr, columns.BOUNDS_S), "+Inf")
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Health(Collector):
    """What is of no pair, as the library wants it."""

    def __init__(self, measured: Iterable[Measured], others: Sequence[Collector]) -> None:
        self._measured, self._others = measured, others

    def collect(self) -> Iterable[Metric]:
        for family, samples in self._measured:
            metric = Metric(family.prometheus, family.help, family.type, family.suffix)
            for sample in samples:
                labels = dict(zip(family.labels, sample.labels, strict=True))
                metric.add_sample(family.exposed, labels, sample.value)
            yield metric
        for other in self._others:
            yield from other.collect()


def exposition(
    accept: str,
    *,
    measured: Iterable[Measured],
    others: Sequence[Collector] = (),
    snapshot: Snapshot,
    names: Names,
) -> tuple[bytes, str]:
    """Return all that is exported, and its content type.

    Args:
        accept: the scraper's Accept header: it gets OpenMetrics if it asks for it.
        measured: what is of no service pair.
        others: collectors of the library's own, of the process.
        snapshot: of the totals.
        names: the vocabulary.
    """
    health = _Health(measured, others)
    # Not by the library: it fails at versions that are none, and escapes names as it is asked to
    if all(part.split(";")[0].strip() != _OPENMETRICS for part in accept.lower().split(",")):
        return generate_latest(health) + pairs(snapshot, names).encode(), _TEXT
    write: Callable[[Collector], bytes] = openmetrics_exposition.generate_latest
    body = write(health).removesuffix(_END)
    text = pairs(snapshot, names, openmetrics=True).encode()
    return body + text + _END, f"{_OPENMETRICS}; version=1.0.0; charset=utf-8"


def pairs(snapshot: Snapshot, names: Names, *, openmetrics: bool = False) -> str:
    """Return the lines of all service pairs."""
    straight = [_labels(whose, names, turned=False) for whose in snapshot.rows]
    around = straight
    if names != "tailrace":
        around = [_labels(whose, names, turned=True) for whose in snapshot.rows]
    lines: list[str] = []
    for family, found in points.points(snapshot, names):
        lines.append(_head(family, openmetrics=openmetrics))
        for each in found:
            lines += _lines(family, each, around if each.series.turned else straight)
    fires = points.firing(snapshot)
    if fires:
        lines.append(_head(FIRING, openmetrics=openmetrics))
        lines += [
            f'{FIRING.exposed}{{{_labels(whose, names)},signal="{_escaped(signal)}",'
            f'direction="{direction}"}} 1\n'
            for whose, (signal, direction) in fires
        ]
    return "".join(lines)


def _labels(whose: Whose, names: Names, *, turned: bool = False) -> str:
    values = points.labels(whose, names, turned=turned)
    pairs = zip(points.PAIR_LABELS[names], values, strict=True)
    # To Prometheus a label without a value is none
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs if value)


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _head(family: Family, *, openmetrics: bool) -> str:
    name = family.prometheus if openmetrics else family.exposed
    unit = f"# UNIT {name} {family.suffix}\n" if openmetrics and family.suffix else ""
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n{unit}"


def _lines(family: Family, of: Points, labels: Sequence[str]) -> list[str]:
    mine = [labels[row] for row in of.rows.tolist()]
    name = family.exposed
    if family.type in ("counter", "gauge"):
        own = "".join(
            f',{label}="{_escaped(value)}"'
            for label, value in zip(family.labels, of.series.labels, strict=True)
        )
        values: list[float] = of.value.tolist()
        if family.type == "counter":  # 12, not 12.0: a third less to write, and to read
            values = np.rint(of.value).astype(np.int64).tolist()
        return [
            f"{name}{{{label}{own}}} {value!r}\n" for label, value in zip(mine, values, strict=True)
        ]
    lines = []
    counts, sums = of.samples.tolist(), of.value.tolist()
    if not len(of.buckets):
        for label, count, sum_s in zip(mine, counts, sums, strict=True):
            lines.append(f"{name}_count{{{label}}} {count}\n{name}_sum{{{label}}} {sum_s!r}\n")
        return lines
    starts = [f'{name}_bucket{{le="{le}",' for le in _LE]
    for label, reached, sum_s in zip(
        mine, np.cumsum(of.buckets, axis=1).tolist(), sums, strict=True
    ):
        end = f"{label}}} "
        lines += [f"{start}{end}{upto}\n" for start, upto in zip(starts, reached, strict=True)]
        lines.append(f"{name}_count{{{end}{reached[-1]}\n{name}_sum{{{end}{sum_s!r}\n")
    return lines
