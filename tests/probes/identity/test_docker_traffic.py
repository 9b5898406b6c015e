"""A shop in containers: every pair by its names, with what both of its ends have counted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from probes.identity.sources import NamingSettings
from probes.observer import Observer
from probes.window import Pair
from tests.support.docker import Engine, engine
from tests.support.shop import Shop, shop
from tests.support.traffic import wait_for
from tests.support.watching import Watch

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_IPV6 = ("--experimental", "--ip6tables", "--ipv6", "--fixed-cidr-v6=fd66:d::/64")
_SUBNETS = (ip_network("10.66.0.0/16"), ip_network("fd66::/16"), ip_network("127.0.0.0/8"))
_NUMBER = 10


@contextmanager
def _watching(docker: Engine) -> Iterator[Watch]:
    with Observer(0.25, naming=NamingSettings(container_sockets=[docker.socket])) as observer:
        watch = Watch(observer)
        watch.start()
        wait_for(lambda: not observer.naming_problems, what=str(observer.naming_problems))
        try:
            yield watch
        finally:
            watch.stop()


def _pairs(watch: Watch, it: Shop) -> set[Pair]:
    """Return the pairs of the shop: on its ports, or with one of its addresses or ids as a name."""
    ids = {each[:12] for each in it.docker("ps", "-aq", "--no-trunc").split()}
    return {
        pair
        for pair in watch.pairs()
        if (pair.transport == "tcp" and pair.port in it.ports)
        or any(name in ids or _within(name) for name in pair[:2])
    }


def _within(name: str) -> bool:
    try:
        return any(ip_address(name) in subnet for subnet in _SUBNETS[:2])
    except ValueError:
        return False


def _expect(watch: Watch, pair: Pair, truth: list[Any]) -> None:
    """See that a pair did what its client wrote down: (sent, received, seconds) of each request."""
    had = {
        signal: watch.total(pair, signal)
        for signal in ("connections", "requests", "bytes_sent", "bytes_received")
    }
    assert had == {
        "connections": len(truth),
        "requests": len(truth),
        "bytes_sent": sum(sent for sent, _, _ in truth),
        "bytes_received": sum(received for _, received, _ in truth),
    }, pair
    assert watch.samples(pair, "request_latency") == len(truth), pair
    _close(watch.quantile(pair, "request_latency", 0.5), truth, pair)


def _close(median: float, truth: list[Any], pair: Pair) -> None:
    real = statistics.median(seconds for _, _, seconds in truth)
    # a bucket is 1/16 wide, nginx tells whole milliseconds, and a busy machine wakes programs late
    assert real * 0.85 - 0.0015 <= median <= real * 1.07 + 0.0015, pair


@pytest.fixture(scope="module", params=[True, False], ids=["docker-proxy", "translated"])
def proxied(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def it(proxied: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    proxy = f"--userland-proxy={str(proxied).lower()}"
    with engine(tmp_path_factory.mktemp("docker"), *_IPV6, proxy) as docker, shop(docker) as it:
        yield it
        # a container's log may say why
        print(docker("logs", "web"), docker("logs", "api"))


def test_every_pair_is_what_its_ends_have_counted(it: Shop, proxied: bool) -> None:
    ways = {
        "loopback": "127.0.0.1",
        "gateway": it.gateways("front")[0],
        "gateway6": it.gateways("front")[1],
        "own": it.own[0],
        "own6": it.own[1],
    }
    if proxied:  # without it, nothing translates ::1
        ways["loopback6"] = "::1"
    inside = {
        "direct": ("front", it.docker.address("web", "front"), it.web),
        "named": ("front", "web", it.web),
        # web's port is published by its second network; Docker lets none pass between two
        "hairpin": ("back", it.own[0], it.public),
        "hairpin6": ("back", it.own[1], it.public),
    }
    for name in ("access", "api"):
        (it.docker.directory / f"{name}.log").write_text("")
    before = it.redis_info()
    with _watching(it.docker) as watch:
        for name, host in ways.items():
            it.order(name, host, it.public, _NUMBER)
        for name, where in inside.items():
            it.order_inside(name, *where, _NUMBER)
        wait_for(lambda: len(it.said("access")) == len(it.said("api")))
        watch.settle(3)
        problems = watch.observer.naming_problems
        resolutions = {name: one.resolution for name, one in watch.observer.services.items()}
    after = it.redis_info()
    for name in inside:
        it.docker("rm", name)
    clients = {Pair(f"{name}.py", "web", it.web): it.said(name) for name in ways}
    clients |= {Pair(name, "web", it.web): it.said(name) for name in inside}
    number = len(clients) * _NUMBER
    access, api = it.said("access"), it.said("api")
    behind = {
        Pair("web", "api", it.api): [each["upstream"] for each in access],
        Pair("api", "shop/redis", it.redis): [each["redis"] for each in api],
        Pair("api", "ledger.py", it.ledger): [each["ledger"] for each in api],
    }
    # what both ends say is the same, or it is no truth
    for part in (0, 1):
        asked = sum(each["asked"][part] for each in access)
        assert asked == sum(each[part] for truth in clients.values() for each in truth)
        assert sum(each["asked"][part] for each in api) == sum(e["upstream"][part] for e in access)
    redis = behind[Pair("api", "shop/redis", it.redis)]
    grown = {key: after[key] - before[key] for key in after}
    assert grown["total_net_input_bytes"] == sum(each[0] for each in redis) + len("INFO all\r\n")
    assert grown["total_net_output_bytes"] == sum(e[1] for e in redis) + before["this_answer"]
    assert grown["calls"] == number
    # who asked whom: these, each once, and nobody else
    assert _pairs(watch, it) == clients.keys() | behind.keys()
    for pair, truth in (clients | behind).items():
        assert len(truth) == (number if pair in behind else _NUMBER)
        _expect(watch, pair, truth)
    # how long the servers took, by their own word
    own = {
        Pair("web", "api", it.api): [each["asked"] for each in api],
        Pair("api", "shop/redis", it.redis): [(0, 0, grown["usec"] / number / 1e6)],
    }
    for pair, truth in own.items():
        _close(watch.quantile(pair, "server_latency", 0.5), truth, pair)
    assert watch.lost == 0
    assert problems == []
    assert resolutions["web"] == resolutions["api"] == resolutions["hairpin"] == "container"
    assert resolutions["shop/redis"] == "compose"
    assert resolutions["ledger.py"] == resolutions["loopback.py"] == "script"


def _last_s(watch: Watch, pair: Pair) -> float:
    """Return when the last window began in which a pair did anything, epoch seconds."""
    return max(
        window.time
        for window in watch.windows
        for index, value in zip(window.pair, window.value, strict=True)
        if window.pairs[index] == pair and value > 0
    )


def test_a_rename_while_it_is_asked(it: Shop) -> None:
    mark = len(it.said("access"))
    with _watching(it.docker) as watch, it.steady("steady", it.own[0], it.public) as end:
        watch.settle(3)
        it.docker("rename", "web", "door")
        renamed = time.time()
        try:
            new = Pair("steady.py", "door", it.web)
            wait_for(lambda: new in watch.pairs(), what="the new name")
            so_far = len(it.said("steady"))
            wait_for(lambda: len(it.said("steady")) > so_far + 20)
            watch.settle(8)
            assert end() == 0
            wait_for(lambda: len(it.said("access")) - mark == len(it.said("steady")))
            watch.settle(3)
        finally:
            it.docker("rename", "door", "web")
    truth, access = it.said("steady"), it.said("access")[mark:]
    old = Pair("steady.py", "web", it.web)
    before, after = Pair("web", "api", it.api), Pair("door", "api", it.api)
    redis = Pair("api", "shop/redis", it.redis)
    ledger = Pair("api", "ledger.py", it.ledger)
    # the rename at the end is not in it: it has had no traffic
    assert _pairs(watch, it) == {old, new, before, after, redis, ledger}
    for name in (old, before):
        assert _last_s(watch, name) < renamed + 2
    for pair, other, said, connections in (
        (old, new, truth, 1),
        (before, after, [each["upstream"] for each in access], len(truth)),
    ):
        for signal, expected in (
            ("connections", connections),
            ("requests", len(truth)),
            ("bytes_sent", sum(each[0] for each in said)),
            ("bytes_received", sum(each[1] for each in said)),
        ):
            had = watch.total(pair, signal) + watch.total(other, signal)
            assert had == expected, (pair, signal)
            # the connection that is open stays the same one
            assert signal != "connections" or pair != old or watch.total(other, signal) == 0
        assert watch.total(other, "requests") >= 20
    assert watch.lost == 0


def test_a_restart_while_it_is_asked(it: Shop) -> None:
    ways = {
        "knocking": (it.own[0], it.public),
        "straight": (it.docker.address("web", "front"), it.web),
    }
    with _watching(it.docker) as watch, ExitStack() as stack:
        ends = {name: stack.enter_context(it.steady(name, *where)) for name, where in ways.items()}
        watch.settle(3)
        it.docker("restart", "-t", "1", "web")
        assert it.docker.address("web", "front") == ways["straight"][0], "the engine gave another"
        for name in ways:
            so_far = len(it.said(name))
            wait_for(lambda: len(it.said(name)) > so_far + 10, what=f"{name} again")  # noqa: B023
        watch.settle(2)
        failed = {name: end() for name, end in ends.items()}
        watch.settle(3)
    pairs = {Pair(f"{name}.py", "web", it.web): name for name in ways}
    chain = {
        Pair("web", "api", it.api),
        Pair("api", "shop/redis", it.redis),
        Pair("api", "ledger.py", it.ledger),
    }
    # a listener that comes up may throw a SYN away, which counts for all its clients
    any_client = {Pair("any", "web", it.web)}
    assert _pairs(watch, it) - any_client == pairs.keys() | chain
    for pair, name in pairs.items():
        assert failed[name] > 0
        # one that was answered by nobody, or half, is no request of the client's
        assert watch.total(pair, "requests") >= len(it.said(name))
        assert watch.total(pair, "requests") <= len(it.said(name)) + failed[name]
        refused, tried = watch.part_and_whole(pair, "connect_errors")
        assert tried - refused == watch.total(pair, "connections")
    assert watch.lost == 0
