"""Reports of a real store and history, in every format."""

from __future__ import annotations

import dataclasses
import json
import re
import time
import xml.etree.ElementTree as Tree
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from alerts.budget import Budget
from alerts.grouping import Incidents
from alerts.incident import Trigger
from alerts.store import Store
from detector.engine import Detector
from detector.finding import Finding, finding_id, rfc3339
from detector.settings import DetectorSettings
from probes.window import Pair
from tailrace import pairs, state
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.daemon import Daemon
from tailrace.history.database import FILE
from tailrace.history.keeper import Keeper
from tailrace.history.settings import HistorySettings
from tailrace.report.past import Line
from tailrace.report.pictures import drawn
from tests.alerts.examples import commit, finding
from tests.program.windows import traffic
from tests.support.stored_shop import Quiet

LASTS, SLOW_AT = 240, 150
HOSTILE = '<script>alert(1)</script>|`x`"&'


@dataclasses.dataclass(frozen=True)
class Watched:
    """What a daemon left: where, and from when to when it watched."""

    directory: Path
    begin: float
    end: float

    def report(self, *arguments: str) -> int:
        since, until = rfc3339(self.begin), rfc3339(self.end)
        return main(["report", "--state-dir", str(self.directory), "--since", since,
                     "--until", until, *arguments])  # fmt: skip


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Return what is left of 240 s of web -> api, whose requests took longer from 150 s on."""
    directory = tmp_path_factory.mktemp("watched")
    end = float(int(time.time()))
    begin = end - LASTS
    deploy = [Trigger(kind="deploy", service="api", at=begin + SLOW_AT - 4, detail="image api:2")]
    keeper = Keeper(directory / FILE, HistorySettings())
    detector = Detector(DetectorSettings())
    table = pairs.PairTable()
    now = [begin]
    with Store.open(directory) as store:
        store.register_receivers(["team"])
        daemon = Daemon(
            detector=detector,
            store=store,
            voice=Quiet(),
            incidents=Incidents(),
            triggers=lambda: [deploy.pop()] if deploy and now[0] > deploy[0].at else [],
            clock=lambda: now[0],
        )
        for window in traffic(LASTS, start=begin, slow_from=SLOW_AT):
            now[0] = window.time + 1.0
            table.add(window)
            keeper.add(window)
            daemon.step(window)
    keeper.close()
    pairs.publish(directory / state.PAIRS, table, now=time.time() + 3600, window_s=1.0,
                  condition=Condition(lost={"latencies": 7}),
                  calibration=detector.calibration())  # fmt: skip
    return Watched(directory, begin, end)


class Page(HTMLParser):
    """What a page refers to, what it says, and whether its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.refers: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.refers.append(value or "")
            if name == "id":
                assert value not in self.ids
                self.ids.add(value or "")
        if tag not in ("meta", "link", "br", "hr"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def spaced(text: str) -> str:
    return " ".join(text.split())


def test_a_page_shows_map_incident_curve_baseline_and_cause(
    watched: Watched, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    assert watched.report("-o", "html", "-f", str(file)) == 0
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    said = spaced(page.text)
    assert "Going on: 1 " in said
    assert "request latency up" in said
    assert "api was deployed (image api:2), 4 s before the onset" in said
    assert "latency" in page.text
    [drawn] = re.findall(r"<svg[^>]*class=\"map\".*?</svg>", text, re.DOTALL)
    flagged = [e for e in Tree.fromstring(drawn).iter() if e.get("data-server") == "api"]
    assert [(e.get("data-client"), e.get("class") == "edge") for e in flagged] == [("web", False)]
    charts = re.findall(r"<svg[^>]*class=\"chart\".*?</svg>", text, re.DOTALL)
    assert charts
    classes = [e.get("class") for e in Tree.fromstring(charts[0]).iter()]
    for part in ("line", "band", "mark onset", "mark detected", "mark trigger"):
        assert part in classes, part
    assert "lost since the start of the daemon: 7 latency samples that found no room" in said
    assert "latencies honour the theory here" in said


def test_a_page_needs_nothing_but_itself(watched: Watched, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert watched.report("-o", "html", "-f", str(file)) == 0
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert all(each == "data:," or each[1:] in page.ids for each in page.refers)
    assert {"script", "img", "iframe", "object", "embed"}.isdisjoint(page.tags)
    assert not re.search(r"url\(|@import|https?:(?!//www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text


def test_a_terminal_gets_incidents_first_with_bars(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watched.report() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Going on: 1 " in lines[0]
    incident = "\n".join(lines[: next(i for i, line in enumerate(lines) if "since (UTC)" in line)])
    assert "request latency up" in incident
    assert re.search(r"root +api \(server, \d+ %\)", incident)
    assert re.search(r"trigger +api was deployed \(image api:2\), 4 s before the onset", incident)
    [bars] = re.findall(r"history +([▁-█ ]+) ", incident)
    assert re.fullmatch("[▁▂]+[▇█]+", bars.strip())
    assert max(map(len, lines)) < 300
    [row] = [line for line in lines if "request latency up:" in line]
    assert "█" in row
    assert "firing" in row


def test_markdown(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    assert watched.report("-o", "markdown") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("## Tailrace: Going on: 1 ")
    rows = [line for line in lines if line.startswith("| ")]
    assert {row.count("|") for row in rows} == {7}
    assert "api was deployed" in rows[1]
    assert any(line.startswith("- **Root:** api: request latency of web -") for line in lines)


def test_json_is_as_it_was(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(watched.directory, read_only=True) as store:
        stored = [finding.to_json() for finding in store.findings()]
    assert watched.report("-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == stored
    assert watched.report("-o", "jsonl") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == stored


def severity_of(watched: Watched) -> str:
    with Store.open(watched.directory, read_only=True) as store:
        [incident] = store.incidents()
    return incident.severity


@pytest.mark.parametrize("fail_on", ["warning", "critical"])
def test_fail_on(watched: Watched, fail_on: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert severity_of(watched) == "warning"
    code = watched.report("-o", "json", "--fail-on", fail_on)
    err = capsys.readouterr().err
    assert code == (3 if fail_on == "warning" else 0)
    assert ("warning: request latency up" in err) == (code == 3)
    assert ("failed: 1 incidents are warning or worse" in err) == (code == 3)
    # before anything was wrong
    began = rfc3339(watched.begin + SLOW_AT - 60)
    assert main(["report", "--state-dir", str(watched.directory), "--since", "1w", "--until",
                 began, "--fail-on", "warning"]) == 0  # fmt: skip
    # of others
    assert watched.report("--client", "nobody", "--fail-on", "warning") == 0
    assert watched.report("--client", "web", "--fail-on", "warning") == 3


def test_an_incident_that_nobody_was_told_of_fails_a_pipeline_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    with Store.open(tmp_path) as store:
        store.register_receivers(["pager"])
        store.keep_to(Budget(per_week=1.0, text="1/week"))
        six = [
            finding(pair=Pair(f"client-{n}", "api", 80), onset=now - 60 + n, ratio=2.1)
            for n in range(6)
        ]
        told = commit(store, six, now=now)
    assert len(told) == 5
    where = ["report", "--state-dir", str(tmp_path)]
    assert main([*where, "--client", "client-5", "--fail-on", "warning"]) == 3
    captured = capsys.readouterr()
    assert "not told no token was left of false_alerts" in spaced(captured.out)
    assert main([*where, "-o", "html"]) == 0
    said = spaced(Page(capsys.readouterr().out).text)
    assert "What was not told, and why" in said
    assert "nobody: no token was left of false_alerts = 1/week" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fail-on", "info"], "Invalid value"),
        (["--since", "1h", "--until", "2h"], "the interval is empty"),
        (["--changes", "-o", "html"], "the feed of changes is not written as html"),
        (["--changes", "--fail-on", "warning"], "no incidents to judge"),
    ],
)
def test_what_makes_no_sense(
    watched: Watched, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--state-dir", str(watched.directory), *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_file_that_cannot_be_written_stays_as_it_was(
    watched: Watched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watched.report("-f", str(tmp_path / "none" / "report.txt")) == 1
    assert "cannot write it: No such file or directory" in capsys.readouterr().err
    file = tmp_path / "report.csv"
    file.write_text("before")
    assert watched.report("-o", "csv", "-f", str(file)) == 0
    assert file.read_text().startswith("schema,id,client")
    assert [each.name for each in tmp_path.iterdir()] == ["report.csv"]
    assert capsys.readouterr().out == ""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Return a store without a history, whose services have names that are markup."""
    now = time.time()
    pair = Pair(HOSTILE, "*.evil\x1b[2J", 80)
    made = finding(pair=pair, onset=now - 60, signal="connect_errors", unit="ratio", after=0.5,
                   ratio=None)  # fmt: skip
    with Store.open(tmp_path) as store:
        store.register_receivers(["team"])
        commit(store, [made], now=now)
    return tmp_path


def test_names_are_never_markup(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["report", "--state-dir", str(hostile)]
    for output in ("html", "markdown", "table"):
        assert main([*where, "-o", output]) == 0
        text = capsys.readouterr().out
        assert "\x1b" not in text
        assert bool(re.search(r"(?<!\\)<script>", text)) == (output == "table")
        if output == "html":
            page = Page(text)
            assert "script" not in page.tags
            assert HOSTILE in page.text
        if output == "markdown":
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()
                     if line.startswith("| ")}  # fmt: skip
            assert cells == {7}
            assert r"\<script>alert(1)\</script>\|\`x\`" in text


def test_without_history_the_page_says_so(
    hostile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--state-dir", str(hostile), "-o", "html"]) == 0
    said = spaced(Page(capsys.readouterr().out).text)
    assert "There is no stored history of this time, so nothing is drawn over time." in said
    assert "no daemon was running when this was written" in said


def test_a_damaged_history_takes_nothing_else_away(
    hostile: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (hostile / FILE).write_bytes(b"SQLite format 3" + bytes(4096))
    for output in ("html", "table"):
        assert main(["report", "--state-dir", str(hostile), "-o", output]) == 0
        captured = capsys.readouterr()
        assert f"without history: {hostile / FILE}: " in captured.err
        assert "failed connections" in captured.out
        assert ("The history cannot be read" in captured.out) == (output == "html")


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store.open(tmp_path).close()
    where = ["report", "--state-dir", str(tmp_path), "--fail-on", "warning"]
    for output in ("html", "markdown", "table", "json"):
        assert main([*where, "-o", output]) == 0
        captured = capsys.readouterr()
        assert "nothing changed in that time" in captured.err
        assert ("Nothing changed" in captured.out) == (output in ("html", "markdown"))


def many(now: float) -> Iterator[Finding]:
    for number in range(300):
        pair = Pair(f"client-{number}", f"server-{number % 9}", 80)
        base = finding(pair=pair, onset=now - 900 + number, direction="up")
        yield dataclasses.replace(base, id=finding_id(pair, base.signal, "up", base.onset))


def test_many_incidents_stay_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    with Store.open(tmp_path) as store:
        store.register_receivers(["team"])
        commit(store, list(many(now)), now=now)
    where = ["report", "--state-dir", str(tmp_path)]
    assert main([*where, "-o", "html"]) == 0
    text = capsys.readouterr().out
    page = Page(text)
    assert len(text) < 2_000_000
    assert "60 of 309 services are drawn" in page.text
    assert main(where) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("  root  " in line for line in lines) == 10
    assert sum(line.startswith("WARNING") for line in lines) == 300


@pytest.mark.parametrize(
    ("kept", "label"), [(60, "baseline: 90 % of the hour before"), (2, "baseline")]
)
def test_where_little_is_kept_the_band_is_the_detectors_baseline(kept: int, label: str) -> None:
    change = finding(before=0.002, after=0.02)
    time = change.onset + np.arange(-kept, 30.0)
    line = Line(
        signal=change.signal, unit="s", name="", shade_name="", step_s=1.0, time=time,
        line=np.where(time < change.onset, 0.002, 0.02), low=None, high=None,
    )  # fmt: skip
    svg = drawn(line, title="t", desc="d", since=time[0], until=time[-1], size=(420.0, 190.0),
                finding=change)  # fmt: skip
    assert f">{label}<" in svg
