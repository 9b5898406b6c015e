"""Faults of real services, seen by the real daemon, told to a real receiver."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scenes import Scene, all_scenes
from tests.servers.webhook import WebhookServer
from tests.support.daemon import EVERYTHING, configure, daemon, epoch, tailrace, webhook_receiver

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

LEARNING_S = 60
FAULT_S = 30
WITHIN_S = 11.0  # ten windows of one second, and the one in which the fault began


def _about(scene: Scene, finding: dict[str, Any]) -> bool:
    pair = finding["client"], finding["server"], finding["port"]
    return pair == scene.pair and (finding["signal"], finding["direction"]) in scene.expected


def test_each_fault_is_told_and_its_end_too(tmp_path: Path) -> None:
    with WebhookServer() as hook, all_scenes(tmp_path) as scenes:
        configure(tmp_path, webhook_receiver(hook), extra=EVERYTHING)
        with daemon(tmp_path, "--record", tmp_path / "run.csv"):
            time.sleep(LEARNING_S)
            early = [r.body["data"] for r in hook.accepted]
            began = {}
            for scene in scenes:
                began[scene.name] = time.time()
                scene.fault()
            time.sleep(FAULT_S)
            ended = time.time()
            for scene in scenes:
                scene.mend()
            time.sleep(60)
        told = [(r.type, r.body["data"]) for r in hook.accepted]
    # the host may have traffic of its own, of which this test knows nothing
    ours = {scene.pair[2] for scene in scenes}
    problems = [
        f"before any fault: {incident['title']}"
        for incident in early
        if incident["symptoms"][0]["port"] in ours
    ]
    for scene in scenes:
        problems += _problems(scene, told, began[scene.name], ended)
    for type_, incident in told:
        roots = [(root["service"], root["side"], root["score"]) for root in incident["roots"]]
        print(type_, incident["title"], incident["started"], incident["resolved"], roots)
    assert not problems, "\n".join(problems)
    _incidents_are_replayed(tmp_path / "run.csv", told)
    assert _replayed(tmp_path / "run.csv") == _stored(tmp_path / "state")


def _incidents_are_replayed(recording: Path, told: list[tuple[str, dict[str, Any]]]) -> None:
    """Assert that a replay of the recording has the incidents that were told."""
    run = tailrace("replay", recording, "--incidents", "-o", "jsonl")
    assert run.returncode == 0, run.stderr
    replayed = {(each["event"], each["id"]) for each in map(json.loads, run.stdout.splitlines())}
    assert {(type_.removeprefix("incident."), each["id"]) for type_, each in told} <= replayed


def _replayed(recording: Path) -> dict[str, dict[str, Any]]:
    """Return the last state of each finding that a replay gives, by id."""
    first, second = (tailrace("replay", recording, "-o", "jsonl") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    return {finding["id"]: finding for finding in map(json.loads, first.stdout.splitlines())}


def _stored(state: Path) -> dict[str, dict[str, Any]]:
    run = tailrace("report", "--since", "1h", "--state-dir", state, "-o", "jsonl")
    assert run.returncode == 0, run.stderr
    findings = [json.loads(line) for line in run.stdout.splitlines()]
    for finding in findings:
        # a replay tells nobody; traffic of the host's own may have been held back
        finding.pop("held_back", None)
    return {finding["id"]: finding for finding in findings}


def _problems(
    scene: Scene, told: list[tuple[str, dict[str, Any]]], began: float, ended: float
) -> list[str]:
    # Services of one name that fail at one time may well be one incident
    mine = [
        (type_, finding)
        for type_, incident in told
        for finding in incident["symptoms"]
        if _about(scene, finding)
    ]
    if not mine:
        return [f"{scene.name}: not told"]
    problems = []
    finding = min((finding for _, finding in mine), key=lambda f: epoch(f["detected"]))
    after_s = epoch(finding["detected"]) - began
    print(f"{scene.name}: {finding['signal']} {finding['direction']} after {after_s:.1f} s")
    if not 0 < after_s <= WITHIN_S:
        problems.append(f"{scene.name}: told after {after_s:.1f} s")
    if scene.cause and finding["cause"] != scene.cause:
        problems.append(f"{scene.name}: cause {finding['cause']!r}")
    if abs(epoch(finding["onset"]) - began) > 5:
        problems.append(f"{scene.name}: onset {finding['onset']}, began {began}")
    resolved = [finding for type_, finding in mine if type_ == "incident.resolved"]
    if not resolved and scene.name != "a new client":
        problems.append(f"{scene.name}: its end was not told")
    for finding in resolved:
        late_s = epoch(finding["ended"]) - ended
        print(f"{scene.name}: resolved after {late_s:.1f} s")
    return problems
