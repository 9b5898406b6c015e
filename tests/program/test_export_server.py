"""How `/metrics` is served: read-only, bounded, and never in the daemon's way."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from tailrace.daemon import Daemon
from tailrace.errors import TailraceError
from tailrace.export import exporter, server
from tailrace.export.checks import export_checks
from tailrace.export.exporter import Exporter
from tailrace.export.settings import ExportSettings
from tests.program.listening import Listener
from tests.program.windows import traffic
from tests.servers.prometheus import promtool

LOOPBACK = ("127.0.0.1", 0)


def exports(
    store: Store, voice: Listener, listen: tuple[str, int] | None, state_dir: Path | None = None
) -> Exporter:
    made = Exporter(
        ExportSettings(listen=listen),
        store=store,
        warn=voice.warning,
        note=voice.note,
        state_dir=state_dir,
    )
    made.start()
    return made


def daemon(store: Store, exported: Exporter) -> Daemon:
    detector = Detector(DetectorSettings())
    return Daemon(detector=detector, store=store, voice=Listener(), exporter=exported)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with Store.open(tmp_path) as store:
        made = exports(store, Listener(), LOOPBACK)
        daemon(store, made).run(traffic(60))
        yield f"http://127.0.0.1:{made.port}"
        made.stop()


def test_either_format_is_right_and_says_the_same(url: str) -> None:
    plain = httpx.get(f"{url}/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    opened = httpx.get(f"{url}/metrics", headers={"accept": "application/openmetrics-text"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")
    names = [
        {sample.name for family in families for sample in family.samples}
        for families in (read_text(plain.text), read_openmetrics(opened.text))
    ]
    assert names[0] == names[1]
    assert {"tailrace_build_info", "tailrace_pair_requests_total", "process_open_fds"} <= names[0]
    # promtool knows nothing of a summary without quantiles, and has no other objection
    promtool("check", "metrics", stdin=plain.content)
    again = httpx.get(f"{url}/metrics").text
    assert 'tailrace_export_scrapes_total{status="200"} 2.0' in again


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics"),
        ("application/openmetrics-text;version=9.0.0;escaping=dots", "application/openmetrics"),
        ("application/openmetrics-text;version=one", "application/openmetrics"),
        ("text/plain;version=one;escaping=\\", "text/plain"),
        (",;=", "text/plain"),
        ("x" * 60_000, "text/plain"),
    ],
)
def test_whatever_a_scraper_accepts(url: str, accept: str, content_type: str) -> None:
    answer = httpx.get(f"{url}/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert "tailrace_windows_total 60.0\n" in answer.text


def test_it_is_read_only(url: str) -> None:
    assert httpx.get(f"{url}/metrics?anything=1").status_code == 200
    assert httpx.get(url).status_code == 200
    assert httpx.get(f"{url}/-/reload").status_code == 404
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
        assert httpx.request(method, f"{url}/metrics").status_code == 501
    head = httpx.head(f"{url}/metrics")
    assert (head.status_code, head.content) == (200, b"")


def test_requests_that_are_none_are_turned_away(url: str) -> None:
    port = int(url.rpartition(":")[2])
    for garbage in (b"\x16\x03\x01\x02\x00\n\n", b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(garbage)
            assert client.recv(65_536)
    assert httpx.get(f"{url}/metrics").status_code == 200


def test_who_holds_on_to_connections_keeps_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a few at once are hung up on, and those few when they take too long."""
    monkeypatch.setattr(server, "SLOWEST_S", 1.0)
    made = server.Server(*LOOPBACK, answer=lambda _: (b"", "text/plain"), counted=lambda _: None)
    address = ("127.0.0.1", made.port)
    try:
        held = [socket.create_connection(address, timeout=20) for _ in range(server.MOST_AT_ONCE)]
        with socket.create_connection(address, timeout=20) as more:
            assert more.recv(1) == b""
        for each in held:
            assert each.recv(1) == b""  # closed, as nothing was asked in time
            each.close()
        assert httpx.get(f"http://127.0.0.1:{made.port}/metrics").status_code == 200
    finally:
        made.close()


