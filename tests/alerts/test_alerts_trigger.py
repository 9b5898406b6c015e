"""What is taken for the cause of an incident, and what is not."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.incident import Trigger, TriggerKind
from alerts.trigger import AFTER_S, BEFORE_S, KEPT_S, MOST, Triggers, trigger_of
from probes.identity.service_event import EventKind, ServiceEvent

_ONSET = 1_800_000_000.0
_KINDS: tuple[TriggerKind, ...] = get_args(TriggerKind)


def _trigger(kind: TriggerKind, gap_s: float, service: str = "shop", detail: str = "") -> Trigger:
    """Return what happened so long before the onset; after it, if that is negative."""
    return Trigger(kind=kind, service=service, at=_ONSET - gap_s, detail=detail)


def _of(*triggers: Trigger) -> Triggers:
    found = Triggers()
    found.add(triggers, now=_ONSET)
    return found


def test_every_event_of_a_service_has_its_trigger() -> None:
    assert get_args(EventKind) == get_args(TriggerKind)
    event = ServiceEvent(kind="deploy", service="shop", at=5.0, detail="b in place of a")
    expected = Trigger(kind="deploy", service="shop", at=5.0, detail="b in place of a")
    assert trigger_of(event) == expected


def test_the_nearest_is_the_most_probable() -> None:
    near, far = _trigger("deploy", 10), _trigger("deploy", 200)
    assert _of(far, near).probable(["shop"], _ONSET) == near
    assert _of(near, far).probable(["shop"], _ONSET) == near


def test_as_near_the_kind_decides() -> None:
    order: tuple[TriggerKind, ...] = (
        "deploy", "oom_kill", "reload", "scale_out", "restart",
    )  # fmt: skip
    for at, kind in enumerate(order):
        rest = [_trigger(each, 20) for each in reversed(order[at:])]
        found = _of(*rest).probable(["shop"], _ONSET)
        assert found is not None
        assert found.kind == kind


def test_a_restart_at_the_onset_is_more_probable_than_a_deploy_minutes_ago() -> None:
    restart = _trigger("restart", 1)
    assert _of(restart, _trigger("deploy", 240)).probable(["shop"], _ONSET) == restart


def test_the_roots_come_first() -> None:
    at_root, at_victim = _trigger("restart", 5, "db"), _trigger("restart", 5, "web")
    both = _of(at_victim, at_root)
    assert both.probable(["db", "web"], _ONSET) == at_root
    assert both.probable(["web", "db"], _ONSET) == at_victim
    assert both.probable(["db", "web", "db"], _ONSET) == at_root


def test_who_has_no_part_in_it_has_not_set_it_off() -> None:
    assert _of(_trigger("deploy", 1, "other")).probable(["shop"], _ONSET) is None
    assert _of().probable(["shop"], _ONSET) is None
    assert _of(_trigger("deploy", 1)).probable([], _ONSET) is None


@pytest.mark.parametrize("kind", _KINDS)
def test_what_happened_long_before_or_after_has_not_set_it_off(kind: TriggerKind) -> None:
    assert _of(_trigger(kind, BEFORE_S + 1)).probable(["shop"], _ONSET) is None
    assert _of(_trigger(kind, -AFTER_S - 1)).probable(["shop"], _ONSET) is None
    assert _of(_trigger(kind, BEFORE_S - 1)).probable(["shop"], _ONSET) is not None


@pytest.mark.parametrize("kind", ["restart", "oom_kill", "scale_out", "scale_in"])
def test_what_follows_the_onset_is_its_consequence(kind: TriggerKind) -> None:
    assert _of(_trigger(kind, -3)).probable(["shop"], _ONSET) is None
    assert _of(_trigger(kind, -1)).probable(["shop"], _ONSET) is not None


def test_a_deploy_may_come_with_the_onset() -> None:
    deploy = _trigger("deploy", -3)
    assert _of(deploy).probable(["shop"], _ONSET) == deploy


def test_long_windows_make_an_onset_less_certain() -> None:
    late = _trigger("restart", -8)
    assert _of(late).probable(["shop"], _ONSET, blur_s=10) == late
    assert _of(late).probable(["shop"], _ONSET) is None


def test_what_a_service_does_all_the_time_sets_nothing_off() -> None:
    loop = [_trigger("restart", gap_s) for gap_s in (260, 200, 140, 80, 20)]
    found = _of(*loop).probable(["shop"], _ONSET)
    assert found == loop[1]  # the first two may have
    always = [_trigger("restart", gap_s) for gap_s in (800, 700, 600, 500, 20)]
    assert _of(*always).probable(["shop"], _ONSET) is None
    deploys = [_trigger("deploy", gap_s) for gap_s in (800, 700, 600, 20)]
    assert _of(*deploys).probable(["shop"], _ONSET) == deploys[-1]


def test_who_is_back_has_not_scaled_to_nothing() -> None:
    down = _trigger("scale_in", 30, detail="no instance in place of 1")
    assert _of(down).probable(["shop"], _ONSET) == down
    back = _trigger("restart", 30)
    assert _of(down, back).probable(["shop"], _ONSET) == back
    # another's, and another time's, stay
    other = _trigger("scale_in", 30, "web")
    assert _of(other, back).probable(["web"], _ONSET) == other
    assert _of(_trigger("scale_in", 60), back).probable(["shop"], _ONSET - 30) is not None


def test_it_forgets() -> None:
    found = _of(_trigger("deploy", 1))
    found.add([], now=_ONSET - 1 + KEPT_S)
    assert found.to_json() == []
    found.add([_trigger("deploy", 1, f"s{n}") for n in range(MOST + 5)], now=_ONSET)
    assert len(found.to_json()) == MOST
    assert found.probable(["s0"], _ONSET) is None
    assert found.probable([f"s{MOST + 4}"], _ONSET) is not None


_any = st.builds(
    Trigger,
    kind=st.sampled_from(_KINDS),
    service=st.sampled_from(["db", "web", "käse"]),
    at=st.floats(_ONSET - 800, _ONSET, allow_nan=False),
    detail=st.text(),
)


@given(st.lists(_any, max_size=20))
def test_state_goes_to_json_and_back(triggers: list[Trigger]) -> None:
    one, other = Triggers(), Triggers()
    one.add(triggers, now=_ONSET)
    other.from_json(json.loads(json.dumps(one.to_json())))
    assert other.to_json() == one.to_json()
    for onset in (_ONSET, _ONSET - 100):
        services = ["web", "db"]
        assert other.probable(services, onset) == one.probable(services, onset)


@pytest.mark.parametrize(
    "kept",
    [
        [{"kind": "deploy"}],
        [{"kind": "eclipse", "service": "a", "at": 1.0, "detail": ""}],
        [{"kind": "deploy", "service": "a", "at": "soon", "detail": ""}],
        [7],
    ],
)
def test_what_is_no_state_is_refused(kept: list[dict[str, object]]) -> None:
    found = _of(_trigger("deploy", 1))
    with pytest.raises(ValueError, match=r"service|float"):
        found.from_json(kept)
    assert len(found.to_json()) == 1


def test_what_happened_to_another_than_the_root_must_be_near() -> None:
    for gap_s, found in ((50.0, True), (200.0, False)):
        one = Trigger(kind="deploy", service="web", at=_ONSET - gap_s)
        assert (_of(one).probable(["postgres", "web"], _ONSET) is not None) is found
        assert _of(one).probable(["web", "postgres"], _ONSET) == one
