"""What `tailrace pairs` says about the last windows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from probes.histogram import bucket_of
from probes.window import Pair
from tailrace.condition import Condition
from tailrace.errors import TailraceError
from tailrace.pairs import PairTable, publish, published, published_by
from tests.program.windows import WEB_API, traffic, window


def test_rates_are_means_ratios_are_pooled() -> None:
    table = PairTable()
    table.add(
        window([(WEB_API, "requests", 10.0, math.nan), (WEB_API, "resets", 1.0, 1.0)], width=1.0)
    )
    table.add(
        window([(WEB_API, "requests", 40.0, math.nan), (WEB_API, "resets", 0.0, 9.0)], width=2.0)
    )
    (row,) = table.rows()
    assert row == {
        "client": "web",
        "server": "api",
        "port": 8080,
        "transport": "tcp",
        "requests": pytest.approx(30.0),
        "resets": pytest.approx(0.1),
    }


def test_where_clients_asked() -> None:
    asked = {WEB_API: ["10.96.0.10:80", "[fd96::10]:80"]}
    table = PairTable(asked=lambda pair: asked.get(pair, []))
    other = Pair("cron", "db", 5432)
    table.add(window([(WEB_API, "requests", 1.0, math.nan), (other, "requests", 1.0, math.nan)]))
    by_client = {row["client"]: row for row in table.rows()}
    assert by_client["web"]["asked"] == ["10.96.0.10:80", "[fd96::10]:80"]
    assert "asked" not in by_client["cron"]


def test_latencies_are_quantiles_of_all_samples() -> None:
    fast, slow = (int(bucket_of(ns)) for ns in (1_000_000, 100_000_000))
    table = PairTable()
    other = Pair("cron", "db", 5432)
    rows = [(other, "rtt", 0.5, 3.0), (WEB_API, "request_latency", 0.001, 90.0)]
    table.add(window(rows, histograms={1: {fast: 90}}))
    table.add(window(rows, histograms={1: {slow: 10}}))
    by_client = {row["client"]: row for row in table.rows()}
    latency = by_client["web"]["request_latency"]
    assert latency["p50"] == pytest.approx(0.001, rel=0.07)
    assert latency["p90"] == pytest.approx(0.001, rel=0.07)
    assert latency["p99"] == pytest.approx(0.1, rel=0.07)
    assert by_client["cron"]["rtt"] == {"p50": 0.5, "p90": None, "p99": None}


def test_how_the_daemon_does_goes_with_it(tmp_path: Path) -> None:
    file, table = tmp_path / "pairs.json", PairTable()
    table.add(next(traffic(1)))
    condition = Condition(
        level=1, user=0.004, kernel=None, budget=0.005, reason="not permitted",
        lost={"latencies": 7}, naming=("docker.sock: it has ended the connection",),
    )  # fmt: skip
    publish(file, table, now=100.0, window_s=1.0, condition=condition)
    found = published_by(file, now=101.0)
    assert found is not None
    assert found.condition == condition
    assert found.rows == table.rows()
    data = json.loads(file.read_text())
    for broken in ({}, [], {**data["condition"], "lost": 3}, {**data["condition"], "user": "x"}):
        file.write_text(json.dumps({**data, "condition": broken}))
        with pytest.raises(TailraceError, match="not the daemon's file"):
            published_by(file, now=101.0)


def test_only_the_last_windows_count() -> None:
    table = PairTable(windows=2)
    table.add(window([(Pair("old", "api", 1), "requests", 1.0, math.nan)]))
    for each in traffic(2):
        table.add(each)
    assert [row["client"] for row in table.rows()] == ["web"]
    assert len(table) == 1
    assert PairTable().rows() == []


def test_the_file(tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    assert published(file, now=0.0) is None
    table = PairTable()
    for each in traffic(3):
        table.add(each)
    publish(file, table, now=100.0, window_s=1.0, condition=Condition())
    assert json.loads(file.read_text())["schema"] == "tailrace.pairs/1"
    assert published(file, now=105.0) == table.rows()
    with pytest.raises(TailraceError, match="the daemon has stopped working; the last"):
        published(file, now=111.0)
    publish(file, table, now=100.0, window_s=60.0, condition=Condition())
    assert published(file, now=350.0) == table.rows()
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.json"]
    file.write_text("{")
    with pytest.raises(TailraceError, match="not the daemon's file"):
        published(file, now=0.0)


def test_with_both_ends_seen_their_difference_is_told() -> None:
    table = PairTable()
    rows = [
        (WEB_API, "bytes_sent", 100.0, math.nan),
        (WEB_API, "server_bytes_received", 90.0, math.nan),
        (WEB_API, "requests", 7.0, math.nan),
        (WEB_API, "request_latency", 0.010, 4.0),
        (WEB_API, "server_latency", 0.004, 4.0),
        (WEB_API, "client_read_latency", 0.001, 4.0),
    ]
    table.add(window(rows))
    (row,) = table.rows()
    assert row["difference"] == {
        "bytes_sent": pytest.approx(10.0),
        "request_latency": pytest.approx(0.005),
    }
