"""A receiver of OTLP over HTTP that checks what it gets against the protocol.

No collector is in Debian, on PyPI or npm; this one decodes with OpenTelemetry's own protocol and
refuses what a collector would refuse or could make no sense of.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from tests.servers.base import Answer, LocalServer, Request

CUMULATIVE = 2
_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/"


def attributes(of: Iterable[Any]) -> dict[str, Any]:
    """Return attributes as a dictionary; no key twice, none empty."""
    found: dict[str, Any] = {}
    for each in of:
        assert each.key
        assert each.key not in found, f"{each.key} twice"
        kind = each.value.WhichOneof("value")
        assert kind is not None, f"{each.key} has no value"
        value = getattr(each.value, kind)
        if kind == "array_value":
            value = [item.string_value for item in value.values]
        found[each.key] = value
    return found


class OtlpServer(LocalServer):
    """Keeps what it took; `wrong` has what it could not make sense of."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.logs: list[ExportLogsServiceRequest] = []
        self.wrong: list[str] = []
        self.reject = 0
        """So many items of the next request it says that it does not want."""

    def answer(self, request: Request) -> Answer:
        try:
            body, rejected = self._take(request), self.reject
        except Exception as error:
            self.wrong.append(f"{type(error).__name__}: {error}")
            return Answer(status=400)
        self.reject = 0
        if rejected:
            body.partial_success.error_message = "too old"
            field = "data_points" if request.path.endswith("metrics") else "log_records"
            setattr(body.partial_success, f"rejected_{field}", rejected)
        return Answer(
            body=body.SerializeToString(), headers={"content-type": "application/x-protobuf"}
        )

    def _take(self, request: Request) -> Any:
        assert request.method == "POST"
        assert request.headers["content-type"] == "application/x-protobuf"
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["user-agent"].startswith("tailrace/")
        body = gzip.decompress(request.body)
        if request.path == "/v1/metrics":
            metrics = ExportMetricsServiceRequest.FromString(body)
            _check_metrics(metrics)
            self.metrics.append(metrics)
            return ExportMetricsServiceResponse()
        assert request.path == "/v1/logs", request.path
        logs = ExportLogsServiceRequest.FromString(body)
        _check_logs(logs)
        self.logs.append(logs)
        return ExportLogsServiceResponse()

    def points(self) -> dict[str, list[tuple[Mapping[str, Any], Any]]]:
        """Return the points of all requests, by metric: their attributes, and they themselves."""
        found: dict[str, list[tuple[Mapping[str, Any], Any]]] = {}
        for request in self.metrics:
            for metric in request.resource_metrics[0].scope_metrics[0].metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                for point in data.data_points:
                    found.setdefault(metric.name, []).append((attributes(point.attributes), point))
        return found

    def records(self) -> list[tuple[Mapping[str, Any], Any]]:
        """Return all log records: their attributes, and they themselves."""
        return [
            (attributes(record.attributes), record)
            for request in self.logs
            for record in request.resource_logs[0].scope_logs[0].log_records
        ]


def _check_resource(of: Any) -> None:
    known = attributes(of.attributes)
    for name in ("service.name", "service.version", "service.instance.id", "host.name"):
        assert known[name], name


def _check_metrics(request: ExportMetricsServiceRequest) -> None:
    assert request.resource_metrics
    for resource in request.resource_metrics:
        _check_resource(resource.resource)
        for scope in resource.scope_metrics:
            assert scope.scope.name
            names = [metric.name for metric in scope.metrics]
            assert len(names) == len(set(names)), "a metric twice in one request"
            for metric in scope.metrics:
                _check_metric(metric)


def _check_metric(metric: Any) -> None:
    assert metric.name[0].isalpha()
    assert set(metric.name) <= set(_NAME), metric.name
    assert len(metric.name) <= 255
    assert metric.unit.isascii()
    assert metric.unit
    assert metric.description
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    assert data.data_points
    if kind in ("sum", "histogram"):
        assert data.aggregation_temporality == CUMULATIVE
    if kind == "sum":
        assert data.is_monotonic
    series = set()
    for point in data.data_points:
        known = tuple(sorted(attributes(point.attributes).items()))
        assert known not in series, f"{metric.name}: {known} twice"
        series.add(known)
        assert point.time_unix_nano
        if kind != "gauge":
            assert 0 < point.start_time_unix_nano <= point.time_unix_nano
        if kind == "histogram":
            assert len(point.bucket_counts) in (0, len(point.explicit_bounds) + 1)
            assert not point.bucket_counts or sum(point.bucket_counts) == point.count
            assert list(point.explicit_bounds) == sorted(set(point.explicit_bounds))
            assert point.HasField("sum")
        else:
            assert point.WhichOneof("value") is not None


def _check_logs(request: ExportLogsServiceRequest) -> None:
    assert request.resource_logs
    for resource in request.resource_logs:
        _check_resource(resource.resource)
        for scope in resource.scope_logs:
            assert scope.scope.name
            assert scope.log_records
            for record in scope.log_records:
                assert record.time_unix_nano
                assert record.observed_time_unix_nano
                assert record.severity_number
                assert record.severity_text
                assert record.body.string_value
                attributes(record.attributes)
