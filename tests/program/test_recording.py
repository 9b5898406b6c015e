"""What is recorded reads back exactly, and what cannot be read is said clearly."""

from __future__ import annotations

import csv
import gzip
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.window import Mark, Pair, Window
from tailrace import recording, recording_parquet
from tailrace.errors import RecordingError
from tailrace.recording_csv import CsvRecorder
from tests.program.windows import WEB_API, same, traffic, window

NAMES = ["a.csv", "a.csv.gz", "a.parquet"]
HEADER = "time,client,server,port,signal,value,count\n"

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


def test_a_file_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + GOOD)
    with pytest.raises(RecordingError, match="given twice"):
        recording.load([path, tmp_path / ".." / tmp_path.name / "a.csv"])


def test_files_of_one_time_are_several_hosts(tmp_path: Path) -> None:
    for name, requests in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.csv").write_text(HEADER + f"1,a,b,80,requests,{requests},\n")
    recorded = recording.load([tmp_path / "a.csv", tmp_path / "b.csv"])
    ((found, rows, places),) = recorded.windows()
    assert found.value.tolist() == [3.0]
    assert (rows.tolist(), places.tolist()) == ([0, 1], [0, 0])


GOOD = "1,a,b,80,requests,1,\n"
BAD = {
    "value": ("1,a,b,80,requests,abc,\n", ":3: value 'abc' is not a number"),
    "infinite": ("1,a,b,80,requests,inf,\n", ":3: value is infinite"),
    "count": ("1,a,b,80,requests,1,-2\n", ":3: count is negative"),
    "time": ("yesterday,a,b,80,requests,1,\n", ":3: time 'yesterday' is neither"),
    "no zone": ("2025-01-01T00:00:00,a,b,80,requests,1,\n", "has no UTC offset: add Z"),
    "nan time": ("nan,a,b,80,requests,1,\n", ":3: time 'nan' is not a time"),
    "port": ("1,a,b,http,requests,1,\n", ":3: port 'http' is not a port"),
    "port range": ("1,a,b,65536,requests,1,\n", ":3: port '65536' is not a port"),
    "client": ("1,,b,80,requests,1,\n", ":3: client is empty"),
    "signal": ("1,a,b,80,,1,\n", ":3: signal is empty"),
    "short": ("1,a,b,80,requests\n", ":3: 5 values where the first line names 7 columns"),
    "twice": ("1.0,a,b,80,requests,2,\n", ":3: a second row for requests of a -> b:80/tcp"),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + GOOD + line + "3,a,b,80,requests,1,\n")
    with pytest.raises(RecordingError) as caught:
        recording.load([path])
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "remedy: " in str(caught.value)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("histogram", "5", ":3: histogram '5' cannot be read"),
        ("histogram", "5:1 4:1", ":3: histogram '5:1 4:1' cannot be read"),
        ("histogram", "976:1", ":3: histogram"),
        ("histogram", "5:0", ":3: histogram"),
        ("histogram", "1:2:3 4", ":3: histogram"),
        ("causes", "refused", ":3: causes 'refused' cannot be read"),
        ("causes", "refused:-1", ":3: causes"),
        ("marks", "c:12", ":3: marks 'c:12' cannot be read"),
        ("lost", "0.5", ":3: lost is not a whole number"),
        ("width", "x", ":3: width 'x' is not a number"),
    ],
)
def test_a_bad_optional_cell_is_named(tmp_path: Path, column: str, cell: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        f"time,client,server,port,signal,value,{column}\n1,a,b,1,rtt,1,\n2,a,b,1,rtt,1,{cell}\n"
    )
    with pytest.raises(RecordingError) as caught:
        recording.load([path])
    assert message in str(caught.value)


def test_line_numbers_count_blank_and_quoted_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + '1,"a\nb",b,80,requests,1,\n\n2,a,b,80,requests,x,\n')
    with pytest.raises(RecordingError, match=r"a\.csv:5: value"):
        recording.load([path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("time,client\n", "the column server is missing"),
        ("time,client,server,port,signal,value,value\n", "the column value is there twice"),
        ("a,b\n1,2\n", "the column time is missing"),
    ],
)
def test_a_bad_header_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(RecordingError, match=message):
        recording.load([path])


@pytest.mark.parametrize("file_name", NAMES)
def test_garbage_is_refused(tmp_path: Path, file_name: str) -> None:
    path = tmp_path / file_name
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(RecordingError, match=str(path)):
        recording.load([path])


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"name it \.csv, \.csv\.gz or \.parquet"):
        recording.create(tmp_path / "a.txt")


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    for file_name in NAMES:
        with pytest.raises(RecordingError, match="cannot read it: No such file"):
            recording.load([tmp_path / file_name])
    with pytest.raises(RecordingError, match="cannot write it: No such file"):
        recording.create(tmp_path / "no" / "a.csv")


