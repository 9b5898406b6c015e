"""OTLP's protobuf: metrics from the totals, log records from findings and incidents.

Of OpenTelemetry's packages only the protocol itself is used: the SDK measures what a program does
as it does it, and has no way in for a histogram that was counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1 import metrics_pb2

import tailrace
from alerts.incident import Incident
from detector.finding import Finding
from tailrace.export import attributes, columns, points
from tailrace.export.attributes import Attributes, Value
from tailrace.export.family import Family, Measured
from tailrace.export.pair_families import FIRING, Names
from tailrace.export.points import Points
from tailrace.export.totals import Snapshot
from tailrace.status import sentence

MOST_POINTS: Final = 5_000
"""In one request: about 1 MB before it is packed; receivers refuse what is very large."""
_CUMULATIVE: Final = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_SEVERITY: Final = {
    "critical": SeverityNumber.SEVERITY_NUMBER_ERROR,
    "warning": SeverityNumber.SEVERITY_NUMBER_WARN,
    "info": SeverityNumber.SEVERITY_NUMBER_INFO,
}


class Event(NamedTuple):
    """A finding that began or ended, or an incident of which something became.

    Attributes:
        about: which.
        event: what became of it.
        observed: when that was known here, epoch seconds.
    """

    about: Finding | Incident
    event: str
    observed: float


class Batch(NamedTuple):
    """The body of one request, and how many points or records are in it."""

    body: bytes
    items: int


def metrics(
    measured: list[Measured],
    snapshot: Snapshot,
    names: Names,
    *,
    resource: Attributes,
    started: float,
    now: float,
) -> Iterator[Batch]:
    """Yield all metrics, in requests of at most `MOST_POINTS` points.

    Args:
        measured: what is of no service pair.
        snapshot: of the totals.
        names: the vocabulary.
        resource: who sends it.
        started: when what is of no pair began to be counted, epoch seconds.
        now: epoch seconds.
    """
    builder = _Builder(resource, now)
    for family, samples in measured:
        for sample in samples:
            own = attributes.own(family.labels, sample.labels)
            builder.number(family, sample.value, _encoded(own), since=started)
            yield from builder.full()
    encoded = _Rows(snapshot, names)
    for family, found in points.points(snapshot, names):
        for each in found:
            yield from builder.pairs(family, each, encoded.of(each), snapshot)
    for whose, (signal, direction) in points.firing(snapshot):
        known = attributes.row(whose, names)
        known |= {"tailrace.signal": signal, "tailrace.direction": direction}
        builder.number(FIRING, 1.0, _encoded(known), since=whose.since)
        yield from builder.full()
    yield from builder.rest()


class _Rows:
    """The attributes of the rows, which are the same in each of a row's points: written once."""

    def __init__(self, snapshot: Snapshot, names: Names) -> None:
        self._snapshot, self._names = snapshot, names
        self._known: dict[tuple[bool, bool], list[bytes]] = {}

    def of(self, found: Points) -> list[bytes]:
        """Return them as the fields of points."""
        histogram = found.series.family.type in ("histogram", "summary")
        turned = found.series.turned
        if (histogram, turned) not in self._known:
            self._known[histogram, turned] = [
                _encoded(attributes.row(whose, self._names, turned=turned), histogram=histogram)
                for whose in self._snapshot.rows
            ]
        return self._known[histogram, turned]


