"""Steady load with natural jitter: nobody is woken."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.scenes import all_scenes
from tests.servers.webhook import WebhookServer
from tests.support import programs
from tests.support.daemon import EVERYTHING, configure, daemon, tailrace, webhook_receiver
from tests.support.traffic import free_port, hear, python

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

MINUTES = float(os.environ.get("TAILRACE_SOAK_MINUTES", "2"))


def _jittery(stack: ExitStack) -> set[int]:
    """Run services as they are: requests at random times, answers of random length."""
    ports = set()
    for rate, delay_s in ((30, 0.003), (3, 0.02), (120, 0.0005)):
        port = free_port()
        ports.add(port)
        source = programs.HTTP_SERVER.replace(
            "time.sleep(delay)", "time.sleep(__import__('random').lognormvariate(0, 0.5) * delay)"
        )
        server = stack.enter_context(python(source, "127.0.0.1", port, delay_s))
        assert hear(server) == "ready"
        client = programs.RATE_CLIENT.replace(
            "time.sleep(max(0, 1 / rate - (time.monotonic() - began)))",
            "time.sleep(__import__('random').expovariate(rate))",
        )
        stack.enter_context(python(client, "127.0.0.1", port, rate, *programs.GET))
        # and one that opens a connection for each request
        closing = client.replace(
            "    time.sleep(__import__", "    c = None\n    time.sleep(__import__"
        )
        stack.enter_context(python(closing, "127.0.0.1", port, rate / 2, *programs.GET))

    return ports


def test_steady_load_yields_no_incident(tmp_path: Path) -> None:
    with WebhookServer() as hook, ExitStack() as stack:
        # the host may have traffic of its own, of which this test knows nothing
        ours = {scene.pair[2] for scene in stack.enter_context(all_scenes(tmp_path))}
        ours |= _jittery(stack)
        configure(tmp_path, webhook_receiver(hook), extra=EVERYTHING)
        with daemon(tmp_path, "--record", tmp_path / "steady.csv"):
            time.sleep(60 * MINUTES)
            shown = tailrace("pairs", "--state-dir", tmp_path / "state", "-o", "csv").stdout
    told = [r.body["data"] for r in hook.accepted]
    print(shown, *(incident["title"] for incident in told), sep="\n")
    assert [i["title"] for i in told if any(f["port"] in ours for f in i["symptoms"])] == []
    assert len(shown.splitlines()) >= 1 + 5 + 3
