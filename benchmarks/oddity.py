"""How often the odd pair of a fleet comes first, by several rankings, and what they cost.

    python -m benchmarks.oddity [--pairs 20 100 400] [--fleets 30]

Deviations of every pair from its own habits are drawn, with the correlations that load brings
(requests, bytes and latency go up together), and one pair is made odd in one of six ways. Ours is
`detector.oddity.distances`; beside it river's HalfSpaceTrees over the same rows (seeded, one pass
to learn, one to score), the largest deviation, and the sum of their squares.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees

from detector.oddity import distances

Floats = NDArray[np.float64]
KINDS = {
    "others": "all but one have more load",
    "apart": "bytes fall while requests rise",
    "slow": "latency alone",
    "failing": "errors alone",
    "busy": "a fifth is busy, one without the bytes",
    "mild": "three features a little off",
}


def fleet(pairs: int, kind: str, rng: np.random.Generator) -> tuple[Floats, int]:
    """Return deviations, float64[pairs, 4] (rate, errors, latency, bytes), and the odd row."""
    load = rng.normal(0.0, 1.0, pairs)
    own = rng.normal(0.0, 1.0, (pairs, 3))
    z = np.stack([load, 0.7 * own[:, 0], 0.6 * load + 0.8 * own[:, 1], 0.95 * load], axis=1)
    z[:, 3] += 0.3 * own[:, 2]
    odd = int(rng.integers(pairs))
    if kind == "others":
        z += np.array([6.0, 0.0, 3.0, 6.0])
        z[odd] = rng.normal(0.0, 0.7, 4)
    elif kind == "apart":
        z[odd] = [2.5, 0.0, 0.0, -2.5]
    elif kind == "slow":
        z[odd, 2] += 8.0
    elif kind == "failing":
        z[odd, 1] += 8.0
    elif kind == "busy":
        busy = rng.choice(pairs, pairs // 5, replace=False)
        odd = int(busy[0])
        z[busy] += np.array([7.0, 0.0, 0.0, 7.0])
        z[odd, 3] -= 7.0
    else:
        z[odd] += np.array([3.0, 3.0, 3.0, -1.0])
    return z, odd


def trees(z: Floats) -> Floats:
    """Return river's scores; features within [0, 1], finest around 0."""
    rows = [dict(enumerate(row)) for row in (0.5 + np.arctan(z / 2.0) / np.pi).tolist()]
    model = HalfSpaceTrees(n_trees=50, height=6, window_size=len(rows), seed=1)
    for row in rows:
        model.learn_one(row)
    return np.array([model.score_one(row) for row in rows])


RANKINGS: dict[str, Callable[[Floats], Floats]] = {
    "ours": distances,
    "HalfSpaceTrees": trees,
    "largest": lambda z: np.abs(z).max(axis=1),
    "squares": lambda z: (z**2).sum(axis=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[20, 100, 400])
    parser.add_argument("--fleets", type=int, default=30)
    args = parser.parse_args()
    print("| pairs | odd is | " + " | ".join(f"{name}: first" for name in RANKINGS) + " |")
    print("|---|---|" + "---|" * len(RANKINGS))
    for pairs in args.pairs:
        spent = dict.fromkeys(RANKINGS, 0.0)
        for kind, words in KINDS.items():
            first = dict.fromkeys(RANKINGS, 0)
            rng = np.random.default_rng(0)
            for _ in range(args.fleets):
                z, odd = fleet(pairs, kind, rng)
                for name, ranking in RANKINGS.items():
                    began = time.perf_counter()
                    first[name] += int(ranking(z).argmax() == odd)
                    spent[name] += time.perf_counter() - began
            shares = " | ".join(f"{first[name] / args.fleets:.0%}" for name in RANKINGS)
            print(f"| {pairs} | {words} | {shares} |")
        each = args.fleets * len(KINDS)
        costs = " | ".join(f"{1e3 * spent[name] / each:.2f} ms" for name in RANKINGS)
        print(f"| {pairs} | time | {costs} |")


if __name__ == "__main__":
    main()
