"""Preflight's part on the past: how far back it reaches, and what that takes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tailrace import config
from tailrace.check import Check
from tailrace.config_history import History, size_text
from tailrace.durations import duration_text
from tailrace.errors import ConfigError, TailraceError
from tailrace.history.overview import Overview, Reach, overview

_MEGABYTE = 1e6


def history_check(state_dir: Path, config_path: Path | None, *, now: float) -> Check:
    """Return what the history holds and takes."""
    settings = History()
    with contextlib.suppress(ConfigError):  # told as the configuration's
        settings = config.load(config_path).history
    try:
        found = overview(state_dir)
    except TailraceError as error:
        return Check(
            name="history",
            state="warn",
            detail=f"{error.where}: {error.what}",
            remedy=error.remedy,
        )
    off = "" if settings.enabled else "switched off; "
    if found is None:
        limit = f"nothing kept yet; at most {size_text(settings.max_size)}"
        return Check(name="history", state="ok", detail=off + (limit if not off else "none kept"))
    remedies = _remedies(found, state_dir)
    return Check(
        name="history",
        state="warn" if remedies else "ok",
        detail=off + _detail(found, now),
        remedy="; ".join(remedies),
    )


def _detail(found: Overview, now: float) -> str:
    reach = ", ".join(_reach(tier, now) for tier in found.tiers)
    text = (
        f"{reach}; {found.pairs} pairs; {found.size / _MEGABYTE:,.1f} MB on disk of at most "
        f"{found.max_size / _MEGABYTE:,.0f}"
    )
    if found.lost:
        text += "; lost since the daemon's start: " + ", ".join(
            f"{number} {what}" for what, number in sorted(found.lost.items())
        )
    if found.deleted_for_room:
        text += f"; {found.deleted_for_room} chunks were deleted early for room"
    for name, size in sorted(found.aside.items()):
        text += f"; {name} was set aside ({size / _MEGABYTE:,.1f} MB)"
    return text


def _reach(tier: Reach, now: float) -> str:
    step, keep = duration_text(tier.step), duration_text(tier.keep)
    if tier.first is None:
        return f"{step}: nothing yet of {keep}"
    back = min(max(now - tier.first, 0.0), tier.keep)
    return f"{step}: the last {duration_text(round(back))} of {keep}"


def _remedies(found: Overview, state_dir: Path) -> list[str]:
    remedies = []
    if found.lost:
        remedies.append("what is judged and told is complete; see the log for why")
    if found.deleted_for_room:
        remedies.append("to keep more, raise [history] max_size")
    if found.aside:
        remedies.append(f"delete what was set aside in {state_dir}, or look into it")
    return remedies
