"""Few names for many peers, and each of them for good."""

from __future__ import annotations

import ipaddress
import json
import threading

import numpy as np
import pytest

from bpf import layout
from probes.endpoints import Where, mapped
from probes.identity import elsewhere
from probes.identity.answers import Answers
from probes.identity.elsewhere import Asker, Elsewhere, domain_of
from probes.identity.reverse import ReverseNames
from tests.support.answers import hear, record
from tests.support.traffic import wait_for

NO_RECORDS = np.zeros(0, layout.ANSWER)


def _called(one: Elsewhere, address: str, group: int = 0, port: int = 443) -> str:
    asker = Asker(group or hash((address, port)), 7)
    return one.service(Where(1, mapped(address), port), asker).name


def _public(number: int) -> str:
    """Return one of 20,000 addresses all over the public internet."""
    return str(ipaddress.IPv4Address(0x0B000000 + number * 7919))


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("api.stripe.com", "stripe.com"),
        ("stripe.com", "stripe.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("bucket.s3.amazonaws.com", "s3.amazonaws.com"),
        ("d111.cloudfront.net", "cloudfront.net"),
        ("x.y.github.io", "github.io"),
        ("*.cloudfront.net", "cloudfront.net"),
        ("db.corp.internal", "corp.internal"),
        ("localhost", ""),
    ],
)
def test_a_domain_is_what_belongs_together(name: str, domain: str) -> None:
    assert domain_of(name) == domain


def test_a_domain_with_many_names_is_one_and_the_first_keep_theirs() -> None:
    answers = Answers()
    one = Elsewhere(answers)
    for i in range(3_000):
        hear(answers, f"b{i}.s3.amazonaws.com.", _public(i), tgid=7)
    called = [_called(one, _public(i)) for i in range(3_000)]
    assert called[:10] == [f"b{i}.s3.amazonaws.com" for i in range(10)]
    assert set(called[10:]) == {"*.s3.amazonaws.com"}
    assert [_called(one, _public(i)) for i in range(3_000)] == called
    # another domain of the same owner has names of its own
    hear(answers, "sqs.eu-west-1.amazonaws.com.", "11.0.0.1", tgid=7)
    assert _called(one, "11.0.0.1") == "sqs.eu-west-1.amazonaws.com"


def test_services_of_ones_own_are_told_apart() -> None:
    answers = Answers()
    one = Elsewhere(answers)
    for i in range(100):
        hear(answers, f"s{i}.corp.internal.", f"10.0.0.{i}", tgid=7)
    assert len({_called(one, f"10.0.0.{i}") for i in range(100)}) == 100


def test_any_number_of_domains_gives_a_bounded_number_of_names() -> None:
    answers = Answers()
    one = Elsewhere(answers)
    for i in range(5_000):
        hear(answers, f"www.site{i}.com.", _public(i), tgid=7)
    called = {_called(one, _public(i)) for i in range(5_000)}
    assert len(called) == elsewhere.MOST_NAMES_IN_ALL + elsewhere.MOST_DOMAINS + 1
    assert "external" in called


def test_addresses_without_names_are_networks() -> None:
    one = Elsewhere()
    assert _called(one, "11.22.33.44") == "external 11.22.33.0/24"
    assert _called(one, "11.22.33.55", port=80) == "external 11.22.33.0/24"
    assert _called(one, "2a00:1:2:3::4") == "external 2a00:1:2::/48"
    assert _called(one, "10.1.2.3") == "10.1.2.3"
    assert _called(one, "fe80::1") == "fe80::1"
    assert _called(one, "fd00::1") == "fd00::1"
    assert _called(one, "100.64.0.1") == "100.64.0.1"
    assert _called(one, "239.1.2.3", port=5000) == "239.1.2.3"


def test_twenty_thousand_addresses_are_few_names() -> None:
    one = Elsewhere()
    called = [_called(one, _public(i)) for i in range(20_000)]
    assert len(set(called)) == elsewhere.MOST_NETWORKS + 1
    assert [_called(one, _public(i)) for i in range(20_000)] == called
    near = [f"10.{i >> 8}.{i & 255}.1" for i in range(20_000)]
    called = [_called(one, address) for address in near]
    assert called[: elsewhere.MOST_ADDRESSES] == near[: elsewhere.MOST_ADDRESSES]
    assert set(called[elsewhere.MOST_ADDRESSES :]) == {"external"}  # the networks are used up


def test_clients_from_the_internet_are_one() -> None:
    answers = Answers()
    one = Elsewhere(answers)
    hear(answers, "shop.example.com.", "11.0.0.1", tgid=7)
    hear(answers, "db.corp.internal.", "10.0.0.1", tgid=7)
    assert {_called(one, _public(i), port=0) for i in range(1_000)} == {"external"}
    # who asks us from there need not be what we call there
    assert _called(one, "11.0.0.1", port=0) == "external"
    assert _called(one, "10.0.0.1", port=0) == "db.corp.internal"
    assert _called(one, "10.0.0.2", port=0) == "10.0.0.2"


