"""The feed of changes: significant at a false discovery rate; shown, and never paged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from detector.bank import Bank
from detector.calibration import Change
from detector.catalog import Catalog

PATIENCE_S = 86_400.0
FALSE_SHARE = 0.1
"""Of what the feed shows in a day, no more than this share is expected to be false."""


def changes(catalog: Catalog, banks: Sequence[Bank]) -> list[Change]:
    """Return the streams that are in the feed now, the surest first.

    The e-Benjamini-Hochberg procedure over the e-detectors (Dandapanthula and Ramdas,
    arXiv 2501.04130): of M streams, the k with the greatest R are shown for the largest k at which
    the k-th still is M / (alpha k), with alpha the share of false ones per window of patience.
    """
    t = catalog.streams
    spacing = float(np.nanmedian(t["spacing"])) if t.size else math.nan
    if not spacing > 0:
        return []
    found: list[tuple[float, int, Bank, int]] = []
    for model, bank in enumerate(banks):
        episodes = bank.episodes.table
        rows = np.flatnonzero(~np.isnan(episodes["start"]))
        of = catalog.in_bank(model)[episodes["of"][rows]]
        r = bank.table["r"][:, episodes["of"][rows]].mean(axis=0)
        told = episodes["fire"][rows] != 0
        # What is told keeps the evidence by which it was
        nats = np.where(told, episodes["nats"][rows], np.log(np.maximum(r, 1e-9)))
        found += [
            (float(n), int(stream), bank, int(row))
            for n, stream, row in zip(nats, of, rows, strict=True)
        ]
    found.sort(key=lambda each: (-each[0], each[1]))
    need = math.log(t.size * PATIENCE_S / (spacing * FALSE_SHARE))
    passed = [k for k, each in enumerate(found, 1) if each[0] >= need - math.log(k)]
    return [_change(catalog, *each) for each in found[: max(passed, default=0)]]


def _change(catalog: Catalog, nats: float, stream: int, bank: Bank, row: int) -> Change:
    episodes = bank.episodes.table
    i, run = int(episodes["of"][row]), bank.run_of(row)
    up = bool(episodes["up"][row] > 0)
    told = bank.describe(i, run, best=bank.best(i, run, up=up), up=up)
    return Change(
        pair=catalog.pair_of[int(catalog.streams["pair"][stream])],
        signal=catalog.signal_of(stream),
        direction="up" if up else "down",
        onset=float(episodes["start"][row]),
        nats=nats,
        before=told.before,
        after=told.after,
    )
