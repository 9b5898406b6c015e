"""Preflight's part on the promise: whether detection is calibrated, and the budget kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tailrace import calibration, pairs, state
from tailrace.check import Check
from tailrace.errors import TailraceError


def calibration_checks(state_dir: Path, *, now: float) -> Iterator[Check]:
    """Yield whether each kind of signal honours the theory behind its thresholds."""
    with contextlib.suppress(TailraceError):  # told as the daemon's
        found = pairs.published_by(state_dir / state.PAIRS, now=now)
        for each in found.calibration if found else ():
            raised = each.threshold == "empirical"
            yield Check(
                name="calibration",
                state="warn" if raised else "ok",
                detail=calibration.text(each),
                remedy="nothing is to be done: small changes of these take longer to be found"
                if raised
                else "",
            )


def budget_checks(state_dir: Path, *, now: float) -> Iterator[Check]:
    """Yield how the budget of false alerts was kept."""
    from alerts.errors import StoreError  # noqa: PLC0415 - slow to import
    from alerts.store import Store  # noqa: PLC0415

    spent = None
    with contextlib.suppress(StoreError), Store.open(state_dir, read_only=True) as store:
        spent = store.spent(now=now)
    if spent is None:
        return
    counts = f"{spent.free} hard failures, {spent.proven} proven real"
    if spent.dismissed:
        counts += f", {spent.dismissed} dismissed as false"
    yield Check(
        name="alert budget",
        state="ok" if spent.tokens >= 1.0 else "warn",
        detail=f"{spent.text}: {spent.tokens:.1f} of {spent.capacity:g} tokens left; in the last "
        f"week {spent.told} incidents were told ({counts}), {spent.held} held back",
        remedy=""
        if spent.tokens >= 1.0
        else "what does not prove real goes into digests; confirm what was real with "
        "`tailrace alert confirm ID`, or raise [detector] false_alerts",
    )
