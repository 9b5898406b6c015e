"""What a running daemon says: a live line on a terminal, structured logs elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TextIO

from alerts import words
from alerts.incident import Incident
from detector.finding import Finding
from tailrace.condition import Condition, percent
from tailrace.durations import duration_text

_LOG_EVERY_S = 60.0

Event = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the daemon is doing."""

    uptime_s: float
    windows: int
    pairs: int
    learning: int
    judged: int
    firing: int
    lost: int
    pending: int
    changes: int = 0
    condition: Condition = field(default_factory=Condition)


class Voice(Protocol):
    """Says things to whoever watches."""

    def note(self, text: str) -> None:
        """Say something worth knowing."""

    def warning(self, text: str) -> None:
        """Say that something is wrong and goes on."""

    def finding(self, finding: Finding) -> None:
        """Say that a finding fires or ended."""

    def incident(self, incident: Incident) -> None:
        """Say that an incident fires or is over."""

    def status(self, status: Status) -> None:
        """Say how it goes, once per window; the voice decides how often to repeat it."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def voice(stream: TextIO | None = None) -> Voice:
    """Return the voice that fits where stderr goes."""
    stream = stream or sys.stderr
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return Terminal(stream)
    return Logs(stream)


class Terminal:
    """One line that is always current, and findings above it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # noqa: PLC0415 - slow to import
        from rich.live import Live  # noqa: PLC0415

        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        _log_through(self._print_event)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print a line above the status."""
        self._print(text, "dim")

    def warning(self, text: str) -> None:
        """Print a line above the status."""
        self._print(f"warning: {text}", "yellow")

    def finding(self, finding: Finding) -> None:
        """Print what changed above the status."""
        self._print(finding_line(finding), "red" if finding.state == "firing" else "green")

    def incident(self, incident: Incident) -> None:
        """Print what it is, and where its cause probably lies, above the status."""
        colour = "green" if incident.state == "resolved" else "red"
        self._print(incident_line(incident), f"bold {colour}")

    def status(self, status: Status) -> None:
        """Redraw the line."""
        from rich.text import Text  # noqa: PLC0415

        self._live.update(Text(status_line(status), no_wrap=True, overflow="ellipsis"))
        self._live.refresh()

    def _print_event(self, event: Event) -> None:
        """Print what another part logs, unless all is well."""
        level, text = event.pop("level"), event.pop("event")
        if level in ("debug", "info"):
            return
        event.pop("timestamp")
        details = " ".join(f"{key}={value}" for key, value in event.items())
        self._print(f"{text}: {details}", "yellow")

    def _print(self, text: str, style: str) -> None:
        """Print a line above the status; only the line itself has the style."""
        from rich.text import Text  # noqa: PLC0415

        # a number stays with its unit where a line is broken
        self._console.print(Text(text.replace(" %", "\u00a0%"), style=style))


class Logs:
    """One `key=value` line per event."""

    def __init__(self, stream: TextIO) -> None:
        import structlog  # noqa: PLC0415 - slow to import

        render = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
        _log_through(lambda event: print(render(None, "", event), file=stream, flush=True))
        self._log: Any = structlog.get_logger("tailrace")
        self._next_status_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def note(self, text: str) -> None:
        """Log it."""
        self._log.info("note", text=text)

    def warning(self, text: str) -> None:
        """Log it."""
        self._log.warning("warning", text=text)

    def finding(self, finding: Finding) -> None:
        """Log what changed."""
        self._log.info(
            "finding",
            id=finding.id,
            state=finding.state,
            client=finding.pair.client,
            server=finding.pair.server,
            port=finding.pair.port,
            signal=finding.signal,
            direction=finding.direction,
            text=sentence(finding),
        )

    def incident(self, incident: Incident) -> None:
        """Log what it is, in full."""
        root = incident.root
        level = self._log.info if incident.severity == "info" else self._log.warning
        level(
            "incident",
            id=incident.id,
            state=incident.state,
            severity=incident.severity,
            root=root.service,
            side=root.side,
            text=incident.summary,
        )

    def status(self, status: Status) -> None:
        """Log the first, and one per minute."""
        if status.uptime_s < self._next_status_s:
            return
        self._next_status_s = status.uptime_s + _LOG_EVERY_S
        condition = status.condition
        costs = {
            name: percent(share)
            for name, share in (("cost", condition.share), ("cost_kernel", condition.kernel))
            if share is not None
        }
        losses = {f"lost_{kind}": number for kind, number in condition.lost.items()}
        self._log.info(
            "status",
            uptime=duration_text(round(status.uptime_s)),
            windows=status.windows,
            pairs=status.pairs,
            judged=status.judged,
            learning=status.learning,
            firing=status.firing,
            lost=status.lost,
            pending=status.pending,
            **({"changes": status.changes} if status.changes else {}),
            **costs,
            **({} if condition.full else {"reduced": condition.level}),
            **losses,
        )


def _log_through(write: Callable[[Event], None]) -> None:
    """Send what any part of the program logs to `write`, never to stdout."""
    import structlog  # noqa: PLC0415

    def write_event(_logger: object, _method: str, event: Event) -> Event:
        write(event)
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            write_event,
        ],
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


def sentence(finding: Finding) -> str:
    """Return what changed, and how it ended if it did."""
    ending = words.ending(finding)
    return f"{words.what(finding)}; {ending}" if ending else words.what(finding)


def finding_line(finding: Finding) -> str:
    """Return a finding as one line of a terminal."""
    at = finding.detected if finding.ended is None else finding.ended
    text = words.what(finding)
    if finding.ended is not None:
        text += f", for {words.duration(finding.ended - finding.onset)}"
    return f"{words.moment(at)[11:19]}  {finding.state:<8}  {finding.id[:8]}  {text}"


def incident_line(incident: Incident) -> str:
    """Return an incident as one line of a terminal."""
    over = incident.resolved if incident.state == "resolved" else None
    root = incident.root
    text = (
        f"{incident.severity}: {words.clean(incident.title)}; probably {words.clean(root.service)}"
    )
    if over is not None:
        text += f"; over after {words.duration(over - incident.started)}"
    at = incident.detected if over is None else over
    return f"{words.moment(at)[11:19]}  INCIDENT  {incident.id[:8]}  {text}"


def status_line(status: Status) -> str:
    """Return the status as one line, the exceptional only when there is some."""
    parts = [
        f"up {duration_text(round(status.uptime_s))}",
        f"window {status.windows}",
        f"{status.pairs} pairs",
        f"{status.judged} streams judged",
        f"{status.firing} firing",
    ]
    if status.changes > status.firing:
        parts.append(f"{status.changes} changes")
    if status.learning:
        parts.insert(4, f"{status.learning} learning")
    if status.lost:
        kinds = ", ".join(f"{number} {kind}" for kind, number in status.condition.lost.items())
        parts.append(f"{status.lost} samples lost" + (f" ({kinds})" if kinds else ""))
    if not status.condition.full:
        share = status.condition.share
        parts.append("measuring less" + ("" if share is None else f", at {percent(share)}"))
    if status.pending:
        parts.append(f"{status.pending} messages pending")
    return " · ".join(parts)
