"""What `tailrace doctor` says of the export."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tailrace import config
from tailrace.check import Check
from tailrace.errors import ConfigError
from tailrace.export.settings import FILE

STALE_S: Final = 30.0


def export_checks(state_dir: Path, config_path: Path | None, *, now: float) -> Iterator[Check]:
    """Yield whether metrics are served and OTLP is sent, as far as they are asked for."""
    asked = config.Config()
    with contextlib.suppress(ConfigError):  # told by the check of the configuration
        asked = config.load(config_path)
    running = _running(state_dir / FILE, now)
    if asked.metrics.listen != "off":
        yield _metrics(asked.metrics.listen, running)
    if asked.otlp.endpoint != "off":
        yield _otlp(asked.otlp.endpoint, running)


def _running(file: Path, now: float) -> dict[str, Any] | None:
    """Return what a running daemon has written; None when none exports."""
    try:
        found = json.loads(file.read_bytes())
        fresh = now - float(found["time"]) <= STALE_S
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(found) if fresh else None


def _metrics(listen: str, running: dict[str, Any] | None) -> Check:
    if running is None:
        return Check(name="metrics", state="ok", detail=f"for {listen}, once the daemon runs")
    where, folded = str(running.get("metrics")), int(running.get("folded", 0))
    if not where.startswith("http"):
        return Check(
            name="metrics",
            state="warn",
            detail=where or f"not served on {listen}",
            remedy="name another address in [metrics] listen, and restart the daemon",
        )
    detail = f"{where}, {running.get('pairs', 0)} service pairs"
    if folded:
        return Check(
            name="metrics",
            state="warn",
            detail=f"{detail}, and {folded} more as `other`",
            remedy="to have series for more pairs raise [metrics] max_pairs",
        )
    return Check(name="metrics", state="ok", detail=detail)


def _installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:  # nothing of OpenTelemetry's is there
        return False


def _otlp(endpoint: str, running: dict[str, Any] | None) -> Check:
    if not _installed():
        return Check(
            name="otlp",
            state="fail",
            detail="opentelemetry-proto is not installed",
            remedy="pip install 'tailrace[otlp]', or take [otlp] out of the configuration",
        )
    counted = None if running is None else running.get("otlp")
    if counted is None:
        return Check(name="otlp", state="ok", detail=f"to {endpoint}, once the daemon runs")
    detail = (
        f"to {endpoint}: {counted['sent']} items sent, {counted['dropped']} dropped, "
        f"{counted['waiting']} waiting"
    )
    if counted["error"]:
        return Check(
            name="otlp",
            state="warn",
            detail=f"{detail}; {counted['error']}",
            remedy="let this host reach the receiver, or correct [otlp] endpoint and headers",
        )
    return Check(name="otlp", state="ok", detail=detail)
