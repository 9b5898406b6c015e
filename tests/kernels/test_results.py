"""Results over a console that others write to as well, and what counts as passing."""

from __future__ import annotations

import io

import pytest

from tests.kernels.report import document, table
from tests.kernels.results import (
    LOST,
    Check,
    GarbledError,
    Hook,
    Result,
    passes,
    read_results,
    write_end,
    write_result,
)

HOOK = Hook("sent", "raw_tracepoint sock_send_length", "tracepoint", 412, [])
SMALL = Hook("sent", "kprobe tcp_sendmsg", "kprobe", 0, ["not asked for", "too old"])
GOOD = Check("keep-alive", "requests", 200, 200)
BAD = Check("keep-alive", "bytes_sent", 20000, 19900)


def _result(family: str = "auto", **fields: object) -> Result:
    return Result(kernel="6.1.0-50-amd64", family=family, **fields)  # type: ignore[arg-type]


def _lines(*results: Result, end: bool = True) -> list[str]:
    text = io.StringIO()
    for result in results:
        write_result(result, text)
    if end:
        write_end(text)
    return text.getvalue().splitlines()


def test_they_come_back_as_they_were() -> None:
    sent = [
        _result(checks=[GOOD, BAD], hooks=[HOOK, SMALL], notes=["a \u2013 note\n"], started_s=1.5),
        _result("kprobe", absent="built without kprobes"),
    ]
    noise = ["[    3.1] virtme-ng-init: starting", "", "mounted"]
    assert read_results([*noise, *_lines(*sent), "reboot: Power down"]) == sent


def test_something_before_the_mark_does_no_harm() -> None:
    lines = _lines(_result(checks=[GOOD]))
    assert len(read_results(["[ 9.1] half a line " + lines[0] + "  ", lines[1]])) == 1


def test_a_damaged_line_is_an_error() -> None:
    lines = _lines(_result(checks=[GOOD]))
    lines[0] = lines[0].replace("200", "[ 9.123] usb 200", 1)
    with pytest.raises(GarbledError, match="damaged"):
        read_results(lines)


@pytest.mark.parametrize(("sent", "said"), [([], "nothing"), ([_result(checks=[GOOD])], "auto")])
def test_an_early_end_is_an_error(sent: list[Result], said: str) -> None:
    with pytest.raises(GarbledError, match=f"did not come to its end; done was: {said}"):
        read_results(_lines(*sent, end=False))


@pytest.mark.parametrize(
    ("result", "state"),
    [
        (_result(checks=[GOOD]), "pass"),
        (_result(checks=[GOOD, BAD]), "FAIL"),
        (_result(checks=[]), "FAIL"),
        (_result(checks=[GOOD], error="it broke"), "FAIL"),
        (_result(error="refused"), "FAIL"),
        (_result(absent="no such kprobe"), "absent"),
    ],
)
def test_states(result: Result, state: str) -> None:
    assert result.state == state


@pytest.mark.parametrize(
    ("seen", "slack", "passed"),
    [(200, 0, True), (199, 0, False), (199, 1, True), (198, 1, False), (201, 1, True),
     ("nothing", 5, False)],
)  # fmt: skip
def test_slack(seen: int | str, slack: int, passed: bool) -> None:
    assert Check("s", "requests", 200, seen, slack).passed is passed


def test_a_kernel_passes_only_with_auto() -> None:
    good, absent, bad = _result(checks=[GOOD]), _result(absent="no"), _result("kprobe", error="x")
    assert passes([good])
    assert passes([good, _result("kprobe", absent="no")])
    assert not passes([])
    assert not passes([absent])
    assert not passes([good, bad])
    assert not passes([_result("kprobe", checks=[GOOD])])


def test_the_table_says_what_failed_and_why() -> None:
    lost = Check("", LOST, 0, 2, 15)
    text = table({"6.1": [_result(checks=[GOOD, BAD, lost], started_s=3.21)], "9.9": "no such one"})
    assert "6.1.0-50-amd64  auto   FAIL    2 of 3  2     3.2 s" in text
    assert "auto: keep-alive: bytes_sent is 19900, not 20000" in text
    assert "9.9: no such one" in text


def test_the_document_keeps_what_was_written_by_hand() -> None:
    mark = "<!-- From here on written by scripts/kernels --write. -->\n"
    results = [
        _result(checks=[GOOD], hooks=[HOOK]),
        _result("kprobe", checks=[GOOD], hooks=[SMALL]),
    ]
    text = document([results], f"# By hand\n\n{mark}old results\n")
    assert text.startswith(f"# By hand\n\n{mark}")
    assert "old results" not in text
    assert "| 6.1.0-50-amd64 | auto | pass | 1 of 1 | 0 |" in text
    assert "| sent | raw_tracepoint sock_send_length, 412 | kprobe tcp_sendmsg |" in text
    assert "- kprobe, sent: not asked for; too old" in text
    assert document([results], text) == text
    with pytest.raises(ValueError, match="put it back"):
        document([results], "# By hand\n")
