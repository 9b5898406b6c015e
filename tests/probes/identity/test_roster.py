"""What it means that members of a service come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.identity.roster import Member, Roster
from probes.identity.service_event import ServiceEvent

_T = 1_800_000_000.0
_OLD, _NEW = "shop:1.2@sha256:aaaa", "shop:1.3@sha256:bbbb"


def _member(place: str, at: float, version: str = _OLD, **more: object) -> Member:
    one = Member(service="shop", place=place, version=version, started=_T + at, roams=True)
    return replace(one, **more)  # type: ignore[arg-type]


def _process(at: float, port: int, version: str = "/srv/a of 1", **more: object) -> Member:
    return _member("/", at, version, roams=False, ports=frozenset({port}), program="a", **more)


class _Story:
    """What happened, told at seconds after the beginning."""

    def __init__(self, *members: Member) -> None:
        self.roster = Roster()
        self.told: list[ServiceEvent] = []
        for at, member in enumerate(members):
            self.roster.join(at, replace(member, started=_T - 100), _T)
        self._now = 0.0

    def until(self, at: float) -> None:
        while self._now < at:
            self._now += 1.0
            self.told += self.roster.reconsider(_T + self._now)

    def join(self, who: object, member: Member) -> None:
        self.until(member.started - _T)
        self.roster.join(who, member, member.started)

    def leave(self, who: object, at: float, how: str = "") -> None:
        self.until(at)
        self.roster.leave(who, _T + at, how)

    def kinds(self, at: float = 600) -> list[tuple[str, float]]:
        self.until(at)
        return [(event.kind, event.at - _T) for event in self.told]


def test_the_first_sight_is_no_event() -> None:
    story = _Story(_member("a", 0), _member("b", 0, _NEW))
    story.roster.join("late", _member("c", -50, _NEW), _T + 20)
    assert story.kinds() == []


def test_a_container_of_another_image() -> None:
    story = _Story(_member("a", 0))
    story.leave(0, 10, "exit code 0")
    story.join("new", _member("b", 14, _NEW))
    assert story.kinds() == [("deploy", 10)]
    assert story.told[0].detail == f"{_NEW} in place of {_OLD}"


def test_a_container_of_the_same_image() -> None:
    story = _Story(_member("a", 0))
    story.leave(0, 10, "killed by SIGKILL")
    story.join("new", _member("b", 14, "shop:1.2"))  # its digest is not known yet
    assert story.kinds() == [("restart", 10)]
    assert story.told[0].detail == "killed by SIGKILL, and another took its place after 4 s"


def test_a_tag_that_was_moved() -> None:
    story = _Story(_member("a", 0, "shop:latest@sha256:aaaa"))
    story.leave(0, 10)
    story.join("new", _member("b", 11, "shop:latest@sha256:bbbb"))
    assert story.kinds() == [("deploy", 10)]


def test_a_roll_out_is_one_deploy_and_no_scaling() -> None:
    story = _Story(*[_member(f"a{n}", 0) for n in range(3)])
    for n in range(3):
        story.join(f"new{n}", _member(f"b{n}", 20 * n + 10, _NEW))
        story.leave(n, 20 * n + 25)
    assert story.kinds() == [("deploy", 10)]


def test_a_roll_back_is_a_deploy() -> None:
    story = _Story(_member("a", 0))
    story.join("new", _member("b", 10, _NEW))
    story.leave(0, 15)
    story.join("old", _member("c", 100, _OLD))
    story.leave("new", 110)
    assert story.kinds() == [("deploy", 10), ("deploy", 100)]


def test_a_roll_out_of_the_same_image_is_a_restart() -> None:
    story = _Story(*[_member(f"a{n}", 0, revision="x") for n in range(2)])
    for n in range(2):
        story.join(f"new{n}", _member(f"b{n}", 40 * n + 10, revision="y"))
        story.leave(n, 40 * n + 35)
    assert story.kinds() == [("restart", 10)]


def test_scaling() -> None:
    story = _Story(_member("a", 0))
    story.join("b", _member("b", 10))
    story.join("c", _member("c", 13))
    story.leave("b", 60, "exit code 0")
    assert story.kinds() == [("scale_out", 10), ("scale_in", 60)]
    assert story.told[0].detail == "3 instances in place of 1"
    assert story.told[1].detail == "2 instances in place of 3: exit code 0"


def test_more_after_fewer_is_no_restart() -> None:
    story = _Story(_member("a", 0), _member("b", 0))
    story.leave(1, 10)
    story.join("c", _member("c", 60))
    assert story.kinds() == [("scale_in", 10), ("scale_out", 60)]


def test_more_after_a_roll_out_is_no_part_of_it() -> None:
    story = _Story(_member("a", 0))
    story.join("new", _member("b", 10, _NEW))
    story.leave(0, 15)
    story.join("more", _member("c", 60, _NEW))
    assert story.kinds() == [("deploy", 10), ("scale_out", 60)]


def test_a_container_that_is_started_again_late_is_the_same_one() -> None:
    story = _Story(_member("a", 0), _member("b", 0))
    story.leave(1, 10, "exit code 1")
    story.join("again", _member("b", 40))
    assert story.kinds() == [("scale_in", 10), ("restart", 10)]


def test_none_left_and_back() -> None:
    story = _Story(_member("a", 0))
    story.leave(0, 10, "exit code 1")
    story.join("again", _member("a", 60))
    assert story.kinds() == [("scale_in", 10), ("restart", 10)]
    assert story.told[0].detail == "no instance in place of 1: exit code 1"


def test_a_client_that_ends_has_only_done_its_work() -> None:
    story = _Story(_member("a", 0, serves=False))
    story.leave(0, 10)
    story.join("later", _member("b", 100, serves=False))
    assert story.kinds() == []


def test_a_second_session_of_a_client_is_no_scaling() -> None:
    alone = {"serves": False, "roams": False}
    story = _Story(_member("a", 0, **alone))
    story.join("b", _member("b", 10, **alone))
    assert story.kinds() == []


def test_a_sidecar_is_told_from_what_it_is_beside() -> None:
    story = _Story(_member("pod", 0, program="app"))
    story.roster.join("side", _member("pod", -90, "side:7", program="side"), _T)
    story.join("more", _member("pod2", 10, program="app"))
    story.join("more side", _member("pod2", 10, "side:7", program="side"))
    story.leave(0, 60)
    story.leave("side", 60)
    story.join("new", _member("pod3", 61, _NEW, program="app"))
    story.join("new side", _member("pod3", 61, "side:7", program="side"))
    assert sorted(story.kinds()) == [("deploy", 60), ("restart", 60), ("scale_out", 10)]
    (deploy,) = [event for event in story.told if event.kind == "deploy"]
    assert deploy.detail == f"{_NEW} in place of {_OLD}"


def test_processes_take_over_where_they_listen() -> None:
    story = _Story(_process(0, 80))
    story.leave(0, 10)
    story.join("other", _process(12, 80, version="/srv/b of 2"))
    assert story.kinds() == [("deploy", 10)]
    assert story.told[0].detail == "/srv/b of 2 in place of /srv/a of 1"


def test_another_program_of_the_same_name_is_no_deploy() -> None:
    story = _Story(_process(0, 80))
    story.join("other", _process(12, 81, version="/home/me/a of 2"))
    assert story.kinds() == []
    story = _Story(_process(0, 80))
    story.leave(0, 10)
    story.join("other", replace(_process(11, 80, version="/srv/b of 2"), program="b"))
    assert [kind for kind, _ in story.kinds()] == []


def test_a_member_that_is_called_otherwise_has_not_left() -> None:
    story = _Story(_member("a", 0))
    story.roster.join(0, _member("a", -100, service="door"), _T + 10)
    assert story.kinds() == []
    assert len(story.roster) == 2


def test_a_name_that_comes_late_is_judged_like_one_that_did_not() -> None:
    story = _Story(_member("a", 0))
    story.leave(0, 10)
    story.join("new", _member("b", 12, "", service="0123456789ab"))
    story.until(14)
    story.roster.join("new", _member("b", 12, _NEW), _T + 14)
    assert story.kinds() == [("deploy", 10)]


def test_it_forgets_and_has_no_more_than_it_may() -> None:
    roster = Roster()
    for number in range(6_000):
        roster.join(number, replace(_member("a", 0), service=f"s{number}"), _T)
    assert len(roster) <= 5_000
    roster.leave(0, _T + 1)  # of a service that has given way
    assert roster.reconsider(_T + 2) == []


_steps = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "rename"]),
        st.integers(0, 5),
        st.integers(0, 3),
        st.sampled_from([_OLD, _NEW, "shop:1.2", ""]),
        st.integers(0, 30),
        st.booleans(),
    ),
    max_size=30,
)


@given(_steps)
def test_whatever_happens_it_makes_sense(steps: list[tuple[str, int, int, str, int, bool]]) -> None:
    roster, now, told = Roster(), _T, list[ServiceEvent]()
    for what, who, place, version, pause, roams in steps:
        now += pause
        if what == "join":
            member = _member(f"p{place}", now - _T, version, roams=roams)
            roster.join((who, place), member, now)
        elif what == "leave":
            roster.leave((who, place), now)
        else:
            roster.rename((who, place))
        told += roster.reconsider(now)
    for _ in range(400):  # and comes to rest
        now += 1
        last = roster.reconsider(now)
        told += last
    assert last == []
    assert all(_T - 1 <= event.at <= now for event in told)
    assert all(event.kind != "deploy" or " in place of " in event.detail for event in told)


@pytest.mark.parametrize("version", ["", _OLD])
def test_an_unknown_version_is_no_other(version: str) -> None:
    story = _Story(_member("a", 0, version))
    story.leave(0, 10)
    story.join("new", _member("b", 11, ""))
    assert story.kinds() == [("restart", 10)]
