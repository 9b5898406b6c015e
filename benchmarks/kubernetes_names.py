"""How soon a change in a cluster is a name here, and what following it costs.

    scripts/bench kubernetes_names [--pods 5000] [--rate 50] [--seconds 60] [--write]

An API server of our own (tests/support/kubernetes.py) runs in another process, with so many pods,
each of about 6 KB, as they are in clusters, on 100 nodes, of 250 Deployments with a Service
each. A process follows it as the daemon does. Then pods are replaced at the given rate: a pod of a
new name and address is written and an old one removed. Each write is noted with its time; the
follower looks for the name of the new address every 10 ms.

Given are the time from the write to the name (the look's 10 ms included), CPU time of the follower
as a share of one core, and its memory before and after the first list.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probes.endpoints import Where, mapped
from probes.identity.kubernetes import KubernetesNames, KubernetesSettings
from tests.support.kubernetes import served
from tests.support.kubernetes_cluster import Cluster
from tests.support.kubernetes_objects import endpoints, managed, owner, pod, service

_DEPLOYMENTS, _NODES = 250, 100
_PADDING = 5_000
_LOOK_S = 0.01
_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "kubernetes.md"
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def address_of(number: int) -> str:
    """Return the address of the pod that was made as the so-manieth."""
    return f"10.{128 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def name_of(number: int) -> str:
    return f"shop/web-{number % _DEPLOYMENTS}"


def _pod(number: int) -> dict[str, Any]:
    deployment, node = number % _DEPLOYMENTS, number % _NODES
    return pod(
        f"web-{deployment}-5d9c7b-{number:05}",
        address_of(number),
        node=f"node-{node}",
        host_ip=f"192.0.2.{node + 1}",
        containers=(f"{number:064x}", f"{number + (1 << 40):064x}"),
        labels={
            "app": f"web-{deployment}", "pod-template-hash": "5d9c7b", "tier": "backend",
            "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "1.2.3",
        },
        annotations={"padding": "x" * _PADDING},  # what is not kept: volumes, conditions, ...
        ownerReferences=owner("ReplicaSet", f"web-{deployment}-5d9c7b"),
    )  # fmt: skip


def serve(directory: Path, pods: int, rate: float, seconds: float) -> None:
    """Serve the cluster; on a line of standard input change it, and say when each was written."""
    cluster = Cluster()
    for number in range(_DEPLOYMENTS):
        by = ("Deployment", f"web-{number}")
        cluster.put(managed("ReplicaSet", f"web-{number}-5d9c7b", by=by))
        cluster.put(service(f"web-{number}", f"10.96.{number >> 8}.{number & 255}"))
    every = [_pod(number) for number in range(pods)]
    for one in every:
        cluster.put(one)
    for number in range(_DEPLOYMENTS):
        ends = [(address_of(n), every[n], True) for n in range(number, pods, _DEPLOYMENTS)]
        cluster.put(endpoints(f"web-{number}-x", f"web-{number}", *ends))
    with served(directory, cluster) as api:
        _say({"kubeconfig": str(api.kubeconfig), "bytes": len(json.dumps(every[0]))})
        sys.stdin.readline()
        began = time.monotonic()
        for index in range(int(rate * seconds)):
            time.sleep(max(0.0, began + index / rate - time.monotonic()))
            number = pods + index
            made = _pod(number)
            at = time.monotonic()
            cluster.put(made)
            _say({"number": number, "at": at})
            old = every[index % pods]["metadata"]
            cluster.delete("Pod", old["namespace"], old["name"])
        _say({"took": time.monotonic() - began})
        sys.stdin.readline()


def _say(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _rss() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


class _Looker:
    """Looks for names that are due."""

    def __init__(self, names: KubernetesNames) -> None:
        self._names = names
        self._due: dict[int, float] = {}
        self._lock = threading.Lock()
        self.late: list[float] = []
        self.wrong = 0
        self.cpu_s = 0.0

    def expect(self, number: int, at: float) -> None:
        with self._lock:
            self._due[number] = at

    @property
    def waiting(self) -> int:
        return len(self._due)

    def look(self) -> None:
        began = time.thread_time()
        with self._lock:
            due = list(self._due.items())
        for number, at in due:
            found = self._names.service(Where(1, mapped(address_of(number)), 0))
            if found is None:
                continue
            self.late.append(time.monotonic() - at)
            self.wrong += found.name != name_of(number)
            with self._lock:
                del self._due[number]
        self.cpu_s += time.thread_time() - began


def measure(pods: int, rate: float, seconds: float) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--serve", directory]
        options = ["--pods", str(pods), "--rate", str(rate), "--seconds", str(seconds)]
        with subprocess.Popen(
            [*command, *options], stdin=-1, stdout=-1, text=True, cwd=_ROOT
        ) as server:
            try:
                return _followed(server, pods)
            finally:
                server.terminate()


def _followed(server: subprocess.Popen[str], pods: int) -> dict[str, Any]:
    assert server.stdin is not None
    assert server.stdout is not None
    first = json.loads(server.stdout.readline())
    import kubernetes.client  # noqa: F401, PLC0415 - what it takes is measured by itself

    before, cpu, began = _rss(), time.process_time(), time.monotonic()
    names = KubernetesNames(KubernetesSettings(first["kubeconfig"]))
    problems = names.first_problems(60)
    listed_s, listed_cpu = time.monotonic() - began, time.process_time() - cpu
    assert not problems, problems
    assert names.counts["Pod"] == pods, names.counts
    time.sleep(1.0)
    listed = _rss()
    looker, done = _Looker(names), threading.Event()

    def hear() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            said = json.loads(line)
            if "took" in said:
                break
            looker.expect(said["number"], said["at"])
        done.set()

    # who has asked before: 200 peers, as a busy node has them
    for number in range(200):
        names.service(Where(1, mapped(address_of(number)), 0))
    threading.Thread(target=hear, daemon=True).start()
    server.stdin.write("\n")
    server.stdin.flush()
    cpu, began, next_window = time.process_time(), time.monotonic(), 0.0
    while not done.is_set() or looker.waiting:
        looker.look()
        if time.monotonic() >= next_window:  # once a window
            next_window = time.monotonic() + 1.0
            assert names.generation >= 0
        time.sleep(_LOOK_S)
        assert time.monotonic() - began < 600, f"{looker.waiting} names never came"
    took, busy = time.monotonic() - began, time.process_time() - cpu - looker.cpu_s
    after = _rss()
    changes, problems = len(looker.late), names.problems
    names.close()
    return {
        "pods": pods,
        "object_bytes": first["bytes"],
        "list_s": listed_s,
        "list_cpu_s": listed_cpu,
        "list_rss": listed - before,
        "changes": changes,
        "rate": changes / took,
        "p50_s": statistics.median(looker.late),
        "p99_s": statistics.quantiles(looker.late, n=100)[98],
        "max_s": max(looker.late),
        "wrong": looker.wrong,
        "cpu": busy / took,
        "rss": after - before,
        "problems": problems,
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table of Markdown."""
    rows = [
        ("pods", f"{found['pods']:,}, of {found['object_bytes']:,} bytes each"),
        ("first list, of everything", f"{found['list_s']:.1f} s, {found['list_cpu_s']:.1f} s CPU"),
        ("memory for it", f"{found['list_rss'] / 1e6:.1f} MB"),
        ("changes", f"{found['changes']:,}, {found['rate']:.0f} pods replaced a second"),
        ("from a change to its name, median", f"{found['p50_s'] * 1e3:.0f} ms"),
        ("99 of 100 within", f"{found['p99_s'] * 1e3:.0f} ms"),
        ("the longest", f"{found['max_s'] * 1e3:.0f} ms"),
        ("wrong names", f"{found['wrong']}"),
        ("CPU meanwhile", f"{found['cpu'] * 100:.1f} % of a core"),
        ("memory at the end", f"{found['rss'] / 1e6:.1f} MB"),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pods", type=int, default=5_000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.serve:
        random.seed(1)
        serve(asked.serve, asked.pods, asked.rate, asked.seconds)
        return
    found = measure(asked.pods, asked.rate, asked.seconds)
    sys.stdout.write(table(found))
    if found["problems"]:
        sys.stdout.write("\n".join(found["problems"]) + "\n")
    if asked.write:
        text = _PAGE.read_text()
        head, tail = text.split(_BEGIN)[0], text.split(_END)[1]
        _PAGE.write_text(f"{head}{_BEGIN}{table(found)}{_END}{tail}")


if __name__ == "__main__":
    main()
