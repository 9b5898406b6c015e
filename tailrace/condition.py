"""How the watching itself does: what it costs, whether less is measured for it, what was lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

_LEVELS = (
    "everything is measured",
    "round-trip times are sampled in every fifth window only",
    "round-trip times are sampled in every fifth window only, and one request in 16 is timed",
)
_LOST = {
    "connections": "connections that found no room",
    "groups": "connections put under `other`, as there was no room for their pair",
    "latencies": "latency samples that found no room",
    "listeners": "listening sockets that found no room",
    "links": "connections whose two ends could not be joined",
    "queries": "DNS queries that found no room",
    "answers": "DNS answers not read for their names",
    "malformed": "DNS answers that make no sense",
    "missed": "events that the kernel did not tell",
    "overruns": "times that events of conntrack were lost, and all was asked for anew",
    "translations": "translated connections that found no room",
}
LOST_KINDS: Final = tuple(_LOST)
"""Every kind of loss that is told apart."""


class Cost(Protocol):
    """What watching costs: `probes.cost.Cost`."""

    @property
    def level(self) -> int:
        """How much is measured; 0 is everything."""

    @property
    def user(self) -> float | None:
        """Share of a core that the daemon uses."""

    @property
    def kernel(self) -> float | None:
        """Share of a core that its programs use in the kernel."""

    @property
    def budget(self) -> float | None:
        """What both may come to."""

    @property
    def reason(self) -> str:
        """Why the kernel's share is not known."""


class Observer(Protocol):
    """What knows all this: `probes.observer.Observer`."""

    @property
    def cost(self) -> Cost:
        """What it costs."""

    @property
    def lost(self) -> Mapping[str, int]:
        """What was lost since the start, by kind."""

    @property
    def folded(self) -> int:
        """How many pairs are put under `other`."""

    @property
    def naming_problems(self) -> Sequence[str]:
        """What keeps services from being named better, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the watching does.

    Attributes:
        level: how much is measured; 0 is everything, see `probes.budget.Level`.
        user: share of one core that the daemon uses; None while unknown.
        kernel: share of one core that the eBPF programs use; None while unknown.
        budget: what both may come to; None for no limit.
        reason: why `kernel` stays unknown; "" while it does not.
        lost: what was lost since the start, by kind, see `Programs.lost()`; only what was.
        folded: how many pairs are put under `other`, as there are too many.
        naming: what keeps services from being named better, in words.
    """

    level: int = 0
    user: float | None = None
    kernel: float | None = None
    budget: float | None = None
    reason: str = ""
    lost: Mapping[str, int] = field(default_factory=dict)
    folded: int = 0
    naming: tuple[str, ...] = ()

    @classmethod
    def of(cls, observer: Observer) -> Self:
        """Return how an observer does."""
        cost = observer.cost
        return cls(
            level=int(cost.level),
            user=cost.user,
            kernel=cost.kernel,
            budget=cost.budget,
            reason=cost.reason,
            lost={kind: number for kind, number in observer.lost.items() if number},
            folded=observer.folded,
            naming=tuple(observer.naming_problems),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_json` was made of.

        Raises:
            KeyError, TypeError, ValueError: it was made of something else.
        """
        numbers = {
            key: None if data[key] is None else float(data[key])
            for key in ("user", "kernel", "budget")
        }
        return cls(
            level=int(data["level"]),
            reason=str(data["reason"]),
            lost={str(kind): int(number) for kind, number in data["lost"].items()},
            folded=int(data.get("folded", 0)),
            naming=tuple(map(str, data.get("naming", ()))),
            **numbers,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; shares of one core as numbers, 0.005 is 0.5 %."""
        return {
            "level": self.level,
            "user": self.user,
            "kernel": self.kernel,
            "budget": self.budget,
            "reason": self.reason,
            "lost": dict(self.lost),
            "folded": self.folded,
            "naming": list(self.naming),
        }

    @property
    def share(self) -> float | None:
        """Share of one core in all, as far as it is known; None while nothing is."""
        return None if self.user is None else self.user + (self.kernel or 0.0)

    @property
    def full(self) -> bool:
        """Whether everything is measured."""
        return self.level == 0

    def cost_text(self) -> str:
        """Return what it costs: "0.31 % of a core (0.25 % the daemon, 0.06 % its programs)"."""
        if self.share is None:
            return "its cost is not known yet"
        programs = "its programs not known" if self.kernel is None else (
            f"{percent(self.kernel)} its programs"
        )  # fmt: skip
        limit = "no limit" if self.budget is None else f"budget {percent(self.budget)}"
        parts = f"{percent(self.user or 0.0)} the daemon, {programs}"
        return f"{percent(self.share)} of a core ({parts}), {limit}"

    def measure_text(self) -> str:
        """Return what is measured; a higher level takes away samples, never a count."""
        text = _LEVELS[min(max(self.level, 0), len(_LEVELS) - 1)]
        return text if self.full else f"{text}; counts stay exact"

    def lost_text(self) -> str:
        """Return what was lost, by kind; "" for nothing."""
        return ", ".join(f"{number} {_LOST.get(kind, kind)}" for kind, number in self.lost.items())

    def folded_text(self) -> str:
        """Return how many pairs are put under `other`; "" for none."""
        return f"{self.folded} pairs that do least are put under `other`" if self.folded else ""

    def change_text(self, before: int) -> str:
        """Return what a change of the level from `before` means, and why it came."""
        why = "above its budget" if self.level > before else "well below its budget"
        limit = "" if self.budget is None else f" of {percent(self.budget)} of a core"
        return f"watching cost has been {why}{limit}: {self.measure_text()}"


def percent(share: float) -> str:
    """Return a share of a core: "0.31 %", "12 %"."""
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.0f} %"
