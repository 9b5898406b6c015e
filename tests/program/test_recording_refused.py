"""What cannot be read or written is said clearly, and of what is cut short the rest is read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tailrace import recording
from tailrace.errors import RecordingError
from tailrace.recording_csv import CsvRecorder
from tests.program.windows import HEADER, NAMES, same, traffic

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


def test_a_file_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + GOOD)
    with pytest.raises(RecordingError, match="given twice"):
        recording.load([path, tmp_path / ".." / tmp_path.name / "a.csv"])


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


def test_a_full_disk_is_one_message() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")

    with pytest.raises(RecordingError, match="cannot write it: No space left"):
        CsvRecorder(full)
