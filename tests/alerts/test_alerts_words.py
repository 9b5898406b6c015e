import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts import words
from alerts.impact import Symptom, severity
from alerts.incident import finding_from_json, finding_to_json, incident_from_json
from probes.window import Pair
from tests.alerts.examples import T0, ended, finding, incident


@pytest.mark.parametrize(
    ("amount", "unit", "signal", "expected"),
    [
        (0.0021, "s", "request_latency", "2.1 ms"),
        (0.0204, "s", "request_latency", "20.4 ms"),
        (0.00000042, "s", "rtt", "0.4 µs"),
        (0.99999, "s", "rtt", "1.0 s"),
        (0.9994, "s", "rtt", "999 ms"),
        (0.0, "s", "rtt", "0.0 ms"),
        (3.25, "s", "connect_latency", "3.2 s"),
        (340.0, "1/s", "requests", "340 req/s"),
        (0.05, "1/s", "requests", "0.05 req/s"),
        (12_300.0, "1/s", "connections", "12,300 conn/s"),
        (7.0, "1/s", "silent_pair", "7.0/s"),
        (1_200_000.0, "B/s", "bytes_sent", "1.2 MB/s"),
        (999.6, "B/s", "bytes_sent", "1.0 kB/s"),
        (0.05, "ratio", "connect_errors", "5.0 %"),
        (0.00012, "ratio", "retransmits", "0.012 %"),
        (1.0, "ratio", "resets", "100 %"),
        (17.5, "", "queue_depth", "17.5"),
        (17.5, "jobs", "queue_depth", "17.5 jobs"),
        (math.nan, "s", "rtt", "unknown s"),
    ],
)
def test_quantities_read_as_people_write_them(amount, unit, signal, expected):
    expected = expected.replace("unknown s", "unknown µs")
    assert words.quantity(amount, unit, signal=signal) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "request latency of web -> api:8080 rose from 2.1 ms to 20.4 ms (9.7x)"),
        (
            {
                "signal": "requests",
                "direction": "down",
                "unit": "1/s",
                "before": 340.0,
                "after": 12.0,
                "ratio": 12 / 340,
            },
            "requests of web -> api:8080 fell from 340 req/s to 12.0 req/s (-96 %)",
        ),
        (
            {
                "signal": "connect_errors",
                "unit": "ratio",
                "before": 0.0,
                "after": 0.42,
                "ratio": None,
            },
            "failed connections of web -> api:8080 rose from 0.0 % to 42.0 %",
        ),
        (
            {"signal": "new_pair", "direction": "new", "before": None, "ratio": None, "unit": ""},
            "web -> api:8080 is a new service pair",
        ),
        (
            {
                "signal": "silent_pair",
                "direction": "gone",
                "before": 34.0,
                "after": 0.0,
                "unit": "1/s",
            },
            "web -> api:8080 went silent (was 34.0/s)",
        ),
        (
            {"signal": "queue_depth", "unit": "", "before": 3.0, "after": 9.0, "ratio": 3.0},
            "queue_depth of web -> api:8080 rose from 3.0 to 9.0 (3.0x)",
        ),
    ],
)
def test_what_changed_is_one_plain_clause(changes, expected):
    assert words.what(finding(**changes)) == expected


def test_transport_is_said_only_when_it_is_not_tcp():
    assert words.pair(Pair("web", "dns", 53, "udp")) == "web -> dns:53/udp"


def test_a_roll_up_is_said_as_people_say_it():
    every = Pair("*", "api", 8080)
    assert words.what(finding(pair=every)) == (
        "request latency of every client of api:8080 rose from 2.1 ms to 20.4 ms (9.7x)"
    )
    assert words.headline(finding(pair=every)) == (
        "request latency up 9.7x: every client of api:8080"
    )
    assert words.pair(Pair("*", "dns", 53, "udp")) == "every client of dns:53/udp"
    assert words.pair(Pair("checkout", "*", 0)) == "checkout to all its servers"
    assert words.pair(Pair("checkout", "*", 0, "udp")) == "checkout to all its servers over udp"


def test_names_from_outside_lose_control_characters_and_excess_length():
    assert words.clean("a\nb\x1b[31m\u202ec") == "ab[31mc"
    assert len(words.clean("x" * 10_000)) == 120


