"""Counts of a known null law, and the same with rare luck made common: importance sampling.

A false alarm that the budget allows once in 10^9 windows is never seen by waiting for it. So each
stream gets, from a random window on, one of several laws under which alarms are common; an alarm
then counts with the ratio of the null's likelihood to that of how it was drawn. With onsets
uniform over T windows and chances p_j of the laws, the latter over the former is the
Shiryaev-Roberts statistic of those laws itself,

    sum over j of p_j (R_j + T - t) / T,    R_j = (1 + R_j) * likelihood ratio of law j,

so that the weight of an alarm at window t is one over this. The estimate is unbiased for every
choice of laws; a bad choice only makes it scatter. (Change of measure for rare events: Siegmund
1976; the mixture over onsets: Lai and Shan 1999.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.engine import Detector
from probes.window import Pair, Window
from tailrace.simulation.laws import BEGIN, DAY_S, Floats

FACTORS = (1.1, 1.25, 1.5, 2.0, 3.5, 10.0, 0.9, 0.75, 0.55, 0.3, 0.05)
LEVELS = (0.2, 0.4, 0.8, -0.2, -0.4, -0.8)
"""The wandering level's mean under a tilt, in units of ln."""


@dataclass(frozen=True, slots=True)
class Null:
    """A law of counts.

    Attributes:
        mean: events per window.
        dispersion: r of the negative binomial; inf for Poisson.
        memory: correlation of the level's logarithm from window to window; 0: no level wanders.
        wobble: its standard deviation, where it wanders.
        daily: amplitude of the daily wave.
        width: seconds per window.
    """

    mean: float
    dispersion: float
    memory: float = 0.0
    wobble: float = 0.15
    daily: float = 0.0
    width: float = 10.0

    @property
    def name(self) -> str:
        """Return what the table calls it."""
        law = "Poisson" if np.isinf(self.dispersion) else f"r={self.dispersion:g}"
        wander = f", AR(1) {self.memory:g}" if self.memory else ""
        return law + wander + (", daily wave" if self.daily else "")


class Counts:
    """Streams of a null law, one per pair, with `requests` in every window."""

    def __init__(self, null: Null, streams: int, seed: int) -> None:
        self.null, self.number = null, streams
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self.pairs = tuple(Pair(f"client-{i}", f"server-{i}", 80) for i in range(streams))
        self.wobble = null.wobble if null.memory else 0.0
        self.level = self.wobble * self.rng.standard_normal(streams)
        self.phase = self.rng.random(streams)
        self.tick = 0
        self.pair = np.arange(streams, dtype=np.int32)
        self.signal, self.empty = np.zeros(streams, np.int16), np.full(streams, np.nan)

    def draw(
        self, scale: float = 1.0, factor: Floats | float = 1.0, push: Floats | float = 0.0
    ) -> tuple[Floats, Floats, Floats]:
        """Return counts, their means under the null, and the level's innovations, float64[M].

        Args:
            scale: on the null's own mean: a null at the edge of the band.
            factor: tilt of the mean.
            push: tilt of the innovations' mean, in their standard deviations.
        """
        null, rng = self.null, self.rng
        innovation = np.zeros(self.number)
        if self.wobble:
            innovation = rng.standard_normal(self.number) + push
            step = self.wobble * np.sqrt(1.0 - null.memory**2)
            self.level = null.memory * self.level + step * innovation
        turn = 2.0 * np.pi * (self.time() / DAY_S + self.phase)
        wave = 1.0 + null.daily * np.sin(turn) if null.daily else 1.0
        mean = scale * null.mean * wave * np.exp(self.level - self.wobble**2 / 2.0)
        drawn = mean * factor
        if np.isfinite(null.dispersion):
            gamma = rng.standard_gamma(null.dispersion, self.number)
            drawn = drawn * gamma / null.dispersion
        self.tick += 1
        return rng.poisson(drawn).astype(float), np.broadcast_to(mean, self.number), innovation

    def time(self) -> float:
        """Return the start of the next window, epoch seconds."""
        return BEGIN + self.tick * self.null.width

    def window(self, count: Floats) -> Window:
        """Return the window of counts that have just been drawn."""
        width = self.null.width
        return Window(
            time=self.time() - width,
            width=width,
            nominal=width,
            lost=0,
            pairs=self.pairs,
            signals=("requests",),
            pair=self.pair,
            signal=self.signal,
            value=count / width,
            count=self.empty,
        )


