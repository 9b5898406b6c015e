"""The detector and the incidents as they were when the daemon last ran."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from detector import engines
from detector.engines import Engine
from detector.settings import DetectorSettings
from tailrace.durations import duration_text

if TYPE_CHECKING:
    import alerts.store
    from alerts.grouping import Change, Incidents
    from alerts.incident import State


class Store(Protocol):
    """Where states are kept."""

    def snapshot(self, name: str = "detector") -> bytes | None:
        """Return a state, None when there is none."""

    def save_snapshot(self, name: str, data: bytes, *, now: float) -> None:
        """Keep a state."""


class Observer(Protocol):
    """What has a memory."""

    def restore(self, saved: bytes) -> None:
        """Take up what an earlier observer knew; ValueError when it cannot be read."""


def remember(store: Store, name: str, observer: Observer, *, note: Callable[[str], None]) -> None:
    """Tell the observer what it knew when the daemon last ran."""
    data = store.snapshot(name)
    if data is None:
        return
    try:
        observer.restore(data)
    except ValueError as error:
        note(f"who was watched before is not known any more: {error}")


def detector_of(store: Store, settings: DetectorSettings, *, note: Callable[[str], None]) -> Engine:
    """Return the engine with its stored baselines, or a new one when there are none.

    A state that cannot be read (of another version, or of another engine) is set aside, never
    overwritten.
    """
    data = store.snapshot("detector")
    if data is None:
        warmup = duration_text(settings.warmup_s)
        note(f"no baselines yet: nothing is judged before {warmup} of traffic were seen")
        return engines.new(settings, scored=False)
    try:
        return engines.restore(data, settings, scored=False)
    except ValueError as error:
        store.save_snapshot("detector-unreadable", data, now=time.time())
        note(f"the stored baselines cannot be used ({error}): they are set aside, learning anew")
        return engines.new(settings, scored=False)


def incidents_of(
    store: alerts.store.Store, detector: Engine, *, now: float, note: Callable[[str], None]
) -> Incidents:
    """Return the open incidents, in agreement with the detector and the store; it is stored.

    Normally all three know the same, as they are stored together. Where a state was lost, or is
    of an older version: a finding that fires in the store alone is the new normal; one that no
    incident knows opens one; an incident that fires in the store alone is over.
    """
    incidents, changes = _restored(store, now=now, note=note)
    firing = detector.firing()
    ended = store.orphans({finding.id for finding in firing}, now=now)
    fresh = [finding for finding in firing if not incidents.knows(finding.id)]
    changes += incidents.step([*fresh, *ended], now=now)
    store.commit(
        [*fresh, *ended], snapshot=None, now=now, incidents=changes, grouping=incidents.to_bytes()
    )
    return incidents


def _restored(
    store: alerts.store.Store, *, now: float, note: Callable[[str], None]
) -> tuple[Incidents, list[Change]]:
    """Return the incidents as they were stored, and how those end that are not among them."""
    from alerts.grouping import Change, Incidents  # noqa: PLC0415 - slow to import

    incidents = Incidents()
    data = store.snapshot("incidents")
    if data is not None:
        try:
            incidents = Incidents.from_bytes(data)
        except ValueError as error:
            store.save_snapshot("incidents-unreadable", data, now=now)
            note(f"the open incidents cannot be taken up ({error}): they are set aside")
    known = {incident.id for incident in incidents.current()}
    going_on: tuple[State, ...] = ("pending", "firing", "recovering")
    left = [i for state in going_on for i in store.incidents(state=state) if i.id not in known]
    over = [
        dataclasses.replace(each, state="resolved", changed=now, resolved=now, ended_as="adopted")
        for each in left
    ]
    return incidents, [Change(incident, "resolved") for incident in over]