def test_several_names_at_one_address_are_their_domain_or_the_latest() -> None:
    answers = Answers()
    one = Elsewhere(answers)
    hear(answers, "a.example.com.", "11.0.0.1", tgid=1, at_s=1)
    hear(answers, "b.example.com.", "11.0.0.1", tgid=2, at_s=2)
    assert _called(one, "11.0.0.1") == "*.example.com"
    hear(answers, "a.example.com.", "11.0.0.2", tgid=1, at_s=1)
    hear(answers, "b.example.net.", "11.0.0.2", tgid=2, at_s=2)
    assert _called(one, "11.0.0.2") == "b.example.net"


def test_a_group_keeps_its_name_and_an_address_need_not() -> None:
    answers = Answers()
    one = Elsewhere(answers)
    hear(answers, "old.test.", "11.0.0.1", at_s=1)
    assert _called(one, "11.0.0.1", group=5) == "old.test"
    hear(answers, "new.test.", "11.0.0.1", at_s=500)
    assert _called(one, "11.0.0.1", group=5) == "old.test"
    assert _called(one, "11.0.0.1", group=6) == "new.test"


def test_a_name_that_comes_later_is_a_new_generation_now_and_then() -> None:
    one = Elsewhere()
    assert _called(one, "11.0.0.1", group=5) == "external 11.0.0.0/24"
    one.hear(record("late.test.", "11.0.0.1"), 100.0)
    assert one.generation == 1
    assert _called(one, "11.0.0.1", group=5) == "late.test"
    one.hear(record("nobody.asked.test.", "11.0.0.9"), 101.0)
    assert one.generation == 1
    assert _called(one, "11.0.0.2") == "external 11.0.0.0/24"
    one.hear(record("later.test.", "11.0.0.2"), 102.0)
    assert one.generation == 1  # all groups are named anew then: not too often
    one.hear(NO_RECORDS, 111.0)
    assert one.generation == 2


def test_names_outlive_a_restart() -> None:
    answers = Answers()
    one = Elsewhere(answers)
    for i in range(300):
        hear(answers, f"b{i}.s3.amazonaws.com.", _public(i), tgid=7)
    addresses = [_public(i) for i in range(20_000)] + [
        f"10.0.{i >> 8}.{i & 255}" for i in range(99)
    ]
    called = [_called(one, address) for address in addresses]
    for same_boot in (True, False):
        other = Elsewhere()
        other.from_memory(json.loads(json.dumps(one.to_memory())), same_boot=same_boot)
        again = [_called(other, address) for address in addresses]
        if same_boot:
            assert again == called
        else:  # whom the answers named is not known any more
            assert again[300:] == called[300:]
            assert again[0] == "external"


def test_reverse_names_are_asked_for_elsewhere() -> None:
    asked, go_on = [], threading.Event()

    def ask(address: str) -> str:
        asked.append(address)
        assert go_on.wait(10)
        if address == "11.0.0.2":
            raise OSError("no such name")
        return "Host1.Example.com."

    one = Elsewhere(reverse=ReverseNames(ask))
    try:
        # nobody waits for the resolver
        assert _called(one, "11.0.0.1", group=1) == "external 11.0.0.0/24"
        assert _called(one, "11.0.0.2", group=2) == "external 11.0.0.0/24"
        assert _called(one, "11.0.0.3", port=0) == "external"
        go_on.set()
        wait_for(lambda: (one.hear(NO_RECORDS, 0.0), one.generation)[1] > 0)
        found = one.service(Where(1, mapped("11.0.0.1"), 443), Asker(1, 7))
        assert (found.name, found.resolution) == ("host1.example.com", "reverse dns")
        wait_for(lambda: len(asked) == 2)
        one.hear(NO_RECORDS, 100.0)
        assert _called(one, "11.0.0.2", group=2) == "external 11.0.0.0/24"
        assert asked == ["11.0.0.1", "11.0.0.2"]  # once each, and no client's
    finally:
        go_on.set()
        one.close()


def test_a_slow_resolver_is_left_alone_and_what_it_is_not_asked_is_counted() -> None:
    asked = threading.Event()

    def ask(_: str) -> str:
        asked.set()
        threading.Event().wait(0.2)
        return ""

    reverse = ReverseNames(ask)
    try:
        for i in range(1_200):
            reverse.find(mapped(_public(i)))
        assert asked.wait(5)
        assert 150 <= reverse.dropped <= 200
    finally:
        reverse.close()


def test_the_systems_resolver() -> None:
    reverse = ReverseNames()
    try:
        reverse.find(mapped("127.0.0.1"))
        wait_for(lambda: bool(reverse.found()), within_s=30)
        assert reverse.find(mapped("127.0.0.1")) == "localhost"
    finally:
        reverse.close()