class Tilts:
    """Laws under which alarms are common, a random one for each stream from a random window on.

    Args:
        counts: the streams.
        windows: T.
        seed: of the choice.
        chance: float64[J], p; None: all alike. `better` says what would have been better.
    """

    def __init__(
        self, counts: Counts, windows: int, seed: int, chance: Floats | None = None
    ) -> None:
        null, rng = counts.null, np.random.default_rng(seed)
        factor, push = [*FACTORS], [0.0] * len(FACTORS)
        if counts.wobble:
            gain = (1.0 - null.memory) / (counts.wobble * np.sqrt(1.0 - null.memory**2))
            factor += [1.0] * len(LEVELS) + [1.4, 0.7]
            push += [level * gain for level in (*LEVELS, 0.3, -0.3)]
        self.factor, self.push = np.array(factor), np.array(push)
        self.r, self.windows = null.dispersion, windows
        even = np.full(len(factor), 1.0 / len(factor))
        self.chance = even if chance is None else chance
        self.which = rng.choice(len(factor), counts.number, p=self.chance)
        self.onset = rng.integers(0, windows, counts.number)
        self.sum = np.zeros((counts.number, len(factor)))

    def now(self, window: int) -> tuple[Floats, Floats]:
        """Return the tilts of window 0 .. `windows` - 1: factors and pushes, float64[M]."""
        on = window >= self.onset
        factor = np.where(on, self.factor[self.which], 1.0)
        return factor, np.where(on, self.push[self.which], 0.0)

    def weights(self, window: int, drawn: tuple[Floats, Floats, Floats]) -> Floats:
        """Take what was drawn for a window; return what an alarm in it counts, float64[M]."""
        count, mean, innovation = (column[:, None] for column in drawn)
        factor, push = self.factor, self.push
        if np.isfinite(self.r):
            grown = (count + self.r) * np.log1p((factor - 1.0) * mean / (self.r + mean))
        else:
            grown = (factor - 1.0) * mean
        ratio = count * np.log(factor) - grown + push * innovation - 0.5 * push**2
        # 200 nats are as good as any more, and do not overflow
        self.sum = np.minimum((1.0 + self.sum) * np.exp(np.minimum(ratio, 200.0)), 1e200)
        mixture = (self.sum + (self.windows - window - 1)) @ self.chance / self.windows
        weight: Floats = 1.0 / mixture
        return weight

    def better(self, weights: Floats) -> Floats:
        """Return chances by what each law brought in a first run, a quarter still for all."""
        brought = np.bincount(self.which, weights=weights, minlength=len(self.factor))
        even = np.full(len(brought), 1.0 / len(brought))
        total = brought.sum()
        chance: Floats = 0.25 * even + 0.75 * (brought / total if total > 0 else even)
        return chance


def alarms(
    detector: Detector, counts: Counts, *, scale: float, windows: int, tilts: Tilts | None
) -> Floats:
    """Return the weight of each stream's first alarm within some windows, 0 without one.

    Every stream of `counts` needs to be known to the detector. Without tilts, alarms are counted
    as they are, each with weight 1.
    """
    number = {pair: i for i, pair in enumerate(counts.pairs)}
    total, done = np.zeros(counts.number), np.zeros(counts.number, bool)
    done[[number[finding.pair] for finding in detector.firing()]] = True
    for window in range(windows):
        factor, push = tilts.now(window) if tilts else (1.0, 0.0)
        drawn = counts.draw(scale, factor, push)
        weight = tilts.weights(window, drawn) if tilts else np.ones(counts.number)
        for finding in detector.update(counts.window(drawn[0])):
            at = number[finding.pair]
            if finding.state == "firing" and not (done[at] and tilts):
                total[at] += weight[at]
                done[at] = True
    return total
