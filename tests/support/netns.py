"""Hosts of our own: network namespaces joined by a veth pair."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Two namespaces and their addresses."""

    left: str
    right: str
    left_address: str = "10.77.0.1"
    right_address: str = "10.77.0.2"
    right_address6: str = "fd77::2"

    def on_left(self, *command: object) -> list[str]:
        """Return the command that runs `command` in the left namespace."""
        return ["ip", "netns", "exec", self.left, *map(str, command)]

    def on_right(self, *command: object) -> list[str]:
        return ["ip", "netns", "exec", self.right, *map(str, command)]

    def lose(self, percent: int) -> None:
        """Drop that share of the TCP packets arriving at either side; 0 stops it."""
        for command in (self.on_left, self.on_right):
            subprocess.run(command("nft", "flush", "ruleset"), check=True)
            if percent:
                chance = f"numgen random mod 100 < {percent}" if percent < 100 else ""
                rule = (
                    "table inet loss {\nchain in {\n"
                    "type filter hook input priority 0; policy accept;\n"
                    f"meta l4proto tcp {chance} drop\n}}\n}}\n"
                )
                subprocess.run(command("nft", "-f", "-"), input=rule, text=True, check=True)

    def limit(self, rate: str) -> None:
        """Let no more than that through from the right to the left, as tc(8) writes it."""
        link = self.right.replace("right-", "r")
        command = self.on_right("tc", "qdisc", "replace", "dev", link, "root", "tbf")
        subprocess.run([*command, "rate", rate, "burst", "5kb", "latency", "400ms"], check=True)


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make two namespaces joined by a veth pair, IPv4 and IPv6; remove them at the end."""
    mark = uuid.uuid4().hex[:8]
    hosts = Hosts(f"left-{mark}", f"right-{mark}")
    try:
        for name in (hosts.left, hosts.right):
            _ip("netns", "add", name)
        _ip("link", "add", f"l{mark}", "netns", hosts.left, "type", "veth",
            "peer", "name", f"r{mark}", "netns", hosts.right)  # fmt: skip
        for name, link, address, address6 in (
            (hosts.left, f"l{mark}", hosts.left_address, "fd77::1"),
            (hosts.right, f"r{mark}", hosts.right_address, hosts.right_address6),
        ):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "-6", "addr", "add", f"{address6}/64", "dev", link, "nodad")
            _ip("-n", name, "link", "set", link, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for name in (hosts.left, hosts.right):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def lone_host() -> Iterator[str]:
    """Make a namespace with loopback only, whose counters nobody else moves; yield its name."""
    name = f"lone-{uuid.uuid4().hex[:8]}"
    try:
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def tcp_counters(name: str) -> dict[str, int]:
    """Return a namespace's own counters of TCP: /proc/net/snmp and netstat."""
    shown = subprocess.run(
        ["ip", "netns", "exec", name, "cat", "/proc/net/snmp", "/proc/net/netstat"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    lines = shown.stdout.splitlines()
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if names.startswith(("Tcp:", "TcpExt:")):
            found |= dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
    return found
