"""Simulated fleets: signals that fit together, laws that hold, faults of the size asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from detector.engine import Detector
from probes.histogram import quantile_s
from probes.window import Pair, Window, kind_of
from tailrace.errors import ConfigError
from tailrace.simulation import scenario
from tailrace.simulation.fleet import Fleet
from tailrace.simulation.scenario import Fault, Pairs, Scenario
from tests.program.windows import same

A = Pair("a", "b", 80)


def of(windows: Sequence[Window], signal: str, pair: Pair = A) -> np.ndarray:
    """Return float64[windows, 3] of a stream: value, count, and (a latency's) p95."""
    found = np.full((len(windows), 3), np.nan)
    for i, w in enumerate(windows):
        if signal not in w.signals or pair not in w.pairs:
            continue
        here = (w.pair == w.pairs.index(pair)) & (w.signal == w.signals.index(signal))
        for row in np.flatnonzero(here):
            at = w.histograms.row == row
            p95 = quantile_s(w.histograms.bucket[at], w.histograms.number[at], 0.95)
            found[i] = w.value[row], w.count[row], p95
    return found


def run(lasts: float, faults: Sequence[dict[str, object]] = (), **law: object) -> list[Window]:
    """Return the windows of one pair a -> b."""
    pairs = Pairs(**{"client": "a", "server": "b", "port": 80, **law})  # type: ignore[arg-type]
    made = Scenario(pairs=(pairs,), faults=tuple(Fault(**f) for f in faults))  # type: ignore[arg-type]
    return list(Fleet(made, seed=3, lasts=lasts).windows())


@pytest.mark.parametrize("name", scenario.built_in())
def test_every_scenario_gives_windows_that_fit_together(name: str) -> None:
    chosen = scenario.built_in()[name]
    windows = list(Fleet(chosen, seed=1, window=1.0, lasts=120).windows())
    assert len(windows) == 120
    rates = {"connections", "requests", "bytes_sent", "bytes_received"}
    for window in windows:
        rows = {
            (window.pairs[p], window.signals[s]): i
            for i, (p, s) in enumerate(zip(window.pair, window.signal, strict=True))
        }
        assert len(rows) == len(window)
        for i, (_, signal) in enumerate(rows):
            at = window.histograms.row == i
            if kind_of(signal).value == "latency":
                assert window.histograms.number[at].sum() == window.count[i] > 0
                assert (np.diff(window.histograms.bucket[at]) > 0).all()
            else:
                assert not at.any()
            assert (kind_of(signal).value in ("count", "sum")) == bool(np.isnan(window.count[i]))
        assert (np.diff(window.histograms.row) >= 0).all()
        for pair in window.pairs:
            assert all((pair, signal) in rows for signal in rates)
            requests = window.value[rows[pair, "requests"]]
            connections = window.value[rows[pair, "connections"]]
            if (pair, "connect_errors") in rows:
                row = rows[pair, "connect_errors"]
                attempts, failed = window.count[row], window.count[row] * window.value[row]
                assert attempts == pytest.approx(connections + failed)
                assert sum(window.causes.get(row, {}).values()) == pytest.approx(failed)
            elif pair.transport == "tcp":
                assert connections == 0
            if (pair, "request_latency") in rows:
                assert window.count[rows[pair, "request_latency"]] == min(requests, 2000)
            sent = window.value[rows[pair, "bytes_sent"]]
            assert requests > 0 or sent == 0


def test_the_same_seed_gives_the_same_windows_and_another_gives_others() -> None:
    chosen = scenario.built_in()["microservices"]
    one, again, other = (list(Fleet(chosen, seed=seed, lasts=20).windows()) for seed in (5, 5, 6))
    for a, b in zip(one, again, strict=True):
        same(a, b)
    assert any(
        len(a) != len(b) or (a.value != b.value).any() for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("window", [0.1, 1.0, 10.0, 60.0])
def test_rates_are_those_asked_for_whatever_the_window(window: float) -> None:
    pairs = Pairs(client="a-{n}", server="b", number=100, requests=50, connections=3,
                  dispersion=10, wobble=0.2, correlation=5)  # fmt: skip
    fleet = Fleet(Scenario(pairs=(pairs,)), seed=1, window=window, lasts=window * 200)
    value = np.array([
        w.value[w.signal == w.signals.index("requests")] for w in fleet.windows()
    ])  # fmt: skip
    assert value.mean() == pytest.approx(50, rel=0.02)
    x = window / 5
    averaged = math.expm1(0.2**2) * 2 * (x - 1 + math.exp(-x)) / x**2
    expected = 50 / window + 50**2 * (1 / (10 * window) + averaged)
    assert value.var() == pytest.approx(expected, rel=0.06)


def test_levels_of_one_law_may_move_together() -> None:
    def correlation(shared: float) -> float:
        pairs = Pairs(client="a-{n}", server="b", number=2, requests=5000, wobble=0.3,
                      correlation=2, shared=shared)  # fmt: skip
        windows = Fleet(Scenario(pairs=(pairs,)), seed=2, lasts=1500).windows()
        value = np.array([w.value[w.signal == w.signals.index("requests")] for w in windows])
        return float(np.corrcoef(value.T)[0, 1])

    assert abs(correlation(0.0)) < 0.15
    assert correlation(0.8) == pytest.approx(0.8, abs=0.1)


def test_a_day_has_its_wave_and_a_week_its_end() -> None:
    pairs = Pairs(client="a", server="b", requests=100, wobble=0, daily=0.5, peak=15, weekend=0.5)
    made = Scenario(pairs=(pairs,), window=60.0)
    windows = list(Fleet(made, lasts=7 * 86400).windows())
    hour = np.array([w.value[w.signal == w.signals.index("requests")][0] for w in windows])
    hour = hour.reshape(7, 24, 60).mean(axis=2)  # from Wednesday on
    assert hour[:3, 14:16].mean() == pytest.approx(150, rel=0.03)
    assert hour[:3, 2:4].mean() == pytest.approx(50, rel=0.03)
    assert hour[3:5, 14:16].mean() == pytest.approx(75, rel=0.03)


def test_bursts_and_jobs_come_as_often_as_asked_for() -> None:
    job = {"every": 60, "lasts": 10, "requests": 500, "offset": 5}
    requests = of(run(600, requests=0, connections=0.1, jobs=job), "requests")[:, 0]
    on = (np.arange(600) - 5) % 60 < 10
    assert requests[on].mean() == pytest.approx(500, rel=0.02)
    assert not requests[~on].any()
    bursts = {"every": 50, "lasts": 2, "factor": 20}
    requests = of(run(6000, requests=10, wobble=0, bursts=bursts), "requests")[:, 0]
    assert requests.mean() == pytest.approx(10 * (1 + 19 * 2 / 50), rel=0.25)
    assert (requests > 100).mean() == pytest.approx(2 / 50, rel=0.4)


def test_a_sparse_pair_asks_once_in_ten_minutes() -> None:
    windows = run(86_400, requests=1 / 600, connections=1 / 600, pooled=False, wobble=0)
    requests, connections = of(windows, "requests")[:, 0], of(windows, "connections")[:, 0]
    assert requests.sum() == pytest.approx(144, abs=40)
    assert (requests == connections).all()
    assert np.isfinite(of(windows, "request_latency")[:, 0]).sum() == (requests > 0).sum()


@pytest.mark.parametrize(
    ("fault", "signal", "column", "expected"),
    [
        ({"kind": "rate", "size": 3.0}, "requests", 0, 3.0),
        ({"kind": "rate", "size": 0.5}, "bytes_sent", 0, 0.5),
        ({"kind": "silence"}, "requests", 0, 0.0),
        ({"kind": "latency", "size": 2.0}, "request_latency", 0, 2.0),
        ({"kind": "deploy"}, "request_latency", 0, 1.15),
        ({"kind": "tail", "size": 4.0, "share": 0.2}, "request_latency", 2, 4.0),
        ({"kind": "tail", "size": 4.0, "share": 0.2}, "request_latency", 0, 1.0),
        ({"kind": "errors", "size": 0.2}, "connect_errors", 0, 0.2 / 0.01),
        ({"kind": "resets", "size": 0.3}, "resets", 0, 0.3 / 0.03),
        ({"kind": "loss", "size": 0.1}, "retransmits", 0, 0.1 / 0.01),
        ({"kind": "stalls", "size": 0.5}, "stalls", 0, 0.5 / 0.1),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_a_fault_is_of_the_size_asked_for_from_its_onset_to_its_end(
    fault: dict[str, object], signal: str, column: int, expected: float
) -> None:
    law = {"requests": 500, "connections": 100, "wobble": 0, "latency_wobble": 0, "slow_share": 0,
           "errors": 0.01, "resets": 0.03, "retransmits": 0.01, "stalls": 0.1}  # fmt: skip
    seen = of(run(600, [{"at": 200, "lasts": 200, **fault}], **law), signal)[:, column]
    before = np.nanmean(np.concatenate([seen[:200], seen[400:]]))
    assert np.nanmean(seen[200:400]) / before == pytest.approx(expected, rel=0.1)
    quiet = np.abs(np.nanmean(seen[:200]) - np.nanmean(seen[400:]))
    assert quiet < 0.15 * before


def test_a_leak_grows_by_the_minute() -> None:
    leak = {"kind": "leak", "at": 60, "lasts": 3600, "size": 0.02}
    seen = of(run(3600, [leak], requests=300, latency_wobble=0), "request_latency")[:, 0]
    for minute in (10, 50):
        at = 60 + minute * 60
        grown = seen[at - 30 : at + 30].mean() / seen[:60].mean()
        assert grown == pytest.approx(1.02**minute, rel=0.02)


def test_retries_make_a_storm_of_errors() -> None:
    fault = {"kind": "errors", "at": 100, "lasts": 100, "size": 0.9, "cause": "timed_out"}
    windows = run(200, [fault], connections=1000, wobble=0, retries=3)
    attempts = of(windows, "connect_errors")[:, 1]
    expected = 1 + 0.9 + 0.81 + 0.729
    assert attempts[100:].mean() / attempts[:100].mean() == pytest.approx(expected, rel=0.05)
    (row,) = (i for i in windows[150].causes if "timed_out" in windows[150].causes[i])
    assert windows[150].causes[row] == {
        "timed_out": round(windows[150].count[row] * windows[150].value[row])
    }


def test_a_fault_hits_only_those_it_is_for_and_comes_again() -> None:
    pairs = Pairs(client="c{n}", server="s", port=80, number=20, requests=100, wobble=0)
    fault = Fault(kind="rate", client="c*", only=1, at=50, lasts=10, every=100, size=4)
    fleet = Fleet(Scenario(pairs=(pairs,), faults=(fault,)), lasts=300)
    windows = list(fleet.windows())
    hit = of(windows, "requests", Pair("c1", "s", 80))[:, 0]
    on = (np.arange(300) - 50) % 100 < 10
    on[:50] = False
    assert hit[on].mean() == pytest.approx(400, rel=0.05)
    assert hit[~on].mean() == pytest.approx(100, rel=0.05)
    for n in range(2, 21):
        assert of(windows, "requests", Pair(f"c{n}", "s", 80))[on, 0].mean() < 115
    begin = fleet.truths()
    assert [(t.pair, t.onset - 1_700_006_400.0, t.end - t.onset, t.size) for t in begin] == [
        (Pair("c1", "s", 80), at, 10, 4) for at in (50, 150, 250)
    ]


def test_a_fault_within_a_long_window_has_its_part() -> None:
    pairs = Pairs(client="a", server="b", port=80, requests=200, wobble=0, latency_wobble=0)
    faults = (Fault(kind="rate", at=75, lasts=30, size=2),
              Fault(kind="latency", at=75, lasts=30, size=100))  # fmt: skip
    windows = list(Fleet(Scenario(pairs=(pairs,), faults=faults), window=60, lasts=180).windows())
    requests = of(windows, "requests")[:, 0]
    assert requests == pytest.approx([200, 300, 200], rel=0.05)
    slow = [
        w.histograms.number[(w.histograms.bucket > 340) & (w.histograms.number > 0)].sum()
        for w in windows
    ]
    assert slow[1] / (60 * 200 * 1.5) == pytest.approx(0.5, abs=0.1)


def test_new_clients_come_when_a_service_grows() -> None:
    fault = Fault(kind="scale-out", at=30, size=2)
    pairs = Pairs(client="a", server="b", port=80, requests=100)
    fleet = Fleet(Scenario(pairs=(pairs,), faults=(fault,)), lasts=60)
    windows = list(fleet.windows())
    assert [w.pairs for w in windows[:30]] == [(A,)] * 30
    new = (A, Pair("a-new1", "b", 80), Pair("a-new2", "b", 80))
    assert [w.pairs for w in windows[30:]] == [new] * 30
    assert windows[59].pairs is windows[30].pairs
    assert [t.pair for t in fleet.truths()] == list(new[1:])


def test_pauses_gaps_and_losses_are_those_of_the_probes() -> None:
    faults = (
        Fault(kind="pause", at=10, lasts=5),
        Fault(kind="gap", at=30, lasts=10),
        Fault(kind="lost", at=50, lasts=5, size=0.5),
    )
    pairs = Pairs(client="a", server="b", port=80, requests=1000, connections=100, wobble=0)
    windows = list(Fleet(Scenario(pairs=(pairs,), faults=faults), lasts=60).windows())
    start = [w.time - windows[0].time for w in windows]
    assert start == [*range(11), *range(16, 30), *range(40, 60)]
    wide = windows[10]
    assert (wide.width, wide.nominal) == (6.0, 1.0)
    requests = of(windows, "requests")[:, 0]
    assert requests[10] == pytest.approx(1000, rel=0.1)
    lossy = [w.lost > 0 for w in windows]
    assert [s for s, one in zip(start, lossy, strict=True) if one] == [50, 51, 52, 53, 54]
    total = windows[-10].lost + requests[-10] + of(windows, "connections")[-10, 0]
    assert total == pytest.approx(1100, rel=0.15)


def test_the_detector_finds_the_faults_of_a_scenario() -> None:
    faults = [{"kind": "errors", "at": 400, "lasts": 60, "size": 0.5},
              {"kind": "latency", "at": 600, "lasts": 60, "size": 5}]  # fmt: skip
    detector = Detector()
    windows = run(700, faults, requests=100, connections=10, dispersion=50)
    found = [f for w in windows for f in detector.update(w) if f.state == "firing"]
    since = windows[0].time
    assert {f.signal for f in found} >= {"connect_errors", "request_latency"}
    assert all(f.onset - since >= 395 for f in found)


BAD = {
    "": ("key `pairs` is missing", "add a line"),
    "[[pairs]]\nclient = 'a'": ("key `server` in [[pairs]] number 1 is missing", "add a line"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\nreqests = 2": (
        "unknown key `reqests` in [[pairs]] number 1, did you mean `requests`?", "known keys"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\nnumber = 2": ("need a {n} in client", "simulation.md"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\nerrors = 2": ("less than or equal to 1", "correct it"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\nrequests = nan": ("finite number", "correct it"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\n[[pairs]]\nclient = 'a'\nserver = 'b'": (
        "is there twice", "correct it"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\n[[faults]]\nkind = 'rate'\nat = '1m'": (
        "rate needs a size", "correct it"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\n[[faults]]\nkind = 'fire'\nat = '1m'": (
        "must be 'rate', 'silence'", "correct it"),
    "[[pairs]]\nclient = 'a'\nserver = 'b'\n[[faults]]\nkind = 'rate'\nat = 'x'\nsize = 2": (
        "'x' is not a duration", "correct it"),
    "window = '1h'\n[[pairs]]\nclient = 'a'\nserver = 'b'": ("100ms to 60s", "correct it"),
    "[[pairs]\n": ("not TOML", "correct it"),
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_wrong_scenario_says_what_where_and_what_to_do(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    what, remedy = BAD[text]
    with pytest.raises(ConfigError) as error:
        scenario.load(str(path))
    assert what in str(error.value)
    assert re.search(
        rf"{re.escape(str(path))}.*\n  remedy: .*{re.escape(remedy)}", str(error.value)
    )


def test_a_scenario_of_another_size_keeps_its_proportions() -> None:
    chosen = scenario.built_in()["busy"]
    for number in (5, 7, 54, 540):
        assert sum(p.number for p in chosen.resized(number).pairs) == number
    assert [p.number for p in chosen.resized(540).pairs] == [100, 100, 10, 300, 30]
    with pytest.raises(ValueError, match="5 kinds"):
        chosen.resized(4)
