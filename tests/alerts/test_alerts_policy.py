"""Who is told of what, and why not."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.matchers import parse_all
from alerts.mutes import Mute
from alerts.policy import Policy, Route, Rules
from probes.window import Pair
from tests.alerts.control import incident, silence
from tests.alerts.examples import T0, finding

RECEIVERS = {"on-call": None, "team": None, "am": 60.0}


def route(*match: str, **more: Any) -> Route:
    return Route(name=more.pop("name", "r"), matchers=parse_all(match), **more)


def told(rules: Rules, **changes: Any) -> dict[str, str]:
    """Return the route by which each receiver is told."""
    found = Policy(rules=rules).destinations(incident(**changes))
    return {destination.receiver: destination.route for destination in found}


def test_without_routes_everybody_is_told_of_warnings_and_worse() -> None:
    rules = Rules(receivers=RECEIVERS)
    assert told(rules) == dict.fromkeys(RECEIVERS, "default")
    assert told(rules, severity="warning") == dict.fromkeys(RECEIVERS, "default")
    assert told(rules, severity="info") == {}


def test_the_first_route_counts_unless_it_goes_on() -> None:
    first = route("service=redis", receivers=("team",), name="1")
    second = route(receivers=("team", "on-call"), name="2")
    assert told(Rules(receivers=RECEIVERS, routes=(first, second))) == {"team": "1"}
    on = dataclasses.replace(first, goes_on=True)
    assert told(Rules(receivers=RECEIVERS, routes=(on, second))) == {"team": "1", "on-call": "2"}
    both = Rules(receivers=RECEIVERS, routes=(on, dataclasses.replace(second, goes_on=True)))
    assert told(both) == {"team": "1", "on-call": "2", "am": "default"}


def test_what_no_route_takes_goes_to_who_no_route_names() -> None:
    rules = Rules(receivers=RECEIVERS, routes=(route("severity=critical", receivers=("on-call",)),))
    assert told(rules, severity="warning") == {"team": "default", "am": "default"}
    assert told(rules) == {"on-call": "r"}
    assert told(rules, severity="info") == {}


def test_a_route_takes_its_severity_and_worse() -> None:
    for least, taken in (("critical", 1), ("warning", 2), ("info", 3)):
        rules = Rules(receivers={"a": None}, routes=(route(severity=least, receivers=("a",)),))
        severities = ("critical", "warning", "info")
        assert sum(told(rules, severity=severity) != {} for severity in severities) == taken


def test_a_destination_has_the_times_of_its_route_and_receiver() -> None:
    rules = Rules(
        receivers=RECEIVERS,
        routes=(route(receivers=("am",), wait_s=5, update_every_s=6, repeat_every_s=7),),
    )
    [am] = Policy(rules=rules).destinations(incident())
    assert (am.wait_s, am.update_every_s, am.repeat_every_s, am.resend_s) == (5, 6, 7, 60.0)


def test_a_silence_holds_while_it_is_active() -> None:
    policy = Policy(
        rules=Rules(receivers=RECEIVERS), silences=(silence("service=redis", start=T0 + 60),)
    )
    assert policy.suppression(incident(), T0) == ""
    said = policy.suppression(incident(), T0 + 60)
    assert said == "silenced by ann until 04:05 UTC: deploy"
    assert policy.suppression(incident(), T0 + 3660) == ""
    assert policy.suppression(incident(roots=(_root("db"),)), T0 + 60) == ""


def _root(service: str) -> Any:
    return dataclasses.replace(incident().root, service=service)


def test_another_day_has_its_date() -> None:
    policy = Policy(silences=(silence("service=redis", length_s=86_400),))
    said = policy.suppression(incident(), T0)
    assert said == "silenced by ann until 2026-01-03 03:04 UTC: deploy"


def test_a_mute_holds_in_its_hours() -> None:
    mute = Mute(
        name="weekly maintenance",
        matchers=parse_all(["service=redis"]),
        days=frozenset({4}),
        first=180,
        last=240,
        zone=ZoneInfo("UTC"),
    )
    policy = Policy(rules=Rules(receivers=RECEIVERS, mutes=(mute,)))
    friday = dt.datetime(2026, 1, 2, 3, 30, tzinfo=dt.UTC).timestamp()
    assert policy.suppression(incident(), friday) == "muted: weekly maintenance"
    assert policy.suppression(incident(), friday + 1800) == ""
    assert policy.suppression(incident(roots=(_root("db"),)), friday) == ""


def test_who_is_not_told_for_want_of_a_route_is_said_so() -> None:
    routes = (route("severity=critical", receivers=("a",)),)
    policy = Policy(rules=Rules(receivers={"a": None}, routes=routes))
    assert policy.suppression(incident(), T0) == ""
    said = policy.suppression(incident(severity="warning"), T0)
    assert said == "no route takes it (severity warning)"
    assert Policy().suppression(incident(severity="info"), T0) == ""  # there is nobody to tell


@pytest.mark.parametrize(
    ("pair", "changes", "observed"),
    [
        # a surge of clients from the internet, their resets, the way to them
        (Pair("external", "shop", 443), {"signal": "requests", "side": "client"}, True),
        (Pair("external 198.51.100.0/24", "shop", 443), {"side": "network"}, True),
        # a server of ours fails them, or nobody knows who fails, or they are all gone
        (Pair("external", "shop", 443), {"side": "server"}, False),
        (Pair("external", "shop", 443), {"side": ""}, False),
        (Pair("external", "shop", 443), {"signal": "silent_pair", "direction": "gone"}, False),
        # what our services depend upon, named or not
        (Pair("shop", "api.stripe.com", 443), {"signal": "connect_errors"}, False),
        (Pair("shop", "external 203.0.113.0/24", 443), {"side": "network"}, False),
        (Pair("shop", "external", 443), {"side": "client"}, False),
        (Pair("shop", "redis", 6379), {"side": "client"}, False),
        (Pair("externalizer", "redis", 6379), {"side": "client"}, False),
        (Pair("unknown", "redis", 6379), {}, True),
        (Pair("shop", "unknown", 0, "unix"), {}, True),
    ],
)
def test_what_is_observed_only_by_default(
    pair: Pair, changes: dict[str, Any], observed: bool
) -> None:
    one = incident(symptoms=(finding(pair=pair, **changes),))
    policy = Policy(rules=Rules(receivers=RECEIVERS))
    assert policy.suppression(one, T0) == ("observe only" if observed else "")


def test_an_incident_with_anything_else_in_it_is_told() -> None:
    surge = finding(pair=Pair("external", "shop", 443), side="client")
    other = finding(pair=Pair("shop", "redis", 6379))
    policy = Policy(rules=Rules(receivers=RECEIVERS))
    assert policy.suppression(incident(symptoms=(surge, surge)), T0) == "observe only"
    assert policy.suppression(incident(symptoms=(surge, other)), T0) == ""
    # and so is one with findings that are not carried whole, or without any
    assert policy.suppression(incident(symptoms=(surge,), findings=("a", "b")), T0) == ""
    assert policy.suppression(incident(symptoms=()), T0) == ""


@given(st.permutations(["on-call", "team", "am"]), st.sampled_from(["critical", "warning", "info"]))
def test_each_receiver_is_told_once_whatever_the_routes(order: list[str], severity: str) -> None:
    routes = tuple(
        route(receivers=tuple(order[: number + 1]), goes_on=True, name=str(number))
        for number in range(3)
    )
    found = Policy(rules=Rules(receivers=RECEIVERS, routes=routes)).destinations(
        incident(severity=severity)
    )
    names = [destination.receiver for destination in found]
    assert names == (order if severity != "info" else [])
