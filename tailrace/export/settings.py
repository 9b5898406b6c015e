"""What the export needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tailrace.export.pair_families import Names

FILE: Final = "export.json"
"""In the state directory: how the export of a running daemon does, for `tailrace doctor`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpSettings:
    """Where OTLP goes.

    Attributes:
        endpoint: base URL; `/v1/metrics` and `/v1/logs` are put behind it.
        headers: sent with each request; they may hold secrets.
        interval_s: between two exports of metrics, seconds.
        timeout_s: longest wait for each phase of a request, seconds.
        ca_file: certificates to trust in place of the system's.
        attributes: of the resource, in place of ours or beside them.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict)
    interval_s: float = 60.0
    timeout_s: float = 10.0
    ca_file: Path | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What is exported, and where to.

    Attributes:
        listen: address and port of `/metrics`; None for none.
        names: the vocabulary.
        max_pairs: so many service pairs have series of their own.
        otlp: where OTLP goes; None for nowhere.
    """

    listen: tuple[str, int] | None = None
    names: Names = "tailrace"
    max_pairs: int = 1000
    otlp: OtlpSettings | None = None

    def __bool__(self) -> bool:
        """Return whether anything is exported."""
        return self.listen is not None or self.otlp is not None
