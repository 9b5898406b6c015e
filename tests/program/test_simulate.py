"""`tailrace simulate`: what it writes, what it says, and more of what a recording shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.histogram import quantile_s
from probes.window import Kind, Pair, Window, kind_of
from tailrace import recording
from tailrace.cli import main
from tailrace.errors import RecordingError
from tailrace.simulation.calibrate import fit
from tailrace.simulation.fleet import Fleet
from tailrace.simulation.resample import Resampled
from tailrace.simulation.scenario import Fault, Pairs, Scenario, built_in
from tests.program import windows
from tests.program.windows import WEB_API, same, traffic, window

LOOPBACK = Path(__file__).parent / "recordings" / "loopback.csv.gz"
"""Two minutes of nginx, redis and a Python server under load, from `tailrace record`."""

pytestmark = pytest.mark.usefixtures("alone")


# What it writes


def test_a_simulation_is_a_recording_that_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "calm.csv"
    assert main(["simulate", "calm", "-o", str(path), "--for", "90s", "--seed", "7"]) == 0
    assert f"90 windows, {len(recording.load([path]))} rows in {path}" in capsys.readouterr().err
    fleet = Fleet(built_in()["calm"], seed=7, lasts=90)
    for read, made in zip(recording.read([path]), fleet.windows(), strict=True):
        assert read.pairs == made.pairs
        assert (read.value == made.value).all()
        assert (read.histograms.number == made.histograms.number).all()
    assert main(["replay", str(path), "-o", "jsonl"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "in 90 windows, 0 findings" in captured.err


def test_csv_and_parquet_hold_the_same_and_a_seed_gives_the_same_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv.gz", "d.parquet")]
    for path in paths:
        assert main(["simulate", "microservices", "-o", str(path), "--for", "5s"]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    for one, *others in zip(*(recording.read([path]) for path in paths), strict=True):
        for other in others:
            same(one, other)
    other = ["-o", str(paths[1]), "--for", "5s", "--seed", "2"]
    assert main(["simulate", "microservices", *other]) == 0
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_the_truth_is_beside_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "f.csv.gz"
    assert main(["simulate", "faults", "-o", str(path), "--for", "110m", "--window", "60s"]) == 0
    lines = (tmp_path / "f.truth.jsonl").read_text().splitlines()
    truths = [json.loads(line) for line in lines]
    assert len(truths) == 17
    begin = 1_700_006_400.0
    assert truths[0] == {
        "client": "client-1", "server": "server-1", "port": 8080, "transport": "tcp",
        "signal": "requests", "kind": "rate", "onset": begin + 1800, "end": begin + 2100,
        "size": 3.0,
    }  # fmt: skip
    by_kind = {truth["kind"]: truth for truth in truths}
    assert by_kind["deploy"]["end"] is None
    assert by_kind["gap"]["client"] is None
    seen = recording.load([path])
    named = {truth["client"] for truth in truths} - {None}
    assert named <= {pair.client for pair in seen.pairs}


def test_the_truth_can_be_elsewhere(tmp_path: Path) -> None:
    truth = tmp_path / "what.jsonl"
    arguments = ["-o", str(tmp_path / "f.csv"), "--truth", str(truth), "--for", "2s"]
    assert main(["simulate", "faults", *arguments]) == 0
    assert truth.read_text() == ""
    assert not (tmp_path / "f.truth.jsonl").exists()


def test_a_scenario_of_ones_own_of_another_size(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("window = '5s'\n[[pairs]]\nclient = 'a'\nserver = 'b'\nrequests = 7\n")
    path = tmp_path / "own.csv"
    assert main(["simulate", str(own), "-o", str(path), "--for", "1m", "--pairs", "9"]) == 0
    windows = list(recording.read([path]))
    assert [w.width for w in windows] == [5.0] * 12
    assert {pair.client for pair in windows[0].pairs} == {f"a-{n}" for n in range(1, 10)}


def test_stdout_takes_it_until_its_reader_leaves() -> None:
    command = [sys.executable, "-m", "tailrace", "simulate", "calm", "-o", "-", "--for"]
    whole = subprocess.run([*command, "3s"], capture_output=True, text=True, timeout=60, check=True)
    assert whole.stdout.count("\n") == 1 + int(whole.stderr.split()[2])
    with subprocess.Popen(
        [*command, "30d"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as endless:
        assert endless.stdout is not None
        assert endless.stderr is not None
        assert endless.stdout.readline().startswith("time,client")
        endless.stdout.close()
        assert endless.wait(timeout=60) == 0
        assert endless.stderr.read() == ""


def test_the_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list"]) == 0
    out = capsys.readouterr().out
    for name in ("calm", "busy", "retail-day", "microservices", "faults"):
        assert f"\n{name} " in out


WRONG = {
    ("nope", "-o", "x.csv"): (2, "no scenario `nope`", "calm"),
    ("calm",): (2, "where to?", "-o FILE"),
    ("-o", "x.csv"): (2, "which scenario?", "--list"),
    ("calm", "busy", "-o", "x.csv"): (2, "name one scenario", "--list"),
    ("calm", "-o", "x.txt"): (1, "a recording's name tells its format", "name it .csv"),
    ("calm", "-o", "x.csv", "--pairs", "2"): (2, "4 kinds of pairs", ""),
    ("calm", "-o", "x.csv", "--for", "0s"): (2, "no time", "say how long"),
    ("calm", "-o", "x.csv", "--daily", "0.5"): (2, "--daily is for --from", "into the scenario"),
    ("calm", "-o", "/nowhere/x.csv"): (1, "cannot write it", "check the path"),
    ("--from", str(LOOPBACK), "-o", "x.csv", "--pairs", "2"): (2, "--pairs does not go", "its"),
    ("--from", str(LOOPBACK), "none.csv", "-o", "x.csv"): (2, "none.csv: no such file", "record"),
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_mistakes_say_what_is_wrong_and_what_to_do(
    arguments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, what, remedy = WRONG[arguments]
    assert main(["simulate", *arguments]) == code
    error = capsys.readouterr().err
    assert what in error
    assert remedy in error


# More of what a recording shows


@dataclass
class Seen:
    """A stream over all windows; 0 and no sample where it has no row."""

    x: np.ndarray
    n: np.ndarray
    samples: np.ndarray = field(default_factory=lambda: np.zeros(976))

    def lag(self, windows: int) -> float:
        c = self.x - self.x.mean()
        return float((c[windows:] * c[:-windows]).mean() / max((c * c).mean(), 1e-300))

    def quantiles(self) -> np.ndarray:
        return quantile_s(np.arange(976), self.samples, [0.1, 0.5, 0.9, 0.99])

    def wobble(self) -> float:
        return float(np.log(self.x[self.n > 20]).std())


def streams(windows: Iterable[Window]) -> dict[tuple[Pair, str], Seen]:
    every = list(windows)
    found: dict[tuple[Pair, str], Seen] = {}
    for t, w in enumerate(every):
        keys = [(w.pairs[p], w.signals[s]) for p, s in zip(w.pair, w.signal, strict=True)]
        for row, key in enumerate(keys):
            seen = found.setdefault(key, Seen(np.zeros(len(every)), np.zeros(len(every))))
            seen.x[t], seen.n[t] = w.value[row], np.nan_to_num(w.count[row])
        row, bucket, number = w.histograms
        cuts = np.searchsorted(row, np.arange(len(w) + 1))
        for key, a, b in zip(keys, cuts, cuts[1:], strict=False):
            if b > a:
                found[key].samples[bucket[a:b]] += number[a:b]
    return found


FIVE_LAWS = Scenario(
    pairs=(
        Pairs(client="poisson", server="s", requests=50, connections=2, wobble=0),
        Pairs(client="dispersed", server="s", requests=80, dispersion=6, wobble=0),
        Pairs(client="slow", server="s", requests=200, wobble=0.3, correlation=20,
              latency_wobble=0.2, errors=0.05, connections=20),
        Pairs(client="fast", server="s", requests=100, wobble=0.3, correlation=3, queueing=0.5),
        Pairs(client="sparse", server="s", requests=0.1, connections=0.1, pooled=False),
        Pairs(client="batch", server="s", requests=0, connections=0.01,
              jobs={"every": 120, "lasts": 15, "requests": 100}),
    )
)  # fmt: skip


@pytest.mark.slow
def test_a_simulation_of_a_simulation_keeps_its_law() -> None:
    recorded = list(Fleet(FIVE_LAWS, seed=1, lasts=3600).windows())
    made = Resampled(fit(recorded), seed=2, lasts=3 * 3600)
    one, other = streams(recorded), streams(made.windows())
    assert set(other) == set(one)
    for (pair, signal), was in one.items():
        now = other[pair, signal]
        name = f"{pair.client} {signal}"
        kind = kind_of(signal)
        if kind in (Kind.COUNT, Kind.SUM) and was.x.any():
            # what an hour tells of a mean: its windows, fewer where they are correlated
            error = was.x.std() / np.sqrt(3600 / 40 if pair.client in ("slow", "batch") else 900)
            assert now.x.mean() == pytest.approx(was.x.mean(), abs=4 * error), name
            if pair.client != "sparse":
                assert now.x.std() == pytest.approx(was.x.std(), rel=0.12), name
            for lag in (1, 5, 20):
                assert now.lag(lag) == pytest.approx(was.lag(lag), abs=0.1), (name, lag)
        elif kind is Kind.RATIO and was.n.any():
            share = (was.x * was.n).sum() / was.n.sum()
            error = np.sqrt(share / was.n.sum())
            assert (now.x * now.n).sum() / now.n.sum() == pytest.approx(share, abs=6 * error), name
        elif kind is Kind.LATENCY and was.n.sum() > 1000:
            assert now.quantiles() == pytest.approx(was.quantiles(), rel=0.1), name
            if was.n.mean() > 40:
                assert now.wobble() == pytest.approx(was.wobble(), rel=0.15), name


def test_what_moves_together_does_so_again() -> None:
    pairs = Pairs(client="c{n}", server="s", number=3, requests=300, wobble=0.3, shared=0.9,
                  queueing=0.8, latency_wobble=0)  # fmt: skip
    recorded = list(Fleet(Scenario(pairs=(pairs,)), seed=1, lasts=2400).windows())
    made = Resampled(fit(recorded), seed=3, lasts=4800)
    one, other = streams(recorded), streams(made.windows())

    def together(seen: dict[tuple[Pair, str], Seen]) -> tuple[float, float]:
        of = [Pair(f"c{n}", "s", 8080) for n in (1, 2)]
        a, b = (seen[pair, "requests"].x for pair in of)
        return np.corrcoef(a, b)[0, 1], np.corrcoef(a, seen[of[0], "request_latency"].x)[0, 1]

    assert together(one)[0] > 0.7
    assert together(other) == pytest.approx(together(one), abs=0.1)


def test_stretches_join_without_a_step_and_none_is_left_out() -> None:
    recorded = list(Fleet(FIVE_LAWS, seed=1, lasts=3600).windows())
    made = Resampled(fit(recorded), seed=4, lasts=40 * 3600)
    path = made.path(40 * 3600)
    visits = np.bincount(path, minlength=3600) / 40
    assert np.quantile(visits[60:], 0.02) > 0.3
    assert visits.max() < 3
    joins = np.array(made.joins)
    assert (path[:-1][np.diff(path) != 1] == joins[: (np.diff(path) != 1).sum(), 0]).all()
    assert 150 < np.diff(np.flatnonzero(np.diff(path) != 1)).mean() < 400
    level = made.levels
    # levels are means of nine windows: these have none in common
    apart = np.abs(level[9:] - level[:-9]).mean(axis=1)
    across = np.abs(level[joins[:, 1]] - level[joins[:, 0]]).mean(axis=1)
    random = np.abs(level[np.random.default_rng(0).permutation(3600)] - level).mean(axis=1)
    assert np.median(across) < np.quantile(apart, 0.9)
    assert np.median(across) < 0.6 * np.median(random)


def test_a_job_goes_on_in_time_where_stretches_join() -> None:
    job, rng = Pair("crawl", "a", 80), np.random.default_rng(0)
    recorded = [
        windows.window([(job, "requests", float(rng.poisson(30)) if t % 150 < 20 else 0.0, np.nan)],
                       time=1.76e9 + t)
        for t in range(3600)
    ]  # fmt: skip
    known, odd = fit(recorded), []
    for seed in (1, 2):
        made = streams(Resampled(known, seed=seed, lasts=8 * 3600).windows())
        pauses = np.diff(np.flatnonzero(made[job, "requests"].x))
        pauses = pauses[pauses > 30]
        odd.append(np.mean(np.abs(pauses - 131) > 11))
    assert np.mean(odd) < 0.27  # a third, if the last windows alone were compared


def test_what_is_like_nothing_else_comes_again_as_often() -> None:
    begins = {"kind": "rate", "at": 0, "lasts": 200, "size": 6}
    pairs = Pairs(client="a", server="b", requests=50, wobble=0.02)
    made = Scenario(pairs=(pairs,), faults=(Fault.model_validate(begins),))
    recorded = list(Fleet(made, seed=1, lasts=1000).windows())
    again = streams(Resampled(fit(recorded), seed=1, lasts=20_000).windows())
    requests = again[Pair("a", "b", 8080), "requests"].x
    assert (requests > 150).mean() == pytest.approx(0.2, abs=0.07)


def test_a_real_recording_goes_on_as_it_was() -> None:
    recorded = list(recording.read([LOOPBACK]))
    made = Resampled(fit(recorded), seed=5, lasts=7200)
    one, other = streams(recorded), streams(made.windows())
    assert set(other) == set(one)
    for (pair, signal), was in one.items():
        now, name = other[pair, signal], f"{pair.client} {signal}"
        if signal in ("requests", "connections", "bytes_sent", "bytes_received") and was.x.any():
            error = 4 * was.x.std() / np.sqrt(len(recorded) / 4)
            assert now.x.mean() == pytest.approx(was.x.mean(), abs=error), name
            assert now.x.std() == pytest.approx(was.x.std(), rel=0.25), name
            assert now.lag(1) == pytest.approx(was.lag(1), abs=0.15), name
        elif signal == "request_latency" and was.n.sum() > 500:
            assert now.quantiles()[:3] == pytest.approx(was.quantiles()[:3], rel=0.25), name


def test_what_is_simulated_can_have_days(tmp_path: Path) -> None:
    path, month = tmp_path / "r.csv", tmp_path / "month.parquet"
    pairs = Pairs(client="web", server="api", requests=100, wobble=0.05)
    with recording.create(path) as recorder:
        for w in Fleet(Scenario(pairs=(pairs,)), window=60, lasts=7200).windows():
            recorder.write(w)
    arguments = ["--from", str(path), "-o", str(month), "--for", "2d", "--daily", "0.5"]
    assert main(["simulate", *arguments]) == 0
    seen = streams(recording.read([month]))[WEB_API, "requests"].x.reshape(48, 60).mean(axis=1)
    assert seen[[11, 12, 35, 36]].mean() == pytest.approx(150, rel=0.05)
    assert seen[[0, 23, 24, 47]].mean() == pytest.approx(50, rel=0.07)


def test_a_simulated_recording_of_nothing_unusual_gives_no_findings() -> None:
    recorded = list(Fleet(FIVE_LAWS, seed=6, lasts=1800).windows())
    detector = Detector(DetectorSettings(false_alerts_per_week=1.0))
    made = Resampled(fit(recorded), seed=7, lasts=1800)
    assert [f for w in made.windows() for f in detector.update(w)] == []


def test_windows_that_are_no_measure_are_left_out_and_told() -> None:
    good = list(traffic(60))
    long = window([(WEB_API, "requests", 9e9, np.nan)], time=good[-1].time + 1, width=30.0)
    lossy = window([(WEB_API, "requests", 9e9, np.nan)], time=good[-1].time + 2, lost=5)
    known = fit([*good, long, lossy])
    assert known.skipped == 2
    assert "2 windows left out" in known.summary()
    assert known.series.x.max() < 1000


def test_too_short_a_recording_says_so() -> None:
    with pytest.raises(RecordingError, match="20 whole windows are too few"):
        fit(traffic(20))
