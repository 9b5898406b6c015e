"""The commands that watch, on this host's real kernel."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from alerts.grouping import Incidents
from alerts.store import Store
from detector.engine import Detector
from detector.finding import Finding
from probes.window import Pair
from tailrace import recording

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    """A server with one client that asks it steadily."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    done = threading.Event()
    address = ("127.0.0.1", server.server_port)

    def ask() -> None:
        connection = http.client.HTTPConnection(*address)
        while not done.wait(0.01):
            connection.request("GET", "/")
            connection.getresponse().read()
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    yield server.server_port
    done.set()
    asking.join()
    server.shutdown()
    serving.join()
    server.server_close()


def tailrace(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tailrace", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def finished(*arguments: str) -> tuple[int, str, str]:
    with tailrace(*arguments) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_daemon_from_start_to_sigterm(tmp_path: Path, port: int) -> None:
    file = tmp_path / "recorded.csv"
    where = ("--state-dir", str(tmp_path))
    with tailrace("run", "--window", "200ms", "--record", str(file), *where) as process:
        assert process.stderr is not None
        deadline = time.monotonic() + 30
        while not (tmp_path / "pairs.json").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(2.5)
        code, out, err = finished("pairs", "-o", "json", *where)
        assert code == 0, err
        (row,) = (row for row in json.loads(out) if row["port"] == port)
        assert 10 < row["requests"] < 110
        assert 0 < row["request_latency"]["p50"] <= row["request_latency"]["p99"] < 1
        code, _, err = finished("run", *where)
        assert code == 1
        assert f"another tailrace (process {process.pid}) is using" in err
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err
    assert not (tmp_path / "pairs.json").exists()
    with Store.open(tmp_path, read_only=True) as store:
        snapshot = store.snapshot("detector")
    assert snapshot is not None
    assert Detector.from_bytes(snapshot).learning().learning > 0
    recorded = list(recording.read([file]))
    assert len(recorded) >= 10
    for window in recorded[1:]:  # the first begins when it can
        assert window.time / 0.2 == pytest.approx(round(window.time / 0.2), abs=1e-4)
    # one that was held up by a busy machine is longer, and nothing is left out
    assert all(b.time - a.time == pytest.approx(a.width, abs=0.15) for a, b in pairwise(recorded))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_record_and_watch_without_a_daemon(tmp_path: Path, port: int, name: str) -> None:
    file = tmp_path / name
    code, out, err = finished("record", str(file), "--duration", "1s", "--window", "250ms")
    assert (code, out) == (0, "")
    assert err.splitlines()[-1].startswith("4 windows, ")
    windows = list(recording.read([file]))
    assert len(windows) == 4
    assert all(any(pair.port == port for pair in window.pairs) for window in windows)
    assert all(window.nominal == 0.25 for window in windows)


def test_pairs_without_a_daemon(tmp_path: Path, port: int) -> None:
    code, out, err = finished(
        "pairs", "--duration", "1s", "-o", "jsonl", "--state-dir", str(tmp_path)
    )
    assert code == 0
    assert "no daemon is running: watching this host for 1s" in err
    assert port in [json.loads(line)["port"] for line in out.splitlines()]


def test_ctrl_c(tmp_path: Path) -> None:
    with tailrace("run", "--state-dir", str(tmp_path)) as process:
        assert process.stderr is not None
        while "watching this host" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_an_incident_that_the_detector_has_forgotten_ends(tmp_path: Path) -> None:
    forgotten = Finding(
        id="f0f0", pair=Pair("web", "api", 80), signal="requests", direction="down", onset=1e9,
        detected=1e9 + 5, before=10.0, after=0.0, ratio=0.0, unit="1/s", significance=9.0,
        cause="", state="firing",
    )  # fmt: skip
    with Store.open(tmp_path) as store:
        store.register_receivers(["pager"])
        incidents = Incidents()
        for second in (5.0, 15.0):
            changes = incidents.step([forgotten], now=1e9 + second)
            store.commit([forgotten], snapshot=b"not a detector", now=1e9 + second,
                         incidents=changes, grouping=incidents.to_bytes())  # fmt: skip
    code, _, err = finished("run", "--state-dir", str(tmp_path), "--duration", "2s")
    assert code == 0, err
    assert "set aside" in err
    with Store.open(tmp_path, read_only=True) as store:
        assert store.finding("f0f0").state == "adopted"
        assert [(i.state, i.ended_as) for i in store.incidents()] == [("resolved", "adopted")]