class _Builder:
    """The request at hand."""

    def __init__(self, resource: Attributes, now: float) -> None:
        self._resource = _key_values(resource)
        self._now = _ns(now)
        self._begin()

    def _begin(self) -> None:
        self._request = ExportMetricsServiceRequest()
        of = self._request.resource_metrics.add()
        of.resource.attributes.extend(self._resource)
        self._scope = of.scope_metrics.add()
        self._scope.scope.name, self._scope.scope.version = "tailrace", tailrace.__version__
        self._of: dict[str, Any] = {}
        self._items = 0

    def full(self) -> Iterator[Batch]:
        """Yield the request if nothing more fits into it."""
        if self._items >= MOST_POINTS:
            yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        """Yield the request if anything is in it."""
        if self._items:
            yield Batch(self._request.SerializeToString(), self._items)
            self._begin()

    def number(self, family: Family, value: float, encoded: bytes, *, since: float) -> None:
        """Add a point of a counter or gauge."""
        point = self._point(family, encoded, since)
        if family.type == "counter":
            point.as_int = round(value)
        else:
            point.as_double = value

    def pairs(
        self, family: Family, of: Points, encoded: list[bytes], snapshot: Snapshot
    ) -> Iterator[Batch]:
        """Add a point for each row."""
        more = _encoded(attributes.own(family.labels, of.series.labels))
        distribution = family.type in ("histogram", "summary")
        values = of.value.tolist()
        counts = of.samples.tolist() if distribution else ()
        buckets = of.buckets.tolist()
        for at, row in enumerate(of.rows.tolist()):
            since = snapshot.rows[row].since
            if distribution:
                point = self._point(family, encoded[row], since)
                point.count, point.sum = counts[at], values[at]
                if buckets:
                    point.explicit_bounds.extend(columns.BOUNDS_S)
                    point.bucket_counts.extend(buckets[at])
            else:
                self.number(family, values[at], encoded[row] + more, since=since)
            yield from self.full()

    def _point(self, family: Family, encoded: bytes, since: float) -> Any:
        self._items += 1
        point = self._data(family).data_points.add()
        point.MergeFromString(encoded)
        if family.type != "gauge":
            # A clock that was set back must not make a total end before it began
            point.start_time_unix_nano = min(_ns(since), self._now)
        point.time_unix_nano = self._now
        return point

    def _data(self, family: Family) -> Any:
        found = self._of.get(family.name)
        if found is not None:
            return found
        metric = self._scope.metrics.add()
        metric.name, metric.description, metric.unit = family.name, family.help, family.unit
        if family.type == "gauge":
            data: Any = metric.gauge
        elif family.type == "counter":
            data = metric.sum
            data.is_monotonic = True
            data.aggregation_temporality = _CUMULATIVE
        else:
            data = metric.histogram
            data.aggregation_temporality = _CUMULATIVE
        self._of[family.name] = data
        return data


def logs(events: list[Event], *, resource: Attributes) -> Batch:
    """Return log records of what was found."""
    request = ExportLogsServiceRequest()
    of = request.resource_logs.add()
    of.resource.attributes.extend(_key_values(resource))
    scope = of.scope_logs.add()
    scope.scope.name, scope.scope.version = "tailrace", tailrace.__version__
    scope.log_records.extend(map(_record, events))
    return Batch(request.SerializeToString(), len(events))


def _record(event: Event) -> LogRecord:
    about = event.about
    if isinstance(about, Finding):
        at = about.detected if about.ended is None else about.ended
        severity = "warning" if about.state == "firing" else "info"
        text, known = sentence(about), attributes.finding(about)
        name = "tailrace.finding"
    else:
        at, severity = about.changed, about.severity if about.resolved is None else "info"
        text, known = about.summary or about.title, attributes.incident(about, event.event)
        name = "tailrace.incident"
    return LogRecord(
        time_unix_nano=_ns(at),
        observed_time_unix_nano=_ns(event.observed),
        severity_number=_SEVERITY[severity],
        severity_text=severity,
        event_name=name,
        body=AnyValue(string_value=_utf8(text)),
        attributes=_key_values(known),
    )


def _encoded(of: Attributes, *, histogram: bool = False) -> bytes:
    """Return attributes as the field of a point, whose number depends on the kind of point."""
    point = metrics_pb2.HistogramDataPoint if histogram else metrics_pb2.NumberDataPoint
    return bytes(point(attributes=_key_values(of)).SerializeToString())


def _key_values(of: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in of.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=_utf8(value))
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_any(each) for each in value]))


def _utf8(text: str) -> str:
    """Return text that UTF-8 can hold: a name may have half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _ns(epoch_s: float) -> int:
    return max(0, round(epoch_s * 1e9))
