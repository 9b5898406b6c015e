"""OTLP, received by a server that checks all of it against the protocol."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts.deliver import Backoff
from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Pair
from tailrace.daemon import Daemon
from tailrace.errors import ConfigError
from tailrace.export import attributes, encode, health_families, sender, text
from tailrace.export.checks import export_checks
from tailrace.export.encode import Batch, Event
from tailrace.export.exporter import Exporter
from tailrace.export.pair_families import Names
from tailrace.export.sender import Sender
from tailrace.export.settings import ExportSettings, OtlpSettings
from tailrace.export.totals import Totals
from tests.alerts import examples
from tests.program.listening import Listener, incident
from tests.program.test_export_totals import HOSTILE, busy
from tests.program.windows import WEB_API, window
from tests.servers.base import Answer
from tests.servers.otlp import OtlpServer
from tests.servers.otlp import attributes as read

PATIENT_S = 120.0
"""What takes longer never comes: a busy machine is slow."""
RESOURCE = attributes.resource({"deployment.environment.name": "test", "host.name": "mine"})


@pytest.fixture
def server() -> Iterator[OtlpServer]:
    with OtlpServer() as running:
        yield running
    assert running.wrong == []


def metrics(totals: Totals, names: Names = "tailrace") -> list[Batch]:
    return list(
        encode.metrics(
            [], totals.snapshot(), names, resource=RESOURCE, started=1.0, now=1_760_000_100.0
        )
    )


def sending(
    server: OtlpServer,
    *,
    collect: Callable[[], list[Batch]] = list,
    voice: Listener | None = None,
    interval_s: float = 3600.0,
    **more: Any,
) -> Sender:
    voice = voice or Listener()
    made = Sender(
        OtlpSettings(endpoint=server.base_url, interval_s=interval_s, timeout_s=PATIENT_S, **more),
        metrics=collect,
        resource=RESOURCE,
        warn=voice.warning,
        note=voice.note,
        backoff=Backoff(first_s=0.05, cap_s=0.2),
        jitter=lambda: 0.0,
    )
    made.start()
    return made


def counted(made: Sender) -> dict[tuple[str, ...], float]:
    """Return the sender's own metrics by name and labels."""
    return {
        (family.exposed, *sample.labels): sample.value
        for family, samples in made.measured()
        for sample in samples
    }


def event(number: int = 0) -> Event:
    return Event(examples.finding(id=f"{number:016x}"), "firing", 1_760_000_000.0)


