"""Services in one network namespace with faults that are slow, small, or of one client only.

And beside them what looks like a fault and is none: jobs that run and pause, a wave that doubles
the load.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.mixed import Namespace
from tests.support.traffic import nginx, say

CLIENTS, REFUSED, RESET = 20, 7, 13
"""Clients of one server, and those two of them that will be refused, and reset."""
STORE, LEAKING, DEPLOYED, WEB = 8001, 8002, 8003, 8080
MEDIAN_S, STEP = 0.02, 1.15

_REFUSE = """
table inet refuse {{
  chain in {{
    type filter hook input priority 0; policy accept;
    ip saddr {address} tcp dport {port} tcp flags & (syn|ack) == syn \
    numgen random mod 100 < {percent} reject with tcp reset
  }}
}}
"""


def address_of(client: int) -> str:
    """Return the address from which one of the twenty connects."""
    return f"127.0.1.{client}"


class Subtle:
    """All of them, running.

    Args:
        at: the namespace.
        wave_s: length of the sped-up day.
    """

    def __init__(self, at: Namespace, wave_s: float) -> None:
        self._at = at

        def serve(name: str, port: int, *arguments: object) -> subprocess.Popen[str]:
            return at.serve(name, f"127.0.0.1:{port}", *arguments)

        def call(name: str, port: int, rate: float, *arguments: object) -> None:
            words = ("call", "http", f"127.0.0.1:{port}", "--rate", rate, *arguments)
            at.service(name, *words)

        self._store = serve("store", STORE, "--median", 0.002, "--victim", address_of(RESET))
        for number in range(1, CLIENTS + 1):
            call(f"client-{number:02}", STORE, 3, "--close", "--walk", 0.1,
                 "--source", address_of(number), "--seed", number)  # fmt: skip
        self._leaking = serve("leaking", LEAKING, "--median", MEDIAN_S)
        call("leaked", LEAKING, 40, "--threads", 4)
        self._deployed = serve("deployed", DEPLOYED, "--median", MEDIAN_S, "--spread", 0.2)
        call("user", DEPLOYED, 20, "--threads", 2)
        call("quick-job", WEB, 30, "--every", 20, "--lasts", 3, "--seed", 21)
        call("slow-job", WEB, 15, "--close", "--every", 40, "--lasts", 5, "--seed", 22)
        call("daily", WEB, 40, "--threads", 2, "--period", wave_s, "--factor", 2, "--seed", 23)
        call("steady", WEB, 30, "--walk", 0.2, "--seed", 24)

    def refuse(self, percent: int) -> None:
        """Refuse that share of one client's connections; 0 ends it."""
        nft = ["ip", "netns", "exec", self._at.name, "nft"]
        subprocess.run([*nft, "flush", "ruleset"], check=True)
        if percent:
            rule = _REFUSE.format(address=address_of(REFUSED), port=STORE, percent=percent)
            subprocess.run([*nft, "-f", "-"], input=rule, text=True, check=True)

    def reset(self, share: float) -> None:
        """Reset that share of another client's requests."""
        say(self._store, str(share))

    def leak(self, factor: float) -> None:
        """Make one server that many times slower than it was at first."""
        say(self._leaking, str(MEDIAN_S * factor))

    def deploy(self, factor: float = STEP) -> None:
        """Make another one slower for good."""
        say(self._deployed, str(MEDIAN_S * factor))


@contextmanager
def subtle(namespace: str, directory: Path, *, wave_s: float) -> Iterator[Subtle]:
    """Run it all."""
    with ExitStack() as stack:
        web = directory / "web"
        web.mkdir()
        stack.enter_context(nginx(web, port=WEB, inside=namespace))
        yield Subtle(Namespace(namespace, directory, stack), wave_s)
