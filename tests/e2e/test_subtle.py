"""Faults that are slow, small, or of one client of many; and what only looks like a fault."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from detector.settings import DetectorSettings
from tests.e2e.subtle import (
    DEPLOYED,
    LEAKING,
    REFUSED,
    RESET,
    STEP,
    STORE,
    Subtle,
    subtle,
)
from tests.servers.webhook import WebhookServer
from tests.support.daemon import EVERYTHING, configure, daemon, epoch, tailrace, webhook_receiver
from tests.support.mixed import first
from tests.support.netns import lone_host

pytestmark = [pytest.mark.kernel, pytest.mark.soak]

WAVE_S = 50.0
LEARNING_S, FAULTS_S, AFTER_S = 130.0, 80.0, 20.0
LEAK_PER_S = 1.012  # + 2 % a minute, sped up by 36
SHARE = 0.4
"""Of one client's connections that are refused, and of another's requests that are reset."""
WITHIN_S = 30.0
"""At three attempts a second: two failures in five against a floor of one in fifty."""


def _has_faults(subtle: Subtle) -> None:
    subtle.refuse(round(100 * SHARE))
    subtle.reset(SHARE)
    subtle.deploy()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < FAULTS_S:
        subtle.leak(LEAK_PER_S**passed)
        time.sleep(0.5)


def test_the_right_pairs_are_told_and_no_others(tmp_path: Path) -> None:
    recording = tmp_path / "run.csv"
    with (
        WebhookServer() as hook,
        first(),
        lone_host() as namespace,
        subtle(namespace, tmp_path, wave_s=WAVE_S) as services,
    ):
        # at the default budget most requests of a busy host would not be timed
        probes = f'[probes]\nnetns = ["{namespace}"]\noverhead_budget = "5%"\n'
        configure(tmp_path, webhook_receiver(hook), extra=probes + EVERYTHING)
        with daemon(tmp_path, "--record", recording):
            time.sleep(LEARNING_S)
            began = time.time()
            _has_faults(services)
            services.refuse(0)
            services.reset(0)
            services.leak(1.0)
            time.sleep(AFTER_S)
        told = {f["id"]: f for r in hook.accepted for f in r.body["data"]["symptoms"]}.values()
    for finding in told:
        after_s = _after(finding, began)
        print(_pair(finding), finding["signal"], f"{after_s:.1f} s after the faults")
    problems = _wrong(told) + _missing(told, began)
    assert not problems, "\n".join(problems)
    # what is news is the user's to say
    assert _tells(recording, tmp_path, least=0.2) == {DEPLOYED: False, LEAKING: True}
    assert _tells(recording, tmp_path, least=4.0) == {DEPLOYED: False, LEAKING: False}


def _after(finding: dict[str, Any], began: float) -> float:
    return epoch(finding["detected"]) - began


def _pair(finding: dict[str, Any]) -> tuple[str, str, int]:
    return finding["client"], finding["server"], finding["port"]


def _expected() -> dict[tuple[str, str, int], set[tuple[str, str]]]:
    """Return by pair what may be told of it: the fault, and what follows from it there."""
    expected = {
        (f"client-{REFUSED:02}.py", "store.py", STORE): {
            ("connect_errors", "up"), ("connections", "down"), ("requests", "down"),
            ("bytes_sent", "down"), ("bytes_received", "down"),
        },
        (f"client-{RESET:02}.py", "store.py", STORE): {
            ("resets", "up"), ("requests", "down"), ("bytes_received", "down"),
        },
        ("leaked.py", "leaking.py", LEAKING): {("request_latency", "up"), ("requests", "down")},
    }  # fmt: skip
    if DetectorSettings().least_change("request_latency") < STEP - 1.0:
        expected["user.py", "deployed.py", DEPLOYED] = {("request_latency", "up")}
    return expected


def _wrong(told: Collection[dict[str, Any]]) -> list[str]:
    """Return what should not have been told; jobs and the wave are among it."""
    expected = _expected()
    return [
        f"wrong: {finding['signal']} {finding['direction']} of {_pair(finding)}"
        for finding in told
        if (finding["signal"], finding["direction"]) not in expected.get(_pair(finding), set())
    ]


def _missing(told: Collection[dict[str, Any]], began: float) -> list[str]:
    """Return what should have been told, and was not, or late."""
    wanted = {
        (f"client-{REFUSED:02}.py", "store.py", STORE): ("connect_errors", "refused", WITHIN_S),
        (f"client-{RESET:02}.py", "store.py", STORE): ("resets", "by_server", WITHIN_S),
        ("leaked.py", "leaking.py", LEAKING): ("request_latency", "", FAULTS_S),
    }
    if DetectorSettings().least_change("request_latency") < STEP - 1.0:
        wanted["user.py", "deployed.py", DEPLOYED] = ("request_latency", "", FAULTS_S)
    problems = []
    for pair, (signal, cause, within_s) in wanted.items():
        mine = [f for f in told if _pair(f) == pair and f["signal"] == signal]
        name = f"{signal} of {pair[0]} -> {pair[1]}"
        if not mine:
            problems.append(f"missing: {name}")
        elif len(mine) > 1:
            problems.append(f"told {len(mine)} times: {name}")
        elif not 0 < _after(mine[0], began) <= within_s:
            problems.append(f"after {_after(mine[0], began):.1f} s: {name}")
        elif not mine[0]["cause"].startswith(cause):
            problems.append(f"cause {mine[0]['cause']!r}: {name}")
    return problems


def _tells(recording: Path, directory: Path, *, least: float) -> dict[int, bool]:
    """Return of which servers' latency a replay tells, where that is its least change."""
    config = directory / f"least-{least}.toml"
    config.write_text(f'[detector]\nmin_change = {{ request_latency = "{least:.0%}" }}\n')
    run = tailrace("replay", recording, "--config", config, "-o", "jsonl")
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    told = {f["port"] for f in found if (f["signal"], f["direction"]) == ("request_latency", "up")}
    return {port: port in told for port in (DEPLOYED, LEAKING)}
