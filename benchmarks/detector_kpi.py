"""Event recall of the detector's scores on labelled curves, at fixed rates of false alerts.

    python -m benchmarks.detector_kpi DIR [--skip-days 3] [--rates 7 1 0.25]

The curves and the protocol are those of `benchmarks.curves`; there is one threshold for all
curves of the directory, or one for each. The first days are not counted, since the detector
learns in them. The thresholds are chosen on the curves themselves: this measures how well scores
rank, not how well a threshold is set (`scripts/bench detection curves` does). The findings that
the detector itself reports are counted too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.curves import DAY_S, WEEK_S, load, prepare, replay, threshold_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--skip-days", type=float, default=3.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[7.0, 1.0, 0.25])
    parser.add_argument("--limit", type=int, default=None, help="only the first curves")
    arguments = parser.parse_args()
    curves = [load(path) for path in sorted(arguments.directory.glob("*.npz"))[: arguments.limit]]
    began = time.perf_counter()
    replayed = replay(curves)
    seconds = time.perf_counter() - began
    skip_s = arguments.skip_days * DAY_S
    scored = [
        prepare(curve, score, curve.time[0] + skip_s, curve.time[-1] + 1.0)
        for curve, score in zip(curves, replayed.scores, strict=True)
    ]
    best = [np.array([event.score.max() for event in s.events]) for s in scored]
    events = np.concatenate(best)
    findings = len(replayed.findings)
    points = sum(len(c.value) for c in curves)
    print(f"{len(curves)} curves, {len(events)} events, {1e6 * seconds / points:.1f} us per point")
    weeks = sum(float(c.time[-1] - c.time[0]) for c in curves) / WEEK_S
    print(f"{findings} findings, {findings / weeks:.2f} per curve-week")
    print("false alerts per curve-week   recall (one threshold)   recall (one per curve)")
    for rate in arguments.rates:
        one = (events >= threshold_for(scored, rate)).mean()
        own = np.concatenate(
            [mine >= threshold_for([s], rate) for mine, s in zip(best, scored, strict=True)]
        ).mean()
        print(f"{rate:27g}   {one:22.3f}   {own:22.3f}")


if __name__ == "__main__":
    main()
