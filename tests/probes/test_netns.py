"""Watching some network namespaces only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.errors import ProbeError
from probes.namespaces import inode_of, own
from probes.observer import Observer
from tests.support.netns import two_hosts
from tests.support.peers import names, program
from tests.support.traffic import hear, say
from tests.support.watching import Watch

pytestmark = pytest.mark.kernel

_SERVER = """
s = socket(); s.bind((sys.argv[2], 0)); s.listen()
tell(s.getsockname()[1])
while True:
    c = s.accept()[0]
    threading.Thread(target=serve, args=(c,)).start()
"""
_CLIENT = """
wait()
c = create_connection((sys.argv[2], int(sys.argv[3])))
request(c, 3); c.close(); tell("done"); wait()
"""


def test_a_name_or_a_path_leads_to_a_namespace() -> None:
    with two_hosts() as hosts:
        assert inode_of(hosts.left) == Path(f"/run/netns/{hosts.left}").stat().st_ino
    assert inode_of(f"/proc/{os.getpid()}/ns/net") == own()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such", "network namespace no-such: cannot open"),
        ("/proc/self/ns/mnt", "is not a network namespace"),
        ("/etc/hostname", "is not a network namespace"),
    ],
)
def test_what_is_no_namespace_is_refused(name: str, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        inode_of(name)


def test_only_the_named_namespaces_are_seen() -> None:
    (client, server), (at_home, _) = names(), names()
    with two_hosts() as hosts, Observer(0.5, netns=[hosts.left]) as observer:
        watch = Watch(observer)
        watch.start()
        try:
            there = hosts.right_address
            with program(server, _SERVER, there, prefix=hosts.on_right()) as serving:
                port = hear(serving)
                calls = (client, _CLIENT, there, port)
                with program(*calls, prefix=hosts.on_left()) as calling:
                    say(calling)
                    hear(calling)
            with (
                program(at_home, _SERVER, "127.0.0.1") as serving,
                program(at_home, _CLIENT, "127.0.0.1", hear(serving)) as calling,
            ):
                say(calling)
                hear(calling)
            watch.settle(3)
        finally:
            watch.stop()
    # the server's end is in a namespace that is not looked at
    assert [(pair.client, pair.server) for pair in watch.pairs()] == [(client, there)]
    (pair,) = watch.pairs()
    assert watch.total(pair, "requests") == 3


_LOCAL_SERVER = """
s = socket(AF_UNIX); s.bind(sys.argv[2]); s.listen()
tell("ready")
while True:
    c = s.accept()[0]
    threading.Thread(target=serve, args=(c,)).start()
"""
_LOCAL_CLIENT = """
wait()
c = socket(AF_UNIX); c.connect(sys.argv[2])
request(c, 3); c.close(); tell("done"); wait()
"""


def test_unix_sockets_of_the_named_namespaces_are_seen(tmp_path: Path) -> None:
    """Also where the kernel uses the memory of a socket that was watched for one that is not."""
    (client, server), (elsewhere, _) = names(), names()
    rounds = 20
    with two_hosts() as hosts, Observer(0.5, netns=[hosts.left]) as observer:
        watch = Watch(observer)
        watch.start()
        try:
            for number in range(rounds):
                for prefix, calls, serves in (
                    (hosts.on_left(), client, server),
                    (hosts.on_right(), elsewhere, elsewhere),
                ):
                    path = tmp_path / f"{serves}-{number}"
                    with program(serves, _LOCAL_SERVER, path, prefix=prefix) as serving:
                        hear(serving)
                        with program(calls, _LOCAL_CLIENT, path, prefix=prefix) as calling:
                            say(calling)
                            hear(calling)
            watch.settle(3)
        finally:
            watch.stop()
    assert [(pair.client, pair.server) for pair in watch.pairs()] == [(client, server)]
    (pair,) = watch.pairs()
    assert watch.total(pair, "requests") == 3 * rounds
