"""Pairs that appear and pairs that fall silent."""

from __future__ import annotations

import numpy as np
from traffic import PairModel, Traffic, simulate

from detector.engine import Detector
from detector.finding import Finding
from detector.presence import Presence
from probes.window import Pair


def run(models: list[PairModel], ticks: int) -> list[Finding]:
    detector = Detector()
    return [f for window in simulate(models, ticks) for f in detector.update(window)]


def old(i: int = 0) -> PairModel:
    return PairModel(pair=Pair(f"old-{i}", "web", 80))


def test_a_new_pair_is_told_once_and_adopted() -> None:
    found = run([old(), PairModel(pair=Pair("new", "web", 80), start=70)], 500)
    assert [(f.signal, f.direction, f.state) for f in found] == [
        ("new_pair", "new", "firing"),
        ("new_pair", "new", "adopted"),
    ]
    assert found[0].detected - found[0].onset <= 5
    assert found[0].before is None
    assert 295 <= found[1].ended - found[0].onset <= 310  # type: ignore[operator]


def test_a_pair_is_not_new_while_the_host_warms_up() -> None:
    assert run([old(), PairModel(pair=Pair("late", "web", 80), start=30)], 120) == []


def test_a_new_pair_without_substance_is_no_news() -> None:
    quiet = Traffic(request_rate=0.0, connection_rate=0.0)
    assert run([old(), PairModel(pair=Pair("idle", "web", 80), normal=quiet, start=70)], 200) == []


def test_a_burst_of_new_clients_is_not_dozens_of_findings() -> None:
    burst = [PairModel(pair=Pair(f"new-{i}", "web", 80), start=70) for i in range(40)]
    assert sum(f.state == "firing" for f in run([old(), *burst], 100)) <= 2
    spread = [PairModel(pair=Pair("client", f"s-{i}", 80), start=70) for i in range(40)]
    assert sum(f.state == "firing" for f in run([old(), *spread], 100)) <= 6


def test_a_job_between_its_runs_is_not_silent() -> None:
    def job(tick: int, traffic: Traffic) -> Traffic:
        return traffic if tick % 30 < 10 else Traffic(request_rate=0.0, connection_rate=0.0)

    found = run([old(), PairModel(pair=Pair("job", "db", 5432), fault=job)], 900)
    assert [f for f in found if f.signal == "silent_pair"] == []


def test_a_silence_is_judged_by_the_quietest_hour() -> None:
    pairs, day = 300, 1440
    rng, presence = np.random.default_rng(2), Presence()
    at = np.arange(pairs)
    presence.add([Pair(f"c{i}", "web", 80) for i in range(pairs)], 0.0, told=False, watched_s=0.0)
    for minute in range(2 * day):
        rate = 1.0 + 0.5 * np.sin(2.0 * np.pi * minute / day)
        presence.update(
            at,
            events=np.zeros(pairs),
            active=rng.random(pairs) < -np.expm1(-rate),
            measured=np.ones(pairs, bool),
            span=(60.0 * minute, 60.0 * (minute + 1)),
            log_c=np.full(pairs, 30.0),
            warmup_s=60.0,
            adopt_s=600.0,
        )
    # 1 a minute over the day, 0.5 in the quietest hour, which is not known to the minute
    assert 0.35 < np.median(presence.nats_per_window(at)) < 0.6


def test_a_silence_that_stays_is_adopted() -> None:
    def stops(tick: int, traffic: Traffic) -> Traffic:
        return traffic if tick < 70 else Traffic(request_rate=0.0, connection_rate=0.0)

    found = run([old(), PairModel(pair=Pair("batch", "db", 5432), fault=stops)], 800)
    assert [f.state for f in found if f.signal == "silent_pair"] == ["firing", "adopted"]


def test_many_put_together_are_neither_new_nor_silent_nor_changed() -> None:
    def grows(tick: int, traffic: Traffic) -> Traffic:
        if 120 <= tick < 140:
            return Traffic(request_rate=0.0, connection_rate=0.0)
        return traffic if tick < 150 else Traffic(request_rate=5_000.0, refused=0.5)

    others = [
        PairModel(pair=Pair("other", "web", 80), start=60, fault=grows),
        PairModel(pair=Pair("crawler", "other", 0), start=60, fault=grows),
    ]
    assert run([old(), *others], 300) == []


def test_who_may_have_been_among_many_is_not_new() -> None:
    hidden = [
        (Pair("other", "web", 80), Pair("new", "web", 80)),
        (Pair("crawler", "other", 0), Pair("crawler", "site", 443)),
        (Pair("other", "other", 0), Pair("new", "any", 443)),
    ]
    for other, pair in hidden:
        new = PairModel(pair=pair, start=90)
        assert len(run([old(), new], 200)) == 1
        assert run([old(), new, PairModel(pair=other, start=60)], 200) == []
        # others elsewhere tell nothing of it
        strange = PairModel(pair=Pair("other", "strange", 9), start=60)
        assert len(run([old(), new, strange], 200)) == 1