def test_a_loop_sends_what_prometheus_would_read(
    tmp_path: Path, server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All metrics, with the same numbers; and each finding and incident as it comes and goes."""
    monkeypatch.setattr("tailrace.export.exporter.STOP_S", PATIENT_S)
    settings = ExportSettings(
        otlp=OtlpSettings(
            endpoint=f"{server.base_url}/", headers={"x-key": "word"}, interval_s=3600.0
        )
    )
    voice = Listener()
    with Store.open(tmp_path) as store:
        made = Exporter(
            settings, store=store, state_dir=tmp_path, warn=voice.warning, note=voice.note
        )
        made.start()
        daemon = Daemon(
            detector=Detector(DetectorSettings()), store=store, voice=voice, exporter=made
        )
        daemon.run(incident())
        exposed = text.pairs(made.snapshot(), "tailrace")
        made.stop()
    assert voice.warnings == []
    assert {request.headers["x-key"] for request in server.requests} == {"word"}

    points = server.points()
    requests = next(line for line in exposed.splitlines() if line.startswith("tailrace_pair_req"))
    labels = {
        "service.name": "web", "service.peer.name": "api", "server.port": 8080,
        "network.transport": "tcp",
    }  # fmt: skip
    known, point = points["tailrace.pair.requests"][-1]  # a slow machine has sent before
    assert known == labels
    assert requests.endswith(f" {point.as_int}")
    known, latency = points["tailrace.pair.request_latency"][-1]
    counts = [line for line in exposed.splitlines() if "request_latency_seconds_count" in line]
    assert [line.rpartition(" ")[2] for line in counts] == [str(latency.count)]
    assert sum(latency.bucket_counts) == latency.count
    _, windows = points["tailrace.windows"][-1]
    assert windows.as_int == 240
    built = points["tailrace.build.info"][0][0]
    assert built["tailrace.version"]

    found = server.records()
    names = [(record.event_name, record.severity_text) for _, record in found]
    assert ("tailrace.finding", "warning") in names
    assert ("tailrace.incident", "info") in names  # it is over
    firing = [
        known
        for known, record in found
        if record.event_name == "tailrace.finding" and known["tailrace.finding.state"] == "firing"
    ]
    assert labels.items() <= firing[0].items()
    assert firing[0]["tailrace.signal"] == "request_latency"
    events = [
        known["tailrace.incident.event"]
        for known, record in found
        if record.event_name == "tailrace.incident"
    ]
    assert events[0] == "firing"
    assert events[-1] == "resolved"


def test_who_sends_is_said_and_the_user_has_the_last_word(server: OtlpServer) -> None:
    made = sending(server)
    made.event(event())
    server.wait_for(lambda: server.logs, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    known = read(server.logs[0].resource_logs[0].resource.attributes)
    assert known["service.name"] == "tailrace"
    assert known["deployment.environment.name"] == "test"
    assert known["host.name"] == "mine"


def test_what_is_busy_is_tried_again_when_it_asks_to(server: OtlpServer) -> None:
    voice = Listener()
    server.next_answers.extend(
        [Answer(status=503, headers={"retry-after": "1"}), Answer(status=429), Answer(status=502)]
    )
    made = sending(server, voice=voice)
    made.event(event())
    server.wait_for(lambda: server.logs, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    arrived = [request.arrived for request in server.requests]
    assert len(arrived) == 4
    assert arrived[1] - arrived[0] >= 0.99
    assert len({request.body for request in server.requests}) == 1
    assert counted(made)["tailrace_otlp_sent_total", "logs"] == 1
    assert counted(made)["tailrace_otlp_failures_total", "logs"] == 3
    assert sum(v for k, v in counted(made).items() if k[0] == "tailrace_otlp_dropped_total") == 0
    [warning] = voice.warnings
    assert warning.startswith(
        f"OTLP: cannot send logs to {server.base_url}: HTTP status 503; tried"
    )
    assert voice.notes == ["OTLP: logs are sent again"]


def test_what_is_refused_is_dropped_and_counted(server: OtlpServer) -> None:
    voice = Listener()
    server.next_answers.append(Answer(status=401, body=b"who are you?"))
    made = sending(server, voice=voice, headers={"authorization": "Bearer s3cret"})
    made.event(event(1))
    server.wait_for(lambda: server.requests, timeout_s=PATIENT_S)
    made.event(event(2))
    server.wait_for(lambda: server.logs, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    assert [known["tailrace.finding.id"] for known, _ in server.records()] == [f"{2:016x}"]
    assert counted(made)["tailrace_otlp_dropped_total", "logs", "rejected"] == 1
    assert "not tried again" in voice.warnings[0]
    assert "s3cret" not in "".join(voice.warnings + voice.notes)


def test_what_is_rejected_in_part_is_counted(server: OtlpServer) -> None:
    voice = Listener()
    server.reject = 2
    table = Totals(10)
    table.add(busy(5))
    made = sending(server, voice=voice, collect=lambda: metrics(table), interval_s=0.1)
    server.wait_for(lambda: len(server.metrics) >= 2, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    found = counted(made)
    assert found["tailrace_otlp_dropped_total", "metrics", "rejected"] == 2
    assert found["tailrace_otlp_sent_total", "metrics"] == 5 * len(server.metrics) - 2
    assert voice.warnings == ["OTLP: metrics: 2 of 5 rejected: too old"]


def test_totals_that_cannot_be_sent_give_way_to_newer_ones(server: OtlpServer) -> None:
    server.next_answers.extend([Answer(status=503)] * 6)
    table = Totals(10)
    table.add(busy(3))
    made = sending(server, collect=lambda: metrics(table), interval_s=0.15)
    server.wait_for(lambda: server.metrics, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    found = counted(made)
    superseded = found["tailrace_otlp_dropped_total", "metrics", "superseded"]
    assert superseded >= 3
    assert superseded % 3 == 0
    assert found["tailrace_otlp_queue", "metrics"] == 0


def test_the_queue_is_bounded_and_the_newest_stays(
    server: OtlpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever puts something into it never waits, though nobody answers."""
    monkeypatch.setattr(sender, "MOST_QUEUED", 5)
    monkeypatch.setattr(sender, "MOST_RECORDS", 2)
    server.next_answers.append(Answer(status=503, delay_s=PATIENT_S))
    made = sending(server)
    made.event(event(0))
    server.wait_for(lambda: server.requests, timeout_s=PATIENT_S)  # and it is not answered
    for number in range(1, 101):
        made.event(event(number))
    found = counted(made)
    assert found["tailrace_otlp_dropped_total", "logs", "queue_full"] == 95
    assert found["tailrace_otlp_queue", "logs"] == 6
    server.down()
    server.up()
    server.wait_for(lambda: len(server.records()) >= 6, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    ids = [int(known["tailrace.finding.id"], 16) for known, _ in server.records()]
    assert ids == [0, 96, 97, 98, 99, 100]


def test_a_receiver_that_is_away_is_found_again(server: OtlpServer, tmp_path: Path) -> None:
    voice = Listener()
    server.down()
    made = sending(server, voice=voice)
    made.event(event())
    while not made.error:
        time.sleep(0.01)
    assert made.error == "ConnectError"
    assert "tried again" in voice.warnings[0]
    server.up()
    server.wait_for(lambda: server.logs, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    assert made.error == ""
    assert made.counts() == (1, 0, 0)


def test_what_is_left_at_the_end_is_said(server: OtlpServer) -> None:
    voice = Listener()
    server.down()
    made = sending(server, voice=voice)
    made.event(event())
    while not made.error:
        time.sleep(0.01)
    made.stop(PATIENT_S)
    assert voice.warnings[-1] == "OTLP: 1 findings and incidents could not be sent"
    server.up()


def test_many_points_are_many_requests(server: OtlpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "MOST_POINTS", 7)
    table = Totals(100)
    table.add(busy(40))
    batches = metrics(table)
    assert [batch.items for batch in batches] == [7, 7, 7, 7, 7, 5]
    made = sending(server, collect=lambda: batches, interval_s=0.1)
    server.wait_for(lambda: len(server.metrics) >= 6, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    names = {known["service.name"] for known, _ in server.points()["tailrace.pair.requests"]}
    assert len(names) == 40


def test_flowmill_by_otlp(server: OtlpServer) -> None:
    table = Totals(10)
    table.add(
        window([(WEB_API, "bytes_sent", 10.0, float("nan")),
                (WEB_API, "bytes_received", 30.0, float("nan")),
                (WEB_API, "connect_latency", 0.001, 4.0)])
    )  # fmt: skip
    made = sending(server, collect=lambda: metrics(table, "opentelemetry"), interval_s=0.1)
    server.wait_for(lambda: server.metrics, timeout_s=PATIENT_S)
    made.stop(PATIENT_S)
    points = server.points()
    ends = {
        (known["source.workload.name"], known["dest.workload.name"]): point.as_int
        for known, point in points["tcp.bytes"]
    }
    assert ends == {("web", "api"): 10, ("api", "web"): 30}
    known, connect = points["tailrace.pair.connect_latency"][0]
    assert known["source.workload.name"] == "web"
    assert connect.count == 4
    assert not connect.bucket_counts  # sum and number only


def test_hostile_names_are_text(server: OtlpServer) -> None:
    table = Totals(100)
    table.add(window([(Pair(n, n[::-1], 1), "requests", 1.0, float("nan")) for n in HOSTILE]))
    made = sending(server, collect=lambda: metrics(table), interval_s=0.1)
    for name in HOSTILE:
        about = dataclasses.replace(examples.finding(), pair=Pair(name, name, 1), cause=name)
        made.event(Event(about, "firing", 1e9))
    server.wait_for(
        lambda: server.metrics and len(server.records()) == len(HOSTILE), timeout_s=PATIENT_S
    )
    made.stop(PATIENT_S)
    [metric] = server.metrics[0].resource_metrics[0].scope_metrics[0].metrics
    assert sum(point.as_int for point in metric.sum.data_points) == len(HOSTILE)


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    settings = OtlpSettings(endpoint="https://localhost:4318", ca_file=tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        Sender(settings, metrics=list, resource=RESOURCE, warn=print, note=print)


def test_what_doctor_says_of_it(tmp_path: Path) -> None:
    config = tmp_path / "tailrace.toml"
    config.write_text('[otlp]\nendpoint = "http://127.0.0.1:9"\n')
    [check] = export_checks(tmp_path, config, now=0.0)
    assert (check.name, check.state) == ("otlp", "ok")
    (tmp_path / "export.json").write_text(
        '{"time": 100.0, "metrics": "", "otlp": {"sent": 5, "dropped": 2, "waiting": 1,'
        ' "error": "HTTP status 503"}}'
    )
    [check] = export_checks(tmp_path, config, now=101.0)
    assert check.state == "warn"
    assert check.detail == (
        "to http://127.0.0.1:9: 5 items sent, 2 dropped, 1 waiting; HTTP status 503"
    )


def test_every_metric_of_our_own_has_a_name_of_its_own() -> None:
    names = [family.name for family in health_families.FAMILIES]
    assert len(set(names)) == len(names)
    assert len({family.exposed for family in health_families.FAMILIES}) == len(names)
