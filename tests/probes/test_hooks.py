"""The table of events and hooks, as data."""

import json

import pytest

from probes.hooks import (
    EVENTS,
    HOOKS,
    Event,
    Kind,
    Target,
    Way,
    check_table,
    from_data,
    to_data,
    ways_of,
)
from probes.links import CGROUP_POINTS


def _way(family: str, kind: Kind, where: str = "tcp_sendmsg", *, required: bool = True) -> Way:
    return Way(family, (Target(where, f"by_{kind}", kind, required),))  # type: ignore[arg-type]


_SENT = Event(
    "data sent",
    required=True,
    ways=(
        _way("fentry", "fentry"),
        _way("kprobe", "kprobe"),
        _way("tracepoint", "raw_tracepoint", "sock_send_length"),
    ),
)
_FLOWS = Event("flows", required=False, ways=(_way("cgroup", "cgroup", "skb_egress"),))
_OPEN = Event("open", required=False, ways=(_way("iterator", "iter", "task_file"),))


def test_auto_tries_all_in_order() -> None:
    assert ways_of(_SENT, "auto") == tuple(enumerate(_SENT.ways))


@pytest.mark.parametrize(("hooks", "place"), [("fentry", 0), ("kprobe", 1), ("tracepoint", 2)])
def test_a_family_is_forced(hooks: str, place: int) -> None:
    assert ways_of(_SENT, hooks) == ((place, _SENT.ways[place]),)


@pytest.mark.parametrize("hooks", HOOKS)
def test_cgroups_and_iterators_go_with_any_family(hooks: str) -> None:
    assert ways_of(_FLOWS, hooks) == ((0, _FLOWS.ways[0]),)
    assert ways_of(_OPEN, hooks) == ((0, _OPEN.ways[0]),)


def test_an_event_may_have_no_way_in_a_family() -> None:
    only = Event("x", required=False, ways=_SENT.ways[:1])
    assert ways_of(only, "kprobe") == ()


def test_an_unknown_family() -> None:
    with pytest.raises(ValueError, match="must be one of auto, tracepoint, fentry, kprobe"):
        ways_of(_SENT, "uprobe")


def test_a_table_survives_json() -> None:
    table = (_SENT, _FLOWS, _OPEN)
    assert from_data(json.loads(json.dumps(to_data(table)))) == table


def test_programs_bound_to_their_target_are_told_apart() -> None:
    twice = [Target(where, "on_send", "fentry").program for where in ("tcp_sendmsg", "udp_sendmsg")]
    assert twice == ["on_send@tcp_sendmsg", "on_send@udp_sendmsg"]
    assert Target("tcp_sendmsg", "on_send", "kprobe").program == "on_send"


def test_the_real_table_can_be_meant() -> None:
    check_table(EVENTS)
    for event in EVENTS:
        for way in event.ways:
            for target in way.targets:
                if target.kind == "cgroup":
                    assert target.where in CGROUP_POINTS


def test_an_event_twice() -> None:
    with pytest.raises(ValueError, match="'data sent' is in the table twice"):
        check_table((_SENT, _SENT))


def test_a_way_that_requires_nothing() -> None:
    way = _way("kprobe", "kprobe", required=False)
    with pytest.raises(ValueError, match="requires no target"):
        check_table((Event("x", required=False, ways=(way,)),))


def test_one_function_for_two_kinds() -> None:
    ways = (
        Way("kprobe", (Target("tcp_sendmsg", "on_send", "kprobe"),)),
        Way("tracepoint", (Target("sock_send_length", "on_send", "raw_tracepoint"),)),
    )
    with pytest.raises(ValueError, match="on_send is raw_tracepoint here and kprobe elsewhere"):
        check_table((Event("x", required=False, ways=ways),))


def test_a_kprobe_function_may_serve_a_return() -> None:
    targets = (
        Target("tcp_sendmsg", "on_call", "kprobe"),
        Target("udp_sendmsg", "on_call", "kretprobe"),
    )
    check_table((Event("x", required=False, ways=(Way("kprobe", targets),)),))


def test_what_programs_go_on_to_is_run_by_nothing_else() -> None:
    """Two runs of one program on a CPU would share its stack (Linux 6.13 and later)."""
    targets = {target for event in EVENTS for way in event.ways for target in way.targets}
    tails = [target for target in targets if target.kind == "tail"]
    attached = {target.program for target in targets if target.kind != "tail"}
    assert len(tails) == 4
    assert len({target.where for target in tails}) == len(tails)
    assert len({target.program for target in tails} - attached) == len(tails)
