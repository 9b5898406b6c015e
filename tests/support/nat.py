"""A client and a server with a router between them that translates addresses."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_TABLE = """
table inet nat {{
  chain pre {{ type nat hook prerouting priority -100; {pre} }}
  chain post {{ type nat hook postrouting priority 100; {post} }}
}}
"""


def _ip(*words: object) -> None:
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Routed:
    """Namespaces, and the addresses by which they are known; each IPv4 and IPv6.

    Attributes:
        client: name of the client's namespace.
        router: of the router's.
        server: of the server's.
        public: the router's address on the client's side, which stands for the server with DNAT.
        real: the server's own.
    """

    client: str
    router: str
    server: str
    public: tuple[str, str] = ("10.81.0.1", "fd81::1")
    real: tuple[str, str] = ("10.82.0.2", "fd82::2")

    def translate(self, *, source: bool, destination: bool, ports: tuple[int, int]) -> None:
        """Translate so from now on; `ports` is what is asked for, and what it becomes."""
        asked, real = ports
        pre = (
            f"iifname c0 meta l4proto {{ tcp, udp }} ip daddr {self.public[0]} "
            f"th dport {asked} dnat ip to {self.real[0]}:{real};\n"
            f"iifname c0 meta l4proto {{ tcp, udp }} ip6 daddr {self.public[1]} "
            f"th dport {asked} dnat ip6 to [{self.real[1]}]:{real};"
        )
        rules = _TABLE.format(
            pre=pre if destination else "",
            post="oifname s0 masquerade random;" if source else "",
        )
        command = ["ip", "netns", "exec", self.router, "nft", "-f", "-"]
        subprocess.run(command, input="flush ruleset\n" + rules, text=True, check=True)


@contextmanager
def routed() -> Iterator[Routed]:
    """Make the three namespaces; remove them at the end."""
    mark = uuid.uuid4().hex[:8]
    hosts = Routed(f"client-{mark}", f"router-{mark}", f"server-{mark}")
    names = (hosts.client, hosts.router, hosts.server)
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for side, near, link in (("81", hosts.client, "c0"), ("82", hosts.server, "s0")):
            _ip("link", "add", "e0", "netns", near, "type", "veth",
                "peer", "name", link, "netns", hosts.router)  # fmt: skip
            for name, device, last in ((near, "e0", 2), (hosts.router, link, 1)):
                _ip("-n", name, "addr", "add", f"10.{side}.0.{last}/24", "dev", device)
                _ip("-n", name, "-6", "addr", "add", f"fd{side}::{last}/64", "dev", device, "nodad")
                _ip("-n", name, "link", "set", device, "up")
            _ip("-n", near, "route", "add", "default", "via", f"10.{side}.0.1")
            _ip("-n", near, "-6", "route", "add", "default", "via", f"fd{side}::1")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            command = ["ip", "netns", "exec", hosts.router, "sysctl", "-qw", f"{key}=1"]
            subprocess.run(command, check=True)
        yield hosts
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
