"""`tailrace pairs`: what the pairs of a running daemon do now, the odd ones first."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from probes.window import Pair
from tailrace import recording, state
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.pairs import PairTable, publish
from tests.program.windows import WEB_API, traffic, window
from tests.support.daemon import ROOT

pytestmark = pytest.mark.usefixtures("alone")


def test_pairs_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = PairTable()
    for each in traffic(3):
        table.add(each)
    (tmp_path / "state").mkdir()
    publish(
        tmp_path / "state" / state.PAIRS,
        table,
        now=time.time(),
        window_s=1.0,
        condition=Condition(),
    )
    assert main(["pairs", "-o", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["client"], row["server"], row["port"], row["transport"]) == (*WEB_API,)
    assert 150 < row["requests"] < 250
    assert row["request_latency"]["p50"] == pytest.approx(0.002, rel=0.1)
    assert main(["pairs", "-o", "csv"]) == 0
    (flat,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert float(flat["request_latency_p99"]) == row["request_latency"]["p99"]
    assert main(["pairs"]) == 0
    assert "api:8080" in capsys.readouterr().out


def test_the_odd_pair_comes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").mkdir()

    def shown(windows: int) -> str:
        table = PairTable()
        for tick in range(windows):
            rows = []
            for i, name in enumerate("abcdef"):
                rate = 90.0 + 10.0 * i + tick % 5
                rate *= 4.0 if name == "d" and tick >= 50 else 1.0
                rows.append((Pair(name, "api", 80), "requests", rate, math.nan))
                rows.append((Pair(name, "api", 80), "bytes_sent", 300.0 * rate, math.nan))
            table.add(window(rows, time=1.7e9 + tick))
        file = tmp_path / "state" / state.PAIRS
        publish(file, table, now=time.time(), window_s=1.0, condition=Condition())
        assert main(["pairs", "--sort", "odd", "-o", "jsonl"]) == 0
        return capsys.readouterr().out

    rows = [json.loads(line) for line in shown(60).splitlines()]
    assert rows[0]["client"] == "d"
    assert rows[0]["oddity"] > 2 * rows[1]["oddity"]
    assert rows[0]["deviation"]["rate"] > 5
    assert rows[0]["deviation"].keys() == {"rate", "bytes"}
    assert main(["pairs", "--sort", "odd"]) == 0
    captured = capsys.readouterr()
    first = next(line for line in captured.out.splitlines() if "api:80" in line)
    assert first.split()[0] == "d"
    assert "rate +" in first
    assert "distance from what pairs do now" in captured.err
    rows = [json.loads(line) for line in shown(20).splitlines()]
    assert [row["client"] for row in rows] == list("abcdef")
    assert main(["pairs", "--sort", "odd"]) == 0
    assert "once a daemon has seen 30 windows" in capsys.readouterr().err


def test_pairs_of_a_daemon_that_died(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").mkdir()
    publish(
        tmp_path / "state" / state.PAIRS,
        PairTable(),
        now=time.time() - 60,
        window_s=1.0,
        condition=Condition(),
    )
    assert main(["pairs"]) == 1
    assert "the daemon has stopped working" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    with recording.create(file) as recorder:
        for second in range(300):
            rows = [(Pair(f"c{i}", "s", i), "requests", 1.0, math.nan) for i in range(50)]
            recorder.write(window(rows, time=float(second)))
    table = PairTable()
    for each in recording.read([file]):
        table.add(each)
    directory = tmp_path / "state"
    directory.mkdir()
    publish(
        directory / state.PAIRS, table, now=time.time() + 60, window_s=1.0, condition=Condition()
    )
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "tailrace", "pairs", "-o", "jsonl"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
        )
    finally:
        os.close(write)
    assert ended.stderr == ""
    assert ended.returncode == 0
