"""Processes that are gone before anybody can look at them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from probes.window import Pair
from tests.support.traffic import free_port, hear, running
from tests.support.watching import watching

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_SERVER = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
print("ready", flush=True)
while True:
    end = server.accept()[0]
    end.sendall(end.recv(10))
    end.close()
"""

_JOB = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as end:
    end.sendall(b"x")
    assert end.recv(10) == b"x"
"""

_EACH = 150


def test_each_is_named_by_its_script(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "server.py").write_text(_SERVER)
    jobs = [tmp_path / name for name in ("reaper.py", "sweeper.py")]
    for job in jobs:
        job.write_text(_JOB)
    with (
        running(sys.executable, tmp_path / "server.py", str(port), stdout=-1) as server,
        watching(1.0) as watch,
    ):
        assert hear(server) == "ready"
        for number in range(_EACH):
            began = time.monotonic()
            for job in jobs:
                # a short path: of a long command line the kernel side keeps the beginning only
                command = [sys.executable, "-I", "-S", job.name, str(port)]
                subprocess.run(command, check=True, timeout=10, cwd=tmp_path)
            time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
            if number == 0:
                watch.settle(1)
        watch.settle(2)
    named = {pair for pair in watch.pairs() if pair.port == port}
    assert named == {Pair(job.name, "server.py", port) for job in jobs}
    for pair in named:
        assert watch.total(pair, "connections") == _EACH
        assert watch.total(pair, "requests") == _EACH
    assert watch.lost == 0
