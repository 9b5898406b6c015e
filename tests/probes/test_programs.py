"""What a sweep reads fits together, whatever happens while it reads."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from bpf import layout
from probes.programs import Programs

pytestmark = pytest.mark.kernel


class _Interrupted(Programs):
    """Somebody connects while a sweep reads the groups."""

    server: socket.socket | None = None

    def _give(self, used: int) -> None:
        super()._give(used)
        if self.server:
            socket.create_connection(self.server.getsockname()).close()
            self.server = None


def test_a_group_that_is_born_during_a_sweep_keeps_its_latencies() -> None:
    with closing(_Interrupted()) as programs, socket.create_server(("127.0.0.1", 0)) as server:
        programs.attach()
        programs.sweep()
        programs.server = server
        programs.sweep()
        assert programs.server is None  # it has connected
        second = programs.sweep()
        port = server.getsockname()[1]
    key = second.groups["key"]
    (client,) = second.slots[(key["port"] == port) & (key["role"] == layout.CLIENT)]
    ours = second.latency_keys["group"] == client
    assert layout.LATENCIES.index("connect") in second.latency_keys["kind"][ours]
