"""Matchers: what they say, what they match, and what is said about mistakes in them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.incident import Root, Trigger
from alerts.matchers import LABELS, Subject, match, parse, parse_all, takes_everything
from probes.window import Pair
from tests.alerts.control import incident
from tests.alerts.examples import T0, finding

ROOTS = (
    Root(service="redis", side="server", score=0.7, why="first"),
    Root(service="node-3", side="network", score=0.3, why="shared"),
)
SYMPTOMS = (
    finding(pair=Pair("shop", "redis", 6379), signal="connect_errors", cause="refused"),
    finding(pair=Pair("web", "shop", 8080), signal="request_latency"),
)
SUBJECT = Subject.of(
    incident(
        roots=ROOTS,
        symptoms=SYMPTOMS,
        trigger=Trigger(kind="deploy", service="redis", at=T0, detail="redis:8"),
    )
)

HOLD = [
    "service=redis", "service=node-3", "service=~red.*", "root=redis", "root!=node-3",
    "side=server", "severity=critical", "severity!=info", "affected=web", "affected=~sh?op|x",
    "trigger=deploy", "client=shop", "client=web", "server=redis", "port=6379", "port=~63..",
    "transport=tcp", "signal=connect_errors", "direction=up", "cause=refused", "cause=",
    "service!=shop", "client!~cron|backup", ' service = "redis" ', 'service =~"r.*"',
]  # fmt: skip
DO_NOT = [
    "service=shop", "service=red", "root=node-3", "service!=redis", "service!=node-3",
    "service!~.*d.*", "severity=info", "affected!=web", "trigger=", "trigger!=deploy",
    "port=63", "client!=shop", "cause!=refused", "cause!=", "service=Redis",
]  # fmt: skip


@pytest.mark.parametrize("text", HOLD)
def test_what_holds(text: str) -> None:
    assert match([parse(text)], SUBJECT)


@pytest.mark.parametrize("text", DO_NOT)
def test_what_does_not(text: str) -> None:
    assert not match([parse(text)], SUBJECT)


def test_matchers_of_findings_hold_for_one_finding() -> None:
    assert match(parse_all(["client=shop", "server=redis", "port=6379"]), SUBJECT)
    assert match(parse_all(["client=web", "server=shop", "service=redis"]), SUBJECT)
    assert not match(parse_all(["client=web", "server=redis"]), SUBJECT)


def test_one_by_one_symptoms_have_the_side_of_their_own() -> None:
    one = finding(pair=Pair("external", "shop", 443), side="client")
    of_all = Subject.of(incident(symptoms=(one,)))
    [alone] = Subject.each_of(incident(symptoms=(one,)))
    assert match([parse("side=server")], of_all)
    assert match(parse_all(["side=client", "client=external"]), alone)


def test_no_matcher_matches_everything_and_nothing_is_known_of_nothing() -> None:
    nothing = Subject(shared={}, symptoms=())
    assert match([], SUBJECT)
    assert match([], nothing)
    assert match(parse_all(["service=", "client=", "cause!=refused"]), nothing)
    assert not match(parse_all(["service=~.+"]), nothing)


NAMES = st.text(alphabet='ab.*~=!" -|(', max_size=8)


@given(st.sampled_from(["service", "client"]), st.sampled_from(["=", "!="]), NAMES)
def test_what_is_written_reads_back(label: str, operator: str, value: str) -> None:
    text = f'{label}{operator}"{value}"'
    matcher = parse(text)
    assert matcher.value == value
    assert parse(str(matcher)) == matcher
    assert match([matcher], Subject(shared={label: [value]}, symptoms=[{label: value}])) == (
        operator == "="
    )


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=3), NAMES)
def test_a_negative_matcher_holds_where_the_positive_does_not(
    services: list[str], value: str
) -> None:
    subject = Subject(shared={"service": services}, symptoms=[{"client": s} for s in services])
    for label in ("service", "client"):
        assert match([parse(f'{label}="{value}"')], subject) != match(
            [parse(f'{label}!="{value}"')], subject
        )


MISTAKES = {
    "redis": "'redis' is no matcher: write it like service=redis, severity!=info",
    "": "'' is no matcher",
    "two words=x": "is no matcher",
    "=x": "no label is called ''; known labels: service, root",
    "sevice=x": "no label is called 'sevice', did you mean 'service'? known labels: " + LABELS[0],
    "severity=crit": "no severity is called 'crit', did you mean 'critical'? there are 'critical'",
    "trigger=x": "no trigger is called 'x'; there are 'deploy', 'restart'",
    "client=~(a": "'client=~(a': pattern '(a', character 1: \"(\" without \")\"",
    "client=~" + "a" * 201: "a pattern has at most 200 characters, not 201",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(MISTAKES[text])):
        parse(text)


def test_the_same_matcher_twice_is_one() -> None:
    assert parse_all(["service=a", 'service = "a"', "service=~a"]) == (
        parse("service=a"),
        parse("service=~a"),
    )


def test_what_takes_everything() -> None:
    assert takes_everything(())
    assert takes_everything(parse_all(["service=~.*", "client=~(a|b)*"]))
    assert not takes_everything(parse_all(["service=~.*", "client=a"]))
    assert not takes_everything(parse_all(["severity!=critical"]))
