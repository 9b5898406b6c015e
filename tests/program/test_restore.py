"""Detector, incidents and store agree after a start, whichever of their states was lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alerts.grouping import Incidents
from alerts.store import Store
from detector.finding import Finding
from tailrace.restore import incidents_of
from tests.alerts.examples import T0, numbered


class Knows:
    """A detector that only knows what fires."""

    def __init__(self, *firing: Finding) -> None:
        self._firing = firing

    def firing(self) -> Sequence[Finding]:
        return self._firing


ONE = numbered(1)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """Return a store with an incident that is told."""
    with Store.open(tmp_path) as opened:
        opened.register_receivers(["pager"])
        incidents = Incidents()
        for second in range(20, 40):
            changes = incidents.step([ONE] if second == 20 else [], now=T0 + second)
            opened.commit(
                [ONE], snapshot=b"d", now=T0 + second, incidents=changes,
                grouping=incidents.to_bytes(),
            )  # fmt: skip
        yield opened


def events(store: Store) -> list[str]:
    return [row.event for row in store.outbox.deliveries()]


def restored(store: Store, *firing: Finding) -> tuple[Incidents, list[str]]:
    notes: list[str] = []
    detector: Any = Knows(*firing)
    return incidents_of(store, detector, now=T0 + 60, note=notes.append), notes


def test_nothing_is_lost_and_nothing_is_told(store: Store) -> None:
    incidents, notes = restored(store, ONE)
    assert (len(incidents), notes, events(store)) == (1, [], ["firing"])


def test_without_the_detectors_state_what_fired_is_the_new_normal(store: Store) -> None:
    incidents, _ = restored(store)
    assert len(incidents) == 0
    assert [(i.state, i.ended_as) for i in store.incidents()] == [("resolved", "adopted")]
    assert store.finding(ONE.id).state == "adopted"
    assert events(store) == ["firing", "resolved"]


def test_without_the_incidents_state_what_fires_opens_one_anew(store: Store) -> None:
    store.save_snapshot("incidents", b"from another time", now=T0)
    two = numbered(2)
    incidents, notes = restored(store, two)
    assert "set aside" in notes[0]
    assert store.snapshot("incidents-unreadable") == b"from another time"
    assert incidents.knows(two.id)
    assert store.incident_of(two.id) == incidents.current()[0].id
    assert [i.state for i in store.incidents()] == ["resolved", "pending"]
    assert events(store) == ["firing", "resolved"]
