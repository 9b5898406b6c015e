"""A client and a server with routers between them that translate addresses."""

from __future__ import annotations

import random
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Source = Literal["", "snat", "masquerade"]

_TABLE = """
table inet nat {{
  chain pre {{ type nat hook prerouting priority -100; {pre} }}
  chain post {{ type nat hook postrouting priority 100; {post} }}
}}
"""


def _ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True)


def within(namespace: str, *command: object) -> list[str]:
    """Return the command that runs `command` in a namespace."""
    return ["ip", "netns", "exec", namespace, *map(str, command)]


@dataclass(frozen=True, slots=True)
class Routed:
    """Namespaces, and the addresses by which they are known; each IPv4 and IPv6.

    Attributes:
        client: name of the client's namespace.
        routers: of the routers', from client to server; each is `s0` to its server's side.
        server: of the server's.
        net: a number in all addresses, so that they are no other test's.
    """

    client: str
    routers: tuple[str, ...]
    server: str
    net: int

    def address(self, segment: int, host: int) -> tuple[str, str]:
        """Return an address; segment 0 has the client, the last one the server."""
        return f"10.{81 + segment}.{self.net}.{host}", f"fd{81 + segment}:{self.net:x}::{host}"

    @property
    def public(self) -> tuple[str, str]:
        """The first router's address on the client's side: with DNAT it stands for the server."""
        return self.address(0, 1)

    @property
    def real(self) -> tuple[str, str]:
        """The server's own address."""
        return self.address(len(self.routers), 2)

    def translate(self, *, source: Source, destination: bool, ports: tuple[int, int]) -> None:
        """Translate so from now on; `ports` is what is asked for, and what it becomes.

        With "snat", the client's port becomes another as well.
        """
        last = len(self.routers) - 1
        for number, router in enumerate(self.routers):
            to = self.real if number == last else self.address(number + 1, 1)
            here = self.address(number, 1)
            asked = ports[0] + number
            real = ports[1] if number == last else asked + 1
            pre = (
                f"iifname != s0 meta l4proto {{ tcp, udp }} ip daddr {here[0]} "
                f"th dport {asked} dnat ip to {to[0]}:{real};\n"
                f"iifname != s0 meta l4proto {{ tcp, udp }} ip6 daddr {here[1]} "
                f"th dport {asked} dnat ip6 to [{to[1]}]:{real};"
            )
            out = self.address(number + 1, 254)
            post = {
                "": "",
                "masquerade": "oifname s0 masquerade;",
                "snat": f"oifname s0 meta l4proto {{ tcp, udp }} snat ip to {out[0]} random;\n"
                f"oifname s0 meta l4proto {{ tcp, udp }} snat ip6 to {out[1]} random;",
            }[source]
            rules = _TABLE.format(pre=pre if destination else "", post=post)
            command = within(router, "nft", "-f", "-")
            subprocess.run(command, input="flush ruleset\n" + rules, text=True, check=True)


@contextmanager
def routed(routers: int = 1) -> Iterator[Routed]:
    """Make the namespaces; remove them at the end."""
    mark = uuid.uuid4().hex[:8]
    between = tuple(f"router{number}-{mark}" for number in range(routers))
    hosts = Routed(f"client-{mark}", between, f"server-{mark}", random.randrange(256))
    names = (hosts.client, *between, hosts.server)
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for segment in range(routers + 1):
            _join(hosts, names, segment)
        for segment in range(routers + 1):
            _route(hosts, names, segment)
        for name in between:
            for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                subprocess.run(within(name, "sysctl", "-qw", f"{key}=1"), check=True)
        yield hosts
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def more_clients(hosts: Routed, number: int) -> Iterator[list[str]]:
    """Join more clients to the first router, each by a link of its own; yield their namespaces."""
    names = [f"{hosts.client}-{each}" for each in range(number)]
    router = hosts.routers[0]
    try:
        for each, name in enumerate(names):
            _ip("netns", "add", name)
            _ip("link", "add", "e0", "netns", name, "type", "veth",
                "peer", "name", f"d{each}", "netns", router)  # fmt: skip
            for where, device, host in ((name, "e0", 2), (router, f"d{each}", 1)):
                address = f"10.{101 + each}.{hosts.net}.{host}/24"
                _ip("-n", where, "addr", "add", address, "dev", device)
                _ip("-n", where, "link", "set", device, "up")
            gateway = f"10.{101 + each}.{hosts.net}.1"
            _ip("-n", name, "route", "add", "default", "via", gateway)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _join(hosts: Routed, names: tuple[str, ...], segment: int) -> None:
    """Link two: near, the client is host 2 and a router 254; far, a router 1 and the server 2."""
    near, far = names[segment], names[segment + 1]
    first, last = segment == 0, far == hosts.server
    near_name, far_name = "e0" if first else "s0", "e0" if last else "c0"
    _ip("link", "add", near_name, "netns", near, "type", "veth",
        "peer", "name", far_name, "netns", far)  # fmt: skip
    ends = (
        (near, near_name, 2 if first else 254),
        (far, far_name, 2 if last else 1),
    )
    for name, device, host in ends:
        address, address6 = hosts.address(segment, host)
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
        _ip("-n", name, "-6", "addr", "add", f"{address6}/64", "dev", device, "nodad")
        _ip("-n", name, "link", "set", device, "up")


def _route(hosts: Routed, names: tuple[str, ...], segment: int) -> None:
    """Whoever is at the client's side of a link finds the server by it, and the other way round."""
    near, far = names[segment], names[segment + 1]
    forward = hosts.address(segment, 1)
    back = hosts.address(segment, 2 if segment == 0 else 254)
    if far != hosts.server:
        _ip("-n", near, "route", "add", f"{hosts.real[0]}/32", "via", forward[0])
        _ip("-n", near, "-6", "route", "add", f"{hosts.real[1]}/128", "via", forward[1])
    for other in range(segment):
        there, there6 = hosts.address(other, 0)
        _ip("-n", far, "route", "add", f"{there}/24", "via", back[0])
        _ip("-n", far, "-6", "route", "add", f"{there6}/64", "via", back[1])
