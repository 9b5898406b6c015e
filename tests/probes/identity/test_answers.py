"""DNS messages as clients get them, well made and not, and which name they give an address."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.endpoints import mapped
from probes.identity.answers import Answers, Parsed, parse
from tests.support.answers import hear, message_of

_RECORDS = (
    "API.example.test. 300 IN CNAME edge.cdn.test.",
    "edge.cdn.test. 20 IN CNAME e7.cdn.test.",
    "e7.cdn.test. 20 IN A 11.0.0.1",
    "e7.cdn.test. 20 IN A 11.0.0.2",
    "stranger.test. 20 IN A 11.0.0.3",
)


def test_the_name_is_the_questions_and_addresses_are_those_it_leads_to() -> None:
    found = parse(message_of("API.example.test.", "A", *_RECORDS))
    assert found == Parsed("api.example.test", (mapped("11.0.0.1"), mapped("11.0.0.2")))
    # in whatever order they come
    assert parse(message_of("API.example.test.", "A", *reversed(_RECORDS))) == Parsed(
        "api.example.test", (mapped("11.0.0.2"), mapped("11.0.0.1"))
    )


def test_ipv6() -> None:
    message = message_of("v6.example.test.", "AAAA", "v6.example.test. 9 IN AAAA 2a00::7")
    assert parse(message) == Parsed("v6.example.test", (mapped("2a00::7"),))


@pytest.mark.parametrize(
    "message",
    [
        message_of("a.test.", "A"),
        message_of("a.test.", "A", "a.test. 9 IN A 11.0.0.1", rcode=dns.rcode.SERVFAIL),
        message_of("a.test.", "MX", "a.test. 9 IN MX 10 b.test."),
        message_of("a.test.", "A", "a.test. 9 IN CNAME b.test."),
        message_of("a.test.", "A", "a.test. 9 IN CNAME b.test.", "b.test. 9 IN CNAME a.test."),
        dns.message.make_query("a.test.", "A").to_wire(),
    ],
    ids=["empty", "failed", "no address", "alias of nothing", "alias loop", "query"],
)
def test_what_gives_no_name(message: bytes) -> None:
    assert parse(message) is None


def test_of_the_beginning_of_a_message_whole_records_count() -> None:
    records = [f"many.test. 9 IN A 11.0.1.{i}" for i in range(1, 61)]
    message = message_of("many.test.", "A", *records)
    with pytest.raises(ValueError, match="not a DNS message"):
        parse(message[:500])
    found = parse(message[:500], cut=True)
    assert found is not None
    assert found.addresses == tuple(mapped(f"11.0.1.{i}") for i in range(1, 30))


def _looping() -> bytes:
    # header with one question and one answer, whose name points at itself
    return b"\0\1\x81\x80\0\1\0\1\0\0\0\0" + b"\1a\0\0\1\0\1" + b"\xc0\x13\0\1\0\1\0\0\0\0\0\4abcd"


@pytest.mark.parametrize(
    "message",
    [b"", b"\0" * 5, _looping(), message_of("a.test.", "A", "a.test. 9 IN A 11.0.0.1")[:-1]],
    ids=["nothing", "short", "a name that points at itself", "cut"],
)
def test_malformed(message: bytes) -> None:
    with pytest.raises(ValueError, match="not a DNS message"):
        parse(message)


_GOOD = message_of("API.example.test.", "A", *_RECORDS)


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=1023),
        st.lists(st.tuples(st.integers(0, len(_GOOD) - 1), st.integers(0, 255)), max_size=8),
    ),
    st.booleans(),
)
def test_garbage_is_refused_and_never_more(
    garbage: bytes | list[tuple[int, int]], cut: bool
) -> None:
    if not isinstance(garbage, bytes):
        spoilt = bytearray(_GOOD)
        for at, value in garbage:
            spoilt[at] = value
        garbage = bytes(spoilt)
    try:
        found = parse(garbage, cut=cut)
    except ValueError:
        return
    assert found is None or (found.name and all(len(a) == 16 for a in found.addresses))


def _find(answers: Answers, address: str, netns: int = 1, tgid: int = 0) -> list[str]:
    return answers.find(netns, mapped(address), tgid)


def test_the_latest_answer_counts() -> None:
    answers = Answers()
    hear(answers, "old.test.", "11.0.0.1", at_s=0)
    assert _find(answers, "11.0.0.1") == ["old.test"]
    hear(answers, "new.test.", "11.0.0.1", at_s=100)
    assert _find(answers, "11.0.0.1") == ["new.test"]
    # not long apart: no telling which was meant
    hear(answers, "newer.test.", "11.0.0.1", at_s=110)
    assert _find(answers, "11.0.0.1") == ["newer.test", "new.test"]
    hear(answers, "new.test.", "11.0.0.1", at_s=120)
    assert _find(answers, "11.0.0.1") == ["new.test", "newer.test"]


def test_what_the_process_was_told_counts_most_then_its_namespace() -> None:
    answers = Answers()
    hear(answers, "mine.test.", "11.0.0.1", tgid=7)
    hear(answers, "theirs.test.", "11.0.0.1", tgid=8, at_s=5)
    hear(answers, "far.test.", "11.0.0.1", netns=2, tgid=7, at_s=6)
    assert _find(answers, "11.0.0.1", tgid=7) == ["mine.test"]
    assert _find(answers, "11.0.0.1", tgid=9) == ["theirs.test", "mine.test"]
    assert _find(answers, "11.0.0.1", netns=2, tgid=9) == ["far.test"]
    assert _find(answers, "11.0.0.1", netns=3, tgid=7) == ["far.test"]
    assert _find(answers, "11.0.0.2") == []


def test_nobody_is_at_a_blocklists_address() -> None:
    answers = Answers()
    hear(answers, "ads.test.", "0.0.0.0", "127.0.0.1")
    hear(answers, "ads.test.", "::", "::1")
    assert len(answers) == 0


def test_what_cannot_be_read_is_counted() -> None:
    answers = Answers()
    hear(answers, "", "11.0.0.1", message=_looping())
    assert (answers.malformed, len(answers)) == (1, 0)


def test_there_is_an_end_to_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.identity.answers._MOST", 100)
    answers = Answers()
    for i in range(200):
        hear(answers, f"n{i}.test.", f"11.0.0.{i}")
        _find(answers, "11.0.0.0")  # in use
    assert len(answers) == 100
    assert _find(answers, "11.0.0.0") == ["n0.test"]
    assert _find(answers, "11.0.0.50") == []
    assert _find(answers, "11.0.0.199", netns=5) == ["n199.test"]