def test_wherever_a_recording_is_cut_only_the_last_window_suffers(tmp_path: Path) -> None:
    whole = tmp_path / "whole.csv"
    made = list(traffic(3))
    with recording.create(whole) as recorder:
        for each in made:
            recorder.write(each)
    data = whole.read_bytes()
    second = len("\n".join(data.decode().split("\n")[:9])) + 1
    cut = tmp_path / "cut.csv"
    for length in range(second, len(data)):
        cut.write_bytes(data[:length])
        notes: list[str] = []
        found = list(recording.read([cut], note=notes.append))
        for one, other in zip(made[:2], found[:2], strict=True):
            same(one, other)
        lines = data[second:length].decode().split("\n")
        rows = len(found[2]) if len(found) == 3 else 0
        assert rows == len(lines) - 1 + lines[-1].endswith(",tcp")
        assert bool(notes) == (bool(lines[-1]) and not lines[-1].endswith(",tcp"))


def test_a_line_cut_in_a_foreign_file_is_skipped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + GOOD + "2,a,b,80,requ")
    notes: list[str] = []
    assert len(list(recording.read([path], note=notes.append))) == 1
    assert notes == [f"{path}:3: the last line is cut short, it is skipped"]
    path.write_text(HEADER + GOOD + "2,a,b,80,requests,5,")
    assert len(list(recording.read([path], note=notes.append))) == 2
    assert len(notes) == 1


def test_a_compressed_recording_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    made = list(traffic(3))
    with recording.create(path) as recorder:
        for each in made:
            recorder.write(each)
        killed = tmp_path / "killed.csv.gz"
        killed.write_bytes(path.read_bytes())
    with pytest.raises(EOFError), gzip.open(killed) as file:
        file.read()
    notes: list[str] = []
    found = list(recording.read([killed], note=notes.append))
    for one, other in zip(made, found, strict=True):
        same(one, other)
    assert notes == [f"{killed}: the file ends early, it was read as far as it goes"]


def test_an_unfinished_parquet_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with recording.create(path) as recorder:
        recorder.write(next(traffic(1)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordingError, match="not a complete Parquet file"):
        recording.load([path])


def test_foreign_parquet_types(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    table = pa.table(
        {
            "time": pa.array([1735689600500000000, 1735689601000000000], pa.timestamp("ns")),
            "client": ["a", "a"],
            "server": ["b", "b"],
            "port": pa.array([80, 80], pa.uint16()),
            "signal": ["requests", "requests"],
            "value": pa.array([1, None], pa.int64()),
        }
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    (found,) = recording.read([tmp_path / "a.parquet"])
    assert found.time == 1735689600.5
    assert found.pairs == (Pair("a", "b", 80),)
    assert found.value.tolist() == [1.0]
    for column, values, message in (
        ("port", ["x", "y"], "row 1: port 'x' is not a port"),
        ("value", ["x", "y"], "the column value is string"),
        ("client", [None, "a"], "row 1: client is empty"),
    ):
        index = table.column_names.index(column)
        parquet.write_table(
            table.set_column(index, column, pa.array(values)), tmp_path / "b.parquet"
        )
        with pytest.raises(RecordingError, match=message):
            recording.load([tmp_path / "b.parquet"])


def test_a_long_parquet_file_comes_in_pieces_with_the_same_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "long.parquet"
    windows = list(traffic(90, slow_from=40, slow_until=60))
    monkeypatch.setattr(recording_parquet, "_GROUP", 50)
    with recording.create(path) as recorder:
        for each in windows:
            recorder.write(each)
    # a window may begin in one group and end in the next
    pq.write_table(pq.read_table(path), path, row_group_size=50)
    assert recording.pieces(path) is None  # not as long as that
    monkeypatch.setattr(recording_parquet, "LONG", 100)
    monkeypatch.setattr(recording_parquet, "PIECE", 120)
    pieces = list(recording.pieces(path) or ())
    assert len(pieces) > 2
    again = [each for piece in pieces for each in piece]
    for one, other in zip(again, windows, strict=True):
        same(one, other)
    whole = recording.load([path])
    rows = [piece.place(row) for piece in pieces for row in range(len(piece))]
    assert rows == [whole.place(row) for row in range(len(whole))]


def test_a_long_parquet_file_out_of_order_is_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.parquet"
    monkeypatch.setattr(recording_parquet, "_GROUP", 50)
    monkeypatch.setattr(recording_parquet, "LONG", 100)
    with recording.create(path) as recorder:
        for each in [*traffic(60)][::-1]:
            recorder.write(each)
    assert recording.pieces(path) is None


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


def test_a_full_disk_is_one_message() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")

    with pytest.raises(RecordingError, match="cannot write it: No space left"):
        CsvRecorder(full)


def test_window_rows_of_one_pair() -> None:
    assert next(traffic(1)).pairs == (WEB_API,)
