"""Recordings in Parquet: unfinished ones, those of others, and long ones, read in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.window import Pair
from tailrace import recording, recording_parquet
from tailrace.errors import RecordingError
from tests.program.windows import same, traffic


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
