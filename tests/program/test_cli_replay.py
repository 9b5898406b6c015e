"""`tailrace replay`: what a recording shows, the same whenever it is asked."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tailrace import recording
from tailrace.cli import main
from tests.program.windows import traffic

pytestmark = pytest.mark.usefixtures("alone")


def test_replay_is_repeatable_and_scores_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.parquet"
    with recording.create(file) as recorder:
        for each in traffic(180, slow_from=120):
            recorder.write(each)
    outputs = []
    for number in range(2):
        scores = tmp_path / f"{number}.csv"
        assert main(["replay", str(file), "--scores", str(scores), "-o", "jsonl"]) == 0
        captured = capsys.readouterr()
        assert captured.err.splitlines()[-1].startswith("720 rows in 180 windows, ")
        outputs.append((captured.out, scores.read_bytes()))
    assert outputs[0] == outputs[1]
    assert "request_latency" in outputs[0][0]
    rows = list(csv.DictReader(io.StringIO(outputs[0][1].decode())))
    assert len(rows) == 720

    # by another engine
    knobs = tmp_path / "knobs.toml"
    knobs.write_text('[detector]\nmodel = "river-page-hinkley"\n')
    assert main(["replay", str(file), "--config", str(knobs), "-o", "jsonl"]) == 0
    captured = capsys.readouterr()
    found = [json.loads(line) for line in captured.out.splitlines()]
    assert "judged by river-page-hinkley: false_alerts does not hold for it" in captured.err
    assert found[0]["signal"] == "request_latency"
    assert [each["significance"] for each in found] == [0.0] * len(found)
    assert all(0.0 <= float(row["score"]) <= 1.0 for row in rows)
    latency = [float(row["score"]) for row in rows if row["signal"] == "request_latency"]
    assert min(latency[121:125]) > max(latency[100:119])


def test_a_broken_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.csv"
    file.write_text(
        "time,client,server,port,signal,value,count\n1,a,b,80,rtt,x,\n2,a,b,80,rtt,1,\n"
    )
    assert main(["replay", str(file)]) == 1
    assert capsys.readouterr().err == (
        f"error: {file}:2: value 'x' is not a number\n"
        "  remedy: write a number, or nothing when unknown\n"
    )
