"""Findings and settings for these tests, and a clock that moves when it is told to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from alerts.settings import WebhookSettings
from detector.finding import Finding, finding_id
from probes.window import Pair

WEB_API = Pair("web", "api", 8080)
T0 = 1_767_323_045.25  # 2026-01-02T03:04:05.250Z


def finding(*, onset: float = T0, pair: Pair = WEB_API, **changes: Any) -> Finding:
    """Return a finding: request latency of web -> api:8080 rose from 2.1 ms to 20.4 ms."""
    signal = changes.get("signal", "request_latency")
    direction = changes.get("direction", "up")
    base = Finding(
        id=finding_id(pair, signal, direction, onset),
        pair=pair,
        signal="request_latency",
        direction="up",
        onset=onset,
        detected=onset + 15,
        before=0.0021,
        after=0.0204,
        ratio=0.0204 / 0.0021,
        unit="s",
        significance=8.4,
        cause="",
        state="firing",
        evidence={"samples": 412.0, "test": "exact", "log10_p": -8.4},
    )
    return dataclasses.replace(base, **changes)


def ended(of: Finding, *, state: str = "resolved", after_s: float = 300.0) -> Finding:
    """Return the same finding when it is over."""
    return dataclasses.replace(of, state=state, ended=of.onset + after_s)


def numbered(number: int, **changes: Any) -> Finding:
    """Return a finding that shares its fingerprint with no other number's."""
    base = {"pair": Pair(f"client-{number}", "api", 8080), "onset": T0 + number}
    return finding(**(base | changes))


class Clock:
    """A clock for tests."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def webhook_settings(url: str, *, secret_file: Path | None = None, **more: Any) -> WebhookSettings:
    name = more.pop("name", "pager")
    return WebhookSettings(name=name, url=url, secret_file=secret_file, **more)


def written(path: Path, secret: str) -> Path:
    """Write a secret's file."""
    path.write_text(f"{secret}\n")
    return path
