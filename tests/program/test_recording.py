"""What is recorded reads back exactly, and files of others are read as they are meant."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.window import Mark, Pair, Window
from tailrace import recording
from tests.program.windows import HEADER, NAMES, WEB_API, same, traffic, window

name = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False)
pair = st.builds(Pair, name, name, st.integers(0, 65535), st.sampled_from(["tcp", "udp"]))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    streams = draw(
        st.lists(
            st.tuples(
                pair,
                st.sampled_from(["requests", "request_latency", "resets", "queue", "connections"]),
            ),
            min_size=1,
            max_size=6,
            unique=True,
        )
    )
    count = st.one_of(st.just(math.nan), st.integers(0, 2**40).map(float))
    rows = [(p, s, draw(number), draw(count)) for p, s in streams]
    histogram = st.dictionaries(st.integers(0, 975), st.integers(1, 2**50), min_size=1, max_size=4)
    cause = st.dictionaries(
        st.sampled_from(["refused", "by_client"]), st.integers(0, 99), min_size=1
    )
    mark = st.builds(Mark, st.booleans(), st.integers(0, 2**64 - 1))
    marks = st.lists(mark, min_size=1, max_size=3).map(tuple)
    return window(
        rows,
        width=draw(st.one_of(st.just(math.nan), st.floats(1e-3, 1e3))),
        nominal=draw(st.sampled_from([math.nan, 0.1, 1.0, 60.0])),
        lost=draw(st.integers(0, 2**40)),
        histograms={
            i: draw(histogram) for i, row in enumerate(rows) if row[1] == "request_latency"
        },
        causes={i: draw(cause) for i, row in enumerate(rows) if row[1] == "resets"},
        marks={i: draw(marks) for i, row in enumerate(rows) if row[1] == "connections"},
    )


@pytest.mark.parametrize("file_name", NAMES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=st.lists(windows(), min_size=1, max_size=3), start=st.floats(0, 2e9))
def test_reads_back_exactly(
    tmp_path: Path, file_name: str, made: list[Window], start: float
) -> None:
    path = tmp_path / file_name
    placed = []
    with recording.create(path) as recorder:
        for index, each in enumerate(made):
            at = np.nextafter(start, math.inf) + index
            placed.append(
                Window(**{f: getattr(each, f) for f in Window.__slots__} | {"time": float(at)})
            )
            recorder.write(placed[-1])
    found = list(recording.read([path]))
    assert len(found) == len(placed)
    for one, other in zip(placed, found, strict=True):
        same(one, other)


def test_equal_windows_share_their_tuples(tmp_path: Path) -> None:
    with recording.create(tmp_path / "a.csv") as recorder:
        for each in traffic(2):
            recorder.write(each)
    first, second = recording.read([tmp_path / "a.csv"])
    assert first.pairs is second.pairs
    assert first.signals is second.signals


def test_minimal_columns_get_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "10,web,api,80,queue,3.5,\n")
    (found,) = recording.read([path])
    assert found.pairs == (Pair("web", "api", 80, "tcp"),)
    assert math.isnan(found.width)
    assert math.isnan(found.nominal)
    assert math.isnan(found.count[0])
    assert found.lost == 0
    assert len(found.histograms.row) == 0


def test_times_are_epoch_numbers_or_rfc_3339_and_rows_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        HEADER
        + "2025-01-01T00:00:02Z,web,api,80,requests,3,\n"
        + "1735689600,web,api,80,requests,1,\n"
        + "1735689601.0,web,api,80,requests,2,\n"
        + "2025-01-01T01:00:02.000+01:00,web,api,80,resets,0.5,4\n"
    )
    found = list(recording.read([path]))
    assert [each.time for each in found] == [1735689600.0, 1735689601.0, 1735689602.0]
    assert found[2].value.tolist() == [3.0, 0.5]


def test_an_empty_value_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "1,a,b,80,requests,,\n1,a,b,80,resets,0,3\n2,a,b,80,requests,,\n")
    recorded = recording.load([path])
    ((found, rows, places),) = recorded.windows()
    assert found.signals == ("resets",)
    assert rows.tolist() == [1]
    assert places.tolist() == [0]


def test_files_merge_by_time_and_scores_keep_the_input_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.parquet"
    one.write_text(
        HEADER + "2025-01-01T00:00:01Z,a,b,80,requests,7,\n1735689600,a,b,80,requests,,\n"
        '1735689602,"x, y",b,80,requests,9,\n'
    )
    with recording.create(two) as recorder:
        recorder.write(window([(Pair("c", "d", 1), "requests", 8.0, math.nan)], time=1735689601.0))
    recorded = recording.load([one, two])
    made = list(recorded.windows())
    assert [(w.time, w.value.tolist(), rows.tolist()) for w, rows, _ in made] == [
        (1735689601.0, [7.0, 8.0], [0, 3]),
        (1735689602.0, [9.0], [2]),
    ]
    recorded.write_scores(tmp_path / "s.csv", np.array([0.25, 0.0, 1.0, 0.5]))
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        "time,client,server,port,signal,score",
        "2025-01-01T00:00:01Z,a,b,80,requests,0.25",
        "1735689600,a,b,80,requests,0.0",
        '1735689602,"x, y",b,80,requests,1.0',
        "1735689601.0,c,d,1,requests,0.5",
    ]


def test_files_of_one_time_are_several_hosts(tmp_path: Path) -> None:
    for name, requests in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.csv").write_text(HEADER + f"1,a,b,80,requests,{requests},\n")
    recorded = recording.load([tmp_path / "a.csv", tmp_path / "b.csv"])
    ((found, rows, places),) = recorded.windows()
    assert found.value.tolist() == [3.0]
    assert (rows.tolist(), places.tolist()) == ([0, 1], [0, 0])


def test_unknown_columns_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,client,server,port,signal,value,histgram\n1,a,b,80,rtt,1,\n")
    notes: list[str] = []
    recording.load([path], note=notes.append)
    assert notes == [f"{path}: columns that mean nothing here: histgram"]


def test_a_hundred_thousand_rows_are_read_in_a_second_or_two(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        write = csv.writer(file)
        write.writerow(HEADER.strip().split(","))
        for second in range(1000):
            write.writerows(
                (1e9 + second, f"client-{i % 10}", "api", 80 + i // 10, "requests", i / 7, "")
                for i in range(100)
            )
    started = time.process_time()
    recorded = recording.load([path])
    made = list(recorded)
    took = time.process_time() - started
    assert len(recorded) == 100_000
    assert len(made) == 1000
    assert made[-1].value.tolist() == [i / 7 for i in range(100)]
    assert took < 3.0, f"{took:.2f} s of processor time"


def test_window_rows_of_one_pair() -> None:
    assert next(traffic(1)).pairs == (WEB_API,)
