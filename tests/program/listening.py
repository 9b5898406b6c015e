"""A voice and a deliverer that remember, and an incident for them to hear of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from alerts.incident import Incident
from detector.finding import Finding
from probes.window import Window
from tailrace.status import Status
from tests.program.windows import traffic


class Listener:
    """A voice that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.findings: list[Finding] = []
        self.incidents: list[Incident] = []
        self.statuses: list[Status] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)

    def incident(self, incident: Incident) -> None:
        self.incidents.append(incident)

    def status(self, status: Status) -> None:
        self.statuses.append(status)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Bell:
    """A deliverer that only counts."""

    rung = 0

    def wake(self) -> None:
        self.rung += 1

    def health(self) -> dict[str, Any]:
        return {}


def incident() -> Iterator[Window]:
    """Yield four minutes of traffic that is slow in the third."""
    return traffic(240, slow_from=120, slow_until=180)


def lines(findings: Sequence[Finding]) -> str:
    """Return findings as `-o jsonl` shows them."""
    return "".join(json.dumps(f.to_json(), ensure_ascii=False) + "\n" for f in findings)
