"""Traffic to a Service's virtual address, translated to its pods' by real rules of NAT."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from probes.identity.kubernetes import KubernetesSettings
from probes.identity.sources import NamingSettings
from probes.observer import Observer
from probes.window import Pair
from tests.support.kubernetes import Served, served
from tests.support.kubernetes_cluster import Cluster
from tests.support.kubernetes_objects import Said, endpoints, managed, meta, owner, pod, service
from tests.support.nat import Routed, routed, within
from tests.support.pods import Container, pod_container
from tests.support.traffic import hear, running, wait_for
from tests.support.watching import Watch

pytest.importorskip("kubernetes", reason="an extra")
pytestmark = pytest.mark.kernel

_NUMBER = 60
_ASKED, _PORT, _DOWN_PORT = 18043, 19093, 15437  # that nobody else on this machine uses
_VIRTUAL = ("10.96.0.10", "fd96::10")

_RULES = r"""
flush ruleset
table inet services {{
  chain pre {{
    type nat hook prerouting priority -100;
    ip daddr {v4} tcp dport {asked} \
      dnat ip to numgen inc mod 2 map {{ 0 : {a4}, 1 : {b4} }} : {port}
    ip6 daddr {v6} tcp dport {asked} \
      dnat ip6 to numgen inc mod 2 map {{ 0 : {a6}, 1 : {b6} }} : {port}
  }}
}}
"""
"""As kube-proxy writes them: the pods take turns here, so that both have something to do."""

_SERVER = """
import http.server, sys
class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response_only(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    import socket
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = Server((sys.argv[1], int(sys.argv[2])), Api)
print("ready", flush=True)
server.serve_forever()
"""

_CLIENT = """
import socket, sys
refused = 0
for _ in range(int(sys.argv[3])):
    try:
        end = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    except ConnectionRefusedError:
        refused += 1
        continue
    for _ in range(2):
        end.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
        got = b""
        while not got.endswith(b"hello"): got += end.recv(1000)
    end.close()
print(refused, flush=True)
"""


@dataclass
class _Scene:
    """Pods that run in namespaces and cgroups, and the server that tells of them."""

    hosts: Routed
    cluster: Cluster
    api: Served
    front: Container
    servers: list[Container] = field(default_factory=list)

    @property
    def pods(self) -> tuple[tuple[str, str], ...]:
        """The addresses of the pods that answer, each IPv4 and IPv6."""
        return _pods_of(self.hosts)

    @property
    def down(self) -> tuple[str, str]:
        """Those of one that does not."""
        return self.hosts.address(1, 4)

    def ask(self, address: str, port: int, number: int) -> int:
        """Have the front's pod ask so many times; return how many were refused."""
        inside = ["nsenter", f"--net=/run/netns/{self.hosts.client}", sys.executable, "-c", _CLIENT]
        command = self.front.running(*inside, address, port, number)
        with running(*command, stdout=-1) as client:
            return int(hear(client))

    @contextlib.contextmanager
    def serving(self, family: int) -> Iterator[None]:
        """Run the pods' servers."""
        with contextlib.ExitStack() as stack:
            for container, addresses in zip(self.servers, self.pods, strict=True):
                inside = ["nsenter", f"--net=/run/netns/{self.hosts.server}", sys.executable, "-c"]
                command = container.running(*inside, _SERVER, addresses[family], _PORT)
                server = stack.enter_context(running(*command, stdout=-1))
                assert hear(server) == "ready"
            yield


def _pod(name: str, deployment: str, addresses: tuple[str, ...], *containers: str) -> Said:
    by = owner("ReplicaSet", f"{deployment}-5d9c")
    return pod(name, *addresses, ownerReferences=by, containers=containers)


def _pods_of(hosts: Routed) -> tuple[tuple[str, str], ...]:
    return hosts.address(1, 2), hosts.address(1, 3)


@contextlib.contextmanager
def _scene(directory: Path) -> Iterator[_Scene]:
    cluster = Cluster()
    with contextlib.ExitStack() as stack:
        hosts = stack.enter_context(routed())
        pods, down = _pods_of(hosts), hosts.address(1, 4)
        (a4, a6), (b4, b6) = pods
        rules = _RULES.format(v4=_VIRTUAL[0], v6=_VIRTUAL[1], asked=_ASKED, port=_PORT,
                              a4=a4, a6=a6, b4=b4, b6=b6)  # fmt: skip
        for gateway in hosts.public:
            way = ("ip", "-n", hosts.client, "route", "add", "default", "via", gateway)
            subprocess.run(way, check=True)
        load = within(hosts.routers[0], "nft", "-f", "-")
        subprocess.run(load, input=rules, text=True, check=True)
        for addresses in (pods[1], down):
            for address, length in zip(addresses, (24, 64), strict=True):
                more = ["nodad"] if length == 64 else []
                subprocess.run(["ip", "-n", hosts.server, "addr", "add", f"{address}/{length}",
                                "dev", "e0", *more], check=True)  # fmt: skip
        for name in ("front", "api", "db"):
            cluster.put(managed("ReplicaSet", f"{name}-5d9c", by=("Deployment", name)))
        front = stack.enter_context(pod_container(meta("front-5d9c-a")["uid"]))
        cluster.put(_pod("front-5d9c-a", "front", hosts.address(0, 2), front.id))
        ends, containers = [], []
        for name, addresses in zip(("api-5d9c-a", "api-5d9c-b"), pods, strict=True):
            container = stack.enter_context(pod_container(meta(name)["uid"]))
            containers.append(container)
            one = cluster.put(_pod(name, "api", addresses, container.id))
            ends.append((addresses[0], one, True))
        cluster.put(_pod("db-5d9c-a", "db", down))
        cluster.put(service("api", *_VIRTUAL, ports=({"port": _ASKED, "targetPort": _PORT},)))
        cluster.put(endpoints("api-1", "api", *ends))
        api = stack.enter_context(served(directory, cluster))
        yield _Scene(hosts, cluster, api, front, containers)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_service_is_the_pods_behind_it(tmp_path: Path, family: int) -> None:
    with _scene(tmp_path) as scene, contextlib.ExitStack() as stack:
        naming = NamingSettings(
            container_sockets=(), kubernetes=KubernetesSettings(str(scene.api.kubeconfig))
        )
        observer = stack.enter_context(Observer(0.5, naming=naming))
        watch = Watch(observer)
        watch.start()
        stack.callback(watch.stop)
        wait_for(lambda: observer.naming_problems == [], what=str(observer.naming_problems))
        with scene.serving(family):
            assert scene.ask(_VIRTUAL[family], _ASKED, _NUMBER) == 0
            watch.settle(3)
        ports = (_ASKED, _PORT, _DOWN_PORT)
        pair = Pair("shop/front", "shop/api", _PORT)
        assert {one for one in watch.pairs() if one.port in ports} == {pair}
        assert watch.total(pair, "connections") == _NUMBER
        assert watch.total(pair, "requests") == 2 * _NUMBER
        assert watch.total(pair, "bytes_sent") == 2 * _NUMBER * len("GET / HTTP/1.1\r\n\r\n")
        answer = len("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        assert watch.total(pair, "bytes_received") == 2 * _NUMBER * answer
        assert watch.samples(pair, "server_latency") == 2 * _NUMBER
        asked = (f"10.96.0.10:{_ASKED}", f"[fd96::10]:{_ASKED}")[family]
        assert observer.asked(pair) == [asked]
        known = observer.services["shop/api"]
        assert (known.resolution, known.namespace) == ("kubernetes", "shop")
        assert known.version == "registry.example/app:1@sha256:abababababab"
        # the servers are gone: it is the same pair that fails
        assert scene.ask(_VIRTUAL[family], _ASKED, 10) == 10
        # a pod that never answered
        assert scene.ask(scene.down[family], _DOWN_PORT, 10) == 10
        down = Pair("shop/front", "shop/db", _DOWN_PORT)
        watch.settle(3)
        assert {one for one in watch.pairs() if one.port in ports} == {pair, down}
        assert watch.part_and_whole(pair, "connect_errors") == (10, _NUMBER + 10)
        assert watch.part_and_whole(down, "connect_errors") == (10, 10)
        assert watch.lost == 0


def test_an_address_that_another_pod_has_now(tmp_path: Path) -> None:
    with _scene(tmp_path) as scene, contextlib.ExitStack() as stack:
        naming = NamingSettings(
            container_sockets=(), kubernetes=KubernetesSettings(str(scene.api.kubeconfig))
        )
        observer = stack.enter_context(Observer(0.5, naming=naming))
        watch = Watch(observer)
        watch.start()
        stack.callback(watch.stop)
        address = scene.pods[0][0]
        with scene.serving(0):
            assert scene.ask(address, _PORT, 5) == 0
            watch.settle(2)
        assert Pair("shop/front", "shop/api", _PORT) in watch.pairs()
        scene.cluster.delete("Pod", "shop", "api-5d9c-a")
        scene.cluster.put(_pod("db-5d9c-b", "db", (address,)))
        # it does not listen yet, and who answered there before is not to blame
        watch.settle(2)
        watch.windows.clear()

        def blamed() -> set[Pair]:
            assert scene.ask(address, _PORT, 5) == 5
            watch.settle(2)
            return {pair for pair in watch.pairs() if pair.port == _PORT}

        wait_for(lambda: Pair("shop/front", "shop/db", _PORT) in blamed())
        watch.windows.clear()
        assert blamed() == {Pair("shop/front", "shop/db", _PORT)}
