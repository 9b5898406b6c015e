"""What probably set an incident off: of what happened to its services, what fits best.

Pure: the clock is an argument, and all state goes to JSON and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

from alerts.incident import Trigger, TriggerKind
from probes.identity.service_event import ServiceEvent

KEPT_S: Final = 900.0
MOST: Final = 1_000
BEFORE_S: Final = 300.0
"""What happened to the root longer before an onset has not set it off ..."""
OTHERS_BEFORE_S: Final = 60.0
"""... and what happened to another service."""
AFTER_S: Final = 5.0
"""An onset is known to some seconds only, and may be told too early by so much."""
_SYMPTOM_AFTER_S: Final = 2.0
"""The same for what is as often done by what is wrong, or against it."""
_HALF_S: Final = 60.0
"""What is so much farther from the onset is half as probable."""
_NEXT: Final = 0.7
"""What happened to the next service of the incident is so much less probable."""
_LEAST: Final = 0.05
_HABIT: Final = 2
"""What had happened so often within `KEPT_S` sets nothing off any more."""

_WEIGHT: Final[Mapping[TriggerKind, float]] = {
    "deploy": 1.0,
    "oom_kill": 0.9,
    "reload": 0.8,
    "scale_out": 0.65,
    "scale_in": 0.65,
    "restart": 0.5,
}
"""How probable each is, as near to the onset."""
_SYMPTOMS: Final = ("restart", "oom_kill", "scale_out", "scale_in")
_HABITS: Final = ("restart", "reload", "scale_out", "scale_in")


def trigger_of(event: ServiceEvent) -> Trigger:
    """Return what may set an incident off, of what happened to a service."""
    return Trigger(kind=event.kind, service=event.service, at=event.at, detail=event.detail)


class Triggers:
    """What happened to services within the last quarter of an hour."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: list[Trigger] = []

    def add(self, triggers: Iterable[Trigger], *, now: float) -> None:
        """Take what happened; forget what did long ago.

        Args:
            triggers: in any order.
            now: epoch seconds.
        """
        for one in triggers:
            if one.kind in ("restart", "deploy"):
                # what had no instance has one again: that it had none was a part of this
                self._kept = [
                    each
                    for each in self._kept
                    if (each.kind, each.service) != ("scale_in", one.service)
                    or abs(each.at - one.at) > AFTER_S
                ]
            self._kept.append(one)
        self._kept = [each for each in self._kept if now - each.at < KEPT_S][-MOST:]

    def probable(
        self, services: Sequence[str], onset: float, *, blur_s: float = 0.0
    ) -> Trigger | None:
        """Return what probably set an incident off; None if nothing is near enough.

        The nearer to the onset the more probable, then by kind, then by service. What follows the
        onset is a consequence, but for what an onset may be told too early; and what a service
        does all the time sets nothing off.

        Args:
            services: of the incident, the most probable root first.
            onset: epoch seconds.
            blur_s: how much later than it is told an onset may be: the length of a window.
        """
        place = {service: at for at, service in reversed(list(enumerate(services)))}
        found = [
            (self._score(one, place[one.service], onset, blur_s), one)
            for one in self._kept
            if one.service in place and not self._is_habit(one)
        ]
        best = max(found, key=lambda each: (each[0], each[1].at), default=None)
        return None if best is None or best[0] == 0.0 else best[1]

    @staticmethod
    def _score(one: Trigger, place: int, onset: float, blur_s: float) -> float:
        """Return how probable it is, up to 1; 0 if it cannot be."""
        after_s = _SYMPTOM_AFTER_S if one.kind in _SYMPTOMS else AFTER_S
        gap_s = onset - one.at
        before_s = BEFORE_S if place == 0 else OTHERS_BEFORE_S
        if not -after_s - blur_s <= gap_s <= before_s:
            return 0.0
        near = 0.5 ** (abs(gap_s) / _HALF_S)
        return float(_WEIGHT[one.kind] * near * max(_NEXT**place, _LEAST))

    def _is_habit(self, one: Trigger) -> bool:
        earlier = [
            each
            for each in self._kept
            if (each.kind, each.service) == (one.kind, one.service) and each.at < one.at
        ]
        return one.kind in _HABITS and len(earlier) >= _HABIT

    def to_json(self) -> list[dict[str, Any]]:
        """Return all state, for `from_json`."""
        return [
            {"kind": one.kind, "service": one.service, "at": one.at, "detail": one.detail}
            for one in self._kept
        ]

    def from_json(self, kept: Iterable[Mapping[str, Any]]) -> None:
        """Take up what `to_json` returned.

        Raises:
            ValueError: it is not from `to_json`; nothing is taken.
        """
        try:
            found = [
                Trigger(
                    kind=_kind(one["kind"]),
                    service=str(one["service"]),
                    at=float(one["at"]),
                    detail=str(one["detail"]),
                )
                for one in kept
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not what happened to services: {error!r}") from error
        self._kept = found[-MOST:]


def _kind(name: str) -> TriggerKind:
    for kind in get_args(TriggerKind):
        if kind == name:
            return kind  # type: ignore[no-any-return]
    raise ValueError(f"{name!r} is nothing that happens to a service")
