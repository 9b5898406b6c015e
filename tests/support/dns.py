"""A real DNS server in a namespace of its own, and real resolvers that ask it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.netns import Hosts
from tests.support.traffic import hear, running, wait_for

_FIRST = ("nice", "-n", "-20")
"""What measures time must not wait for whatever else this machine is doing."""

_UNBOUND = """
server:
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  verbosity: 0
  interface: {address}
  port: 53
  do-daemonize: no
  access-control: 0.0.0.0/0 allow
  # so that an upstream at its own address fails at once: SERVFAIL
  do-not-query-localhost: yes
  module-config: "iterator"
  incoming-num-tcp: 50
  local-zone: "test." nodefault
  local-zone: "good.test" static
  local-data: "a.good.test A 192.0.2.1"
  local-data: "a.good.test AAAA 2001:db8::1"
  local-data: "b.good.test A 192.0.2.2"
  local-zone: "refuse.test" refuse
  local-zone: "silent.test" deny
forward-zone:
  name: "broken.test"
  forward-addr: 127.0.0.1
auth-zone:
  name: "shop.test"
  zonefile: "{directory}/shop.zone"
  for-upstream: no
remote-control:
  control-enable: no
"""
"""good.test: two names, all others NXDOMAIN; refuse.test: REFUSED; silent.test: no answer;
broken.test: SERVFAIL; shop.test: the zone below."""

_SHOP = """
$ORIGIN shop.test.
@ 3600 IN SOA ns.shop.test. root.shop.test. 1 3600 600 86400 300
@ 3600 IN NS ns.shop.test.
ns 3600 IN A 11.9.9.9
api 5 IN A 11.0.0.1
api 5 IN AAAA 2a00:aaaa::1
www 5 IN CNAME edge
edge 5 IN CNAME e7
e7 5 IN A 11.0.0.2
other 5 IN A 11.0.0.2
inside 5 IN A 10.99.0.5
""" + "".join(f"many 5 IN A 11.1.0.{i}\n" for i in range(1, 61))


@contextlib.contextmanager
def dns_server(hosts: Hosts, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run unbound on the right host."""
    configuration = directory / "unbound.conf"
    (directory / "shop.zone").write_text(_SHOP)
    configuration.write_text(_UNBOUND.format(directory=directory, address=hosts.right_address))
    with running(*hosts.on_right("unbound", "-c", configuration)) as process:
        wait_for(lambda: "NOERROR" in dig(hosts, "a.good.test", "+time=1"), what="unbound answers")
        yield process


@contextlib.contextmanager
def slow_server(hosts: Hosts, address: str, delay_s: float) -> Iterator[None]:
    """Run a relay to the right host's server, which keeps every query for a while."""
    relay = hosts.on_right(
        *_FIRST, sys.executable, "-c", _RELAY, address, hosts.right_address, delay_s
    )
    link = hosts.right.replace("right-", "r")
    subprocess.run(hosts.on_right("ip", "address", "add", f"{address}/24", "dev", link), check=True)
    with running(*relay, stdout=subprocess.PIPE) as process:
        assert hear(process) == "ready"
        yield


_RELAY = """
import socket, sys, threading, time
front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
front.bind((sys.argv[1], 53))
def serve(query, client):
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back.settimeout(5)
    back.sendto(query, (sys.argv[2], 53))
    answer = back.recv(65535)
    time.sleep(float(sys.argv[3]))
    front.sendto(answer, client)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=front.recvfrom(65535), daemon=True).start()
"""


def with_resolver(
    hosts: Hosts, directory: Path, options: str, *command: object, right: bool = False
) -> list[str]:
    """Return the command that runs on the left host, or on the right, and asks the right one."""
    configuration = directory / "resolv.conf"
    configuration.write_text(f"nameserver {hosts.right_address}\noptions {options}\n")
    mount = f'mount --bind {configuration} /etc/resolv.conf && exec "$@"'
    on = hosts.on_right if right else hosts.on_left
    return on("unshare", "--mount", "sh", "-c", mount, "sh", *command)


def dig(hosts: Hosts, *words: str, server: str = "") -> str:
    """Return what dig on the left host says; "" when it is answered by nobody."""
    run = subprocess.run(
        hosts.on_left(*_FIRST, "dig", f"@{server or hosts.right_address}", "+tries=1", *words),
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return run.stdout if run.returncode == 0 else ""


def dig_many(
    hosts: Hosts, directory: Path, names: list[str], *words: str, server: str = ""
) -> list[int]:
    """Ask for many names by one dig, in turn; return its query times, microseconds."""
    listed = directory / "names"
    listed.write_text("".join(f"{name}\n" for name in names))
    said = dig(hosts, "-u", *words, "-f", str(listed), server=server)
    return [int(found) for found in re.findall(r"Query time: (\d+) usec", said)]
