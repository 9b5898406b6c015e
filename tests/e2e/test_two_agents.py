"""Two agents, each of which sees one end of the same traffic, and who is to blame for a change."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import ROOT, tailrace
from tests.support.netns import Hosts, two_hosts
from tests.support.traffic import running, say, wait_for

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

CALM_S, FAULT_S = 28.0, 15.0
PORT = itertools.count(8080)


class Service:
    """A client and a server, one in each namespace, of which either can be made slow."""

    def __init__(self, hosts: Hosts, directory: Path, name: str, stack: ExitStack) -> None:
        self.port = next(PORT)
        self.client, self.server = f"{name}-caller.py", f"{name}-server.py"
        client, server = directory / self.client, directory / self.server
        for file in (client, server):  # a script's name is its service's
            shutil.copy(ROOT / "tests" / "support" / "calling.py", file)
        at = (hosts.right_address, self.port, 3000)
        self.serving = stack.enter_context(_calling(hosts.on_right(), server, "serve", *at))
        listening = hosts.on_right("ss", "-Hltn", f"sport = :{self.port}")
        wait_for(
            lambda: bool(subprocess.run(listening, capture_output=True, check=True).stdout),
            what="the server listens",
        )
        self.calling = stack.enter_context(_calling(hosts.on_left(), client, "call", *at, 4))


def _calling(prefix: list[str], *words: object) -> Any:
    return running(*prefix, sys.executable, *map(str, words), stdin=subprocess.PIPE)


@contextmanager
def _agents(hosts: Hosts, directory: Path) -> Iterator[tuple[Path, Path]]:
    """Record each namespace by an agent of its own."""
    files = directory / "left.csv", directory / "right.csv"
    with ExitStack() as stack:
        for file, netns in zip(files, (hosts.left, hosts.right), strict=True):
            config = file.with_suffix(".toml")
            config.write_text(f'[probes]\nnetns = ["{netns}"]\n[detector]\nwarmup = "20s"\n')
            command = (sys.executable, "-m", "tailrace", "record", file, "--config", config)
            stack.enter_context(running(*command, cwd=ROOT, env=os.environ))
        for file in files:
            wait_for(lambda file=file: file.exists() and len(file.read_bytes()) > 500,  # type: ignore[misc]
                     within_s=60, what=f"{file.name} has windows")  # fmt: skip
        yield files


def _found(files: tuple[Path, Path]) -> list[dict[str, Any]]:
    config = files[0].with_suffix(".toml")
    told = tailrace("replay", *files, "--config", config, "-o", "jsonl")
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def _pairs(findings: list[dict[str, Any]], service: Service) -> set[tuple[str, str]]:
    return {(f["client"], f["server"]) for f in findings if f["port"] == service.port}


def _blamed(findings: list[dict[str, Any]], service: Service) -> set[str]:
    """Return who is blamed, for whatever has changed."""
    assert _pairs(findings, service) == {(service.client, service.server)}
    return {f["side"] for f in findings if f["port"] == service.port} - {""}


def test_each_fault_is_blamed_on_its_side(tmp_path: Path) -> None:
    with ExitStack() as stack:
        # three worlds at a time, as each needs its minute; the network's faults are for a whole one
        hosts = {name: stack.enter_context(two_hosts()) for name in ("ends", "band", "loss")}
        services = {
            name: Service(hosts[where], tmp_path, name, stack)
            for name, where in (
                ("thinks", "ends"), ("dawdles", "ends"), ("band", "band"), ("loss", "loss"),
            )
        }  # fmt: skip
        files = {}
        for name, where in hosts.items():
            (tmp_path / name).mkdir()
            files[name] = stack.enter_context(_agents(where, tmp_path / name))
        time.sleep(CALM_S)
        say(services["thinks"].serving, "0.03")
        say(services["dawdles"].calling, "0.03")
        hosts["band"].limit("2mbit")
        hosts["loss"].lose(5)
        time.sleep(FAULT_S)
    found = {name: _found(each) for name, each in files.items()}
    assert _blamed(found["ends"], services["thinks"]) == {"server"}
    assert _blamed(found["ends"], services["dawdles"]) == {"client"}
    assert _blamed(found["band"], services["band"]) == {"network"}
    assert _blamed(found["loss"], services["loss"]) == {"network"}
