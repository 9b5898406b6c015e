"""A daemon killed in the middle of an incident, and a receiver that is down meanwhile."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.e2e.scenes import stopped_server
from tests.servers.webhook import WebhookServer
from tests.support.daemon import configure, daemon, tailrace, webhook_receiver
from tests.support.traffic import wait_for

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def test_killed_in_an_incident_while_the_receiver_is_down(tmp_path: Path) -> None:
    hook = WebhookServer().up()
    try:
        configure(tmp_path, webhook_receiver(hook))
        with stopped_server(tmp_path) as scene:
            with daemon(tmp_path) as first:
                time.sleep(60)
                early = len(hook.accepted)
                hook.down()
                down_since = time.monotonic()
                scene.fault()
                _wait_for_finding(tmp_path, scene.pair[2])
                first.kill()
            before = _stored(tmp_path, scene.pair[2])
            assert before
            with daemon(tmp_path) as second:
                time.sleep(max(0, 60 - (time.monotonic() - down_since)))
                assert len(hook.accepted) == early
                hook.up()
                hook.wait_for(lambda: len(hook.accepted) > early, timeout_s=90)
                scene.mend()
                firing = {f["id"] for f in before if f["signal"] == "connect_errors"}
                hook.wait_for(
                    lambda: (
                        firing
                        & {
                            f["id"]
                            for r in hook.accepted
                            if r.type == "incident.resolved"
                            for f in r.body["data"]["symptoms"]
                        }
                    ),
                    timeout_s=120,
                )
                print(second.said()[-2000:])
    finally:
        hook.down()
    after = _stored(tmp_path, scene.pair[2])
    told = [r for r in hook.accepted if r.type in ("incident.firing", "incident.updated")]
    # nothing that was found before the kill is lost, nor told under another id
    for finding in before:
        mine = [
            r.body["data"]["id"]
            for r in told
            if any(_same(f, finding) for f in r.body["data"]["symptoms"])
        ]
        assert len(set(mine)) == 1, (finding, mine)
    assert {f["id"] for f in before} <= {f["id"] for f in after}
    assert len({r.id for r in hook.accepted}) == len(
        {(r.type, r.body["data"]["id"], r.body["timestamp"]) for r in hook.accepted}
    )


def _same(one: dict[str, object], other: dict[str, object]) -> bool:
    return all(one[k] == other[k] for k in ("client", "server", "port", "signal", "direction"))


def _stored(directory: Path, port: int) -> list[dict[str, object]]:
    run = tailrace("report", "--since", "1h", "--state-dir", directory / "state", "-o", "jsonl")
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return [finding for finding in found if finding["port"] == port]


def _wait_for_finding(directory: Path, port: int) -> None:
    def found() -> bool:
        return any(f["signal"] == "connect_errors" for f in _stored(directory, port))

    wait_for(found, within_s=20, what="connect_errors is found")
