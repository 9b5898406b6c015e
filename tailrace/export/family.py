"""What a metric is called: one name, unit and type, and how OTLP and Prometheus write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Type = Literal["counter", "gauge", "histogram", "summary"]

_SUFFIXES: Final = {"By": "bytes", "s": "seconds", "1": "ratio"}
"""UCUM, as OpenTelemetry has units, and what Prometheus puts at the end of a name for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric and all its series.

    Attributes:
        name: with dots, as OTLP has it.
        type: what its numbers mean.
        help: in a sentence.
        unit: as UCUM writes it; in braces what is counted.
        labels: what tells its series apart, beside the service pair if it is of one.
    """

    name: str
    type: Type
    help: str
    unit: str = "1"
    labels: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The unit as it ends a name of Prometheus; "" for none."""
        return _SUFFIXES.get(self.unit, "") if (self.unit, self.type) != ("1", "counter") else ""

    @property
    def prometheus(self) -> str:
        """Its name at Prometheus, by OpenTelemetry's rules, without a counter's `_total`."""
        name = self.name.replace(".", "_")
        return name if name.endswith(self.suffix) else f"{name}_{self.suffix}"

    @property
    def exposed(self) -> str:
        """Its name at Prometheus, as queries have it."""
        return f"{self.prometheus}_total" if self.type == "counter" else self.prometheus


class Sample(NamedTuple):
    """One series of a family that is of no service pair.

    Attributes:
        labels: values, in the order of the family's labels.
        value: now.
    """

    labels: tuple[str, ...]
    value: float


Measured = tuple[Family, list[Sample]]