def test_how_sure_in_words_and_as_a_number():
    assert words.certainty(8.4) == "very sure (1 in 10^8 by chance)"
    assert words.certainty(2.4) == "weak evidence (1 in 251 by chance)"
    assert words.certainty(3.0) == "fairly sure (1 in 1,000 by chance)"
    assert words.certainty(math.inf) == "practically certain (less than 1 in 10^300 by chance)"
    assert words.certainty(math.nan) == "unknown"


def test_an_adopted_finding_is_the_new_normal():
    text = words.ending(ended(finding(), state="adopted", after_s=1800))
    assert text == "new normal since 2026-01-02 03:04:05 UTC (adopted after 30 min)"
    assert words.ending(ended(finding())).startswith("back to normal since 2026-01-02 03:09:05 UTC")
    assert words.ending(finding()) == ""


@given(
    st.floats(),
    st.sampled_from(["s", "1/s", "B/s", "ratio", "", "jobs"]),
)
def test_any_number_can_be_said(amount, unit):
    assert "\n" not in words.quantity(amount, unit)
    assert len(words.quantity(amount, unit)) < 420


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"signal": "connect_errors", "after": 0.42}, "critical"),
        ({"signal": "resets", "after": 0.05}, "critical"),
        ({"signal": "resets", "after": 0.049}, "warning"),
        ({"signal": "resets", "after": None}, "warning"),
        ({"signal": "connect_errors", "direction": "down", "after": 0.0, "ratio": 0.0}, "info"),
        ({"signal": "silent_pair", "direction": "gone"}, "critical"),
        ({"signal": "requests", "direction": "down", "ratio": 0.04}, "critical"),
        ({"signal": "connections", "direction": "down", "ratio": 0.4}, "warning"),
        ({"signal": "requests", "direction": "down", "ratio": 0.7}, "info"),
        ({"signal": "requests", "direction": "up", "ratio": 5.0}, "info"),
        ({"signal": "request_latency", "ratio": 2.0}, "warning"),
        ({"signal": "rtt", "ratio": 1.9}, "info"),
        ({"signal": "rtt", "direction": "down", "ratio": 0.1}, "info"),
        ({"signal": "retransmits", "ratio": None}, "warning"),
        ({"signal": "new_pair", "direction": "new", "ratio": None}, "info"),
        ({"signal": "bytes_sent", "direction": "down", "ratio": 0.0}, "info"),
        ({"signal": "queue_depth", "ratio": 50.0}, "info"),
    ],
)
def test_severity_is_what_users_feel(changes, expected):
    assert severity(Symptom(finding=finding(**changes), rate=10.0, share=1.0)) == expected


def test_a_finding_survives_its_public_form():
    one = dataclasses.replace(ended(finding(cause="refused")), evidence={}, onset=T0)
    assert finding_from_json(finding_to_json(one)) == one


def test_numbers_json_does_not_know_become_null():
    public = finding_to_json(finding(ratio=math.inf, before=math.nan, significance=math.inf))
    assert public["ratio"] is None
    assert public["before"] is None
    assert public["significance"] is None
    assert finding_from_json(public).significance == math.inf


def test_an_incident_lists_so_many_findings_and_names_all():
    many = [finding(onset=T0 + i) for i in range(80)]
    about = incident(*many)
    assert about.findings == tuple(one.id for one in many)
    assert about.symptoms == tuple(many[:50])
    assert about.title == "request latency up 9.7x: web -> api:8080 (+79 more)"


def test_a_summary_answers_what_since_when_how_sure_where_and_why():
    hurt = finding(signal="connect_errors", unit="ratio", cause="refused", side="server", after=0.4)
    slower = finding(pair=Pair("shop", "web", 80), onset=T0 + 4)
    for part in (
        "failed connections of web -> api:8080 rose from 0.2 % to 40.0 %",
        "since 2026-01-02 03:04:05 UTC",
        "How sure: very sure (1 in 10^8 by chance)",
        "Cause: the server refused them",
        "Where: almost certainly api, at the server",
        "Impact: 40 % of the requests of web -> api:8080 fail. 50 % or more of the requests of "
        "shop -> web:80 take 9.7x as long",
        "Also: request latency of shop -> web:80 rose from 2.1 ms to 20.4 ms (9.7x)",
        "Felt by: shop, web",
    ):
        assert part in incident(hurt, slower).summary


def test_an_incident_survives_its_public_form():
    about = incident(ended(finding(evidence={}, onset=T0)), part_of="x", ended_as="merged")
    again = incident_from_json(about.to_json())
    assert again.to_json() == about.to_json()
    assert dataclasses.replace(again, roots=about.roots, symptoms=about.symptoms) == about