def test_it_is_packed_for_those_beyond_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"tailrace 1\n" * 1000
    made = server.Server(*LOOPBACK, answer=lambda _: (body, "text/plain"), counted=lambda _: None)
    try:
        where = f"http://127.0.0.1:{made.port}/metrics"
        near = httpx.get(where)
        assert "content-encoding" not in near.headers
        monkeypatch.setattr(server, "is_loopback", lambda _: False)
        far = httpx.get(where)
        assert far.headers["content-encoding"] == "gzip"
        assert near.content == far.content == body
        assert int(far.headers["content-length"]) < len(gzip.compress(body, 1)) + 20
        plain = httpx.get(where, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
    finally:
        made.close()


def test_a_port_in_use_is_a_warning_and_the_daemon_goes_on(tmp_path: Path) -> None:
    config = tmp_path / "tailrace.toml"
    with socket.create_server(LOOPBACK) as taken, Store.open(tmp_path) as store:
        port = taken.getsockname()[1]
        config.write_text(f'[metrics]\nlisten = "127.0.0.1:{port}"\n')
        voice = Listener()
        made = exports(store, voice, ("127.0.0.1", port), tmp_path)
        daemon(store, made).run(traffic(5))
        [check] = export_checks(tmp_path, config, now=made._clock())
        made.stop()
    assert voice.warnings == [
        f"127.0.0.1:{port}: cannot serve metrics: Address already in use; "
        "name another address in [metrics] listen, or stop what listens there"
    ]
    assert check.state == "warn"
    assert check.detail == "not served: cannot serve metrics: Address already in use"


def test_beyond_loopback_is_said(tmp_path: Path) -> None:
    voice = Listener()
    with Store.open(tmp_path) as store:
        made = exports(store, voice, ("0.0.0.0", 0))
        assert httpx.get(f"http://127.0.0.1:{made.port}/metrics").status_code == 200
        made.stop()
    assert voice.warnings == [
        "metrics are served beyond this host, on 0.0.0.0: whoever reaches it can read them"
    ]


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("example.com", False)],
)  # fmt: skip
def test_what_is_loopback(host: str, near: bool) -> None:
    assert server.is_loopback(host) is near


def test_ipv6_and_names_that_are_none() -> None:
    made = server.Server("::1", 0, answer=lambda _: (b"x 1\n", ""), counted=lambda _: None)
    assert httpx.get(f"http://[::1]:{made.port}/metrics").text == "x 1\n"
    made.close()
    with pytest.raises(TailraceError, match="cannot serve metrics"):
        server.Server("192.0.2.1", 9470, answer=lambda _: (b"", ""), counted=lambda _: None)


def test_scrapes_while_windows_come_in(tmp_path: Path) -> None:
    """Totals are of whole windows, and never decrease, whoever asks meanwhile."""
    found: list[list[float]] = [[], [], []]
    done = threading.Event()
    with Store.open(tmp_path) as store:
        made = exports(store, Listener(), LOOPBACK)

        def scrape(values: list[float]) -> None:
            while not done.is_set():
                for family in read_text(made.exposition()[0].decode()):
                    if family.name == "tailrace_pair_requests":
                        values += [sample.value for sample in family.samples]

        scrapers = [threading.Thread(target=scrape, args=(values,)) for values in found]
        for each in scrapers:
            each.start()
        daemon(store, made).run(traffic(150))
        done.set()
        for each in scrapers:
            each.join()
        made.stop()
    assert any(found)
    assert all(values == sorted(values) for values in found)
    windows = [round(window.value[1]) for window in traffic(150)]
    reached = {sum(windows[:n]) for n in range(151)}
    assert set().union(*found) <= reached


def test_a_restart_is_what_prometheus_takes_for_a_reset(tmp_path: Path) -> None:
    """Everything counted begins again at or below where it was; nothing else comes back."""
    counted: list[dict[tuple[str, str], float]] = []
    for seconds in (120, 60):
        with Store.open(tmp_path) as store:
            made = exports(store, Listener(), LOOPBACK)
            made.stop()
            daemon(store, made).run(traffic(seconds))
            counted.append(
                {
                    (sample.name, str(sorted(sample.labels.items()))): sample.value
                    for family in read_text(made.exposition()[0].decode())
                    if family.type in ("counter", "histogram") and "tailrace" in family.name
                    for sample in family.samples
                }
            )
    before, after = counted
    assert after.keys() <= before.keys()
    assert all(value <= before[key] for key, value in after.items())


def test_what_doctor_says(tmp_path: Path) -> None:
    config = tmp_path / "tailrace.toml"
    config.write_text('[metrics]\nlisten = "127.0.0.1:9470"\n')
    [check] = export_checks(tmp_path, config, now=0.0)
    assert (check.state, check.detail) == ("ok", "for 127.0.0.1:9470, once the daemon runs")
    file = tmp_path / exporter.FILE
    with Store.open(tmp_path) as store:
        made = exports(store, Listener(), LOOPBACK, tmp_path)
        daemon(store, made).run(traffic(3))
        made._publish()
        now = json.loads(file.read_text())["time"]
        [check] = export_checks(tmp_path, config, now=now + 1)
        assert check.detail == f"http://127.0.0.1:{made.port}/metrics, 1 service pairs"
        [stale] = export_checks(tmp_path, config, now=now + 100)
        assert stale.detail == "for 127.0.0.1:9470, once the daemon runs"
        made.stop()
    assert not file.exists()
    config.write_text("")
    assert list(export_checks(tmp_path, config, now=0.0)) == []
