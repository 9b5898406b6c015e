"""Where a change begins, by the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from detector.blocks import JUDGED
from detector.counts import CountBank
from detector.episodes import Suspects
from detector.parts import Moment, Obs
from detector.settings import DetectorSettings

ALARM_NATS = 17.0


def onset_of(nats: Sequence[float]) -> float:
    """Return in which window a change begins whose evidence is so much in each, up to the alarm."""
    bank, at = CountBank(), np.array([0])
    bank.add(np.zeros(1), ["requests"], DetectorSettings())
    for number, evidence in enumerate(nats):
        bank.table["r"][:, 0] = np.where(bank.up, np.exp(evidence), 0.0) * len(bank.up)
        bank.table["r"][:, 0] /= bank.up.sum()
        moment = Moment(
            time=float(number), end=number + 1.0, number=number, log_c=np.full(1, ALARM_NATS),
            spacing=np.ones(1, np.float32), idle=None, age=lambda _: np.zeros(1), warmup_s=0.0,
            adopt_s=600.0, scored=False, alternatives=len(bank.up), pause_s=3.0,
        )  # fmt: skip
        fired = at if evidence >= ALARM_NATS else at[:0]
        mass = np.exp(np.full(len(fired), evidence))
        obs = Obs(np.ones(1, np.float32), np.ones(1, np.float32))
        bank.episodes.follow(bank, at, obs, moment, Suspects(at, fired, mass))
    return float(bank.episodes.table["onset"][0])


RISE = [2.0, 5.0, 8.0, 11.0, 14.0, 17.0]


@pytest.mark.parametrize(
    ("before", "onset"),
    [
        ([], 0.0),
        # something else left 4 of its 9 nats, and they faded
        ([3.0, 6.0, 9.0, 7.0, 4.0, *[4.2, 3.9, 4.1] * 30], 95.0),
        # a lull within a change is no end of it
        ([2.0, 4.0, 7.0, 6.0], 0.0),
    ],
)
def test_a_change_begins_where_its_own_evidence_does(before: list[float], onset: float) -> None:
    rise = [each + (before[-1] if len(before) > 10 else 0.0) for each in RISE]
    rise = [each for each in rise if not before or each > before[-1]]
    assert onset_of([*before, *rise]) == pytest.approx(onset, abs=1.5)


def test_what_a_change_is_is_looked_at_again_while_it_lasts() -> None:
    bank, at = CountBank(), np.array([0])
    bank.add(np.zeros(1), ["requests"], DetectorSettings())
    for _ in range(20):
        for rate in (28.0, 29.0, 30.0, 30.0, 30.0, 30.0, 31.0, 32.0):
            obs = Obs(np.array([rate], np.float32), np.ones(1, np.float32))
            bank.absorb(at, obs)
            bank._close_blocks(at, at[:0])
    bank.table["live"][:] = JUDGED

    def window(number: int, rate: float, *, alarm: bool = False) -> int:
        moment = Moment(
            time=float(number), end=number + 1.0, number=number, log_c=np.full(1, ALARM_NATS),
            spacing=np.ones(1, np.float32), idle=None, age=lambda _: np.zeros(1), warmup_s=0.0,
            adopt_s=600.0, scored=False, alternatives=len(bank.up), pause_s=3.0,
        )  # fmt: skip
        bank.table["r"][:, 0] = np.where(bank.up, np.exp(ALARM_NATS), 0.0)
        fired = at if alarm else at[:0]
        obs = Obs(np.array([rate], np.float32), np.ones(1, np.float32))
        suspects = Suspects(at, fired, np.exp(np.full(len(fired), ALARM_NATS)))
        bank.episodes.follow(bank, at, obs, moment, suspects)
        return int(bank.episodes.table["best"][0])

    first = window(0, 400.0, alarm=True)
    assert bank.factor[first] == 8.0
    later = [window(number, 70.0) for number in range(1, 65)]
    assert bank.factor[later[0]] == 8.0
    assert bank.factor[later[-1]] == pytest.approx(1.6)
