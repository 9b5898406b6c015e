"""A real Docker engine: names, published ports, renames, restarts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.identity.docker import DockerContainers
from probes.identity.sources import NamingSettings
from probes.observer import Observer
from probes.window import Pair
from tests.support.docker import Engine, engine
from tests.support.traffic import hear, running, wait_for
from tests.support.watching import Watch

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_PYTHON = "/usr/bin/python3"

_API = """
import http.server, socket
class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with socket.create_connection(("redis", 6379)) as redis:
            redis.sendall(b"PING\\r\\n")
            assert redis.recv(100) == b"+PONG\\r\\n"
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8000), Api).serve_forever()
"""

_PROXY = """
daemon off; user root; error_log stderr; pid /tmp/pid;
events {}
http {
  access_log off;
  client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
  uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
  server { listen 80; location / { proxy_pass http://api:8000; } }
}
"""

_CLIENT = """
import sys, urllib.request
for _ in range(int(sys.argv[2])):
    assert urllib.request.urlopen(sys.argv[1]).read() == b"hello"
print("done", flush=True)
"""

_NUMBER = 30


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("docker")) as found:
        (found.directory / "api.py").write_text(_API)
        (found.directory / "proxy.conf").write_text(_PROXY)
        (found.directory / "client.py").write_text(_CLIENT)
        for network in ("front", "back"):
            found("network", "create", network)
        labels = ("--label", "com.docker.compose.project=shop",
                  "--label", "com.docker.compose.service=redis")  # fmt: skip
        found.run("shop-redis-1", "redis-server", "--save", "", "--bind", "0.0.0.0",
                  "--protected-mode", "no",
                  options=("--network", "back", "--network-alias", "redis", *labels))  # fmt: skip
        found.run("api", _PYTHON, "/srv/api.py", options=("--network", "back"))
        found("network", "connect", "--alias", "api", "front", "api")
        found.run("web", "nginx", "-c", "/srv/proxy.conf",
                  options=("--network", "front", "-p", "8080:80"))  # fmt: skip
        yield found


def _ask(docker: Engine, url: str, number: int = _NUMBER) -> None:
    command = docker.on_host(_PYTHON, docker.directory / "client.py", url, number)
    with running(*command, stdout=-1) as client:
        assert hear(client) == "done"


def _watched(docker: Engine) -> Observer:
    return Observer(0.5, naming=NamingSettings(container_sockets=[docker.socket]))


def _pairs(watch: Watch) -> set[Pair]:
    return {pair for pair in watch.pairs() if pair.port in (80, 8000, 6379, 8080)}


@pytest.mark.parametrize("by", ["gateway", "loopback", "container"])
def test_published_ports_and_networks(docker: Engine, by: str) -> None:
    gateway = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "front")
    where = {
        "gateway": f"{gateway}:8080",
        "loopback": "127.0.0.1:8080",
        "container": docker.address("web", "front"),
    }[by]
    with _watched(docker) as observer:
        watch = Watch(observer)
        watch.start()
        wait_for(lambda: not observer.naming_problems, what=str(observer.naming_problems))
        _ask(docker, f"http://{where}/")
        watch.settle(3)
        watch.stop()
        chain = [
            Pair("client.py", "web", 80),
            Pair("web", "api", 8000),
            Pair("api", "shop/redis", 6379),
        ]
        assert _pairs(watch) == set(chain)
        for pair in chain:
            assert watch.total(pair, "connections") == _NUMBER, pair
            assert watch.total(pair, "requests") == _NUMBER, pair
        assert watch.total(chain[2], "bytes_sent") == 6 * _NUMBER
        assert watch.total(chain[2], "bytes_received") == 7 * _NUMBER
        assert watch.lost == 0
        found = {name: service.resolution for name, service in observer.services.items()}
        assert found["web"] == found["api"] == "container"
        assert found["shop/redis"] == "compose"
        assert found["client.py"] == "script"
        assert observer.services["web"].version.startswith("host@sha256:")


_PROBER = """
import socket, time
for _ in range(5):
    address = socket.getaddrinfo("redis", 20444, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    with socket.socket() as s: assert s.connect_ex(address)
time.sleep(600)
"""


def test_a_name_by_dockers_own_dns(docker: Engine) -> None:
    # it is at 127.0.0.11 of each container, translated there to a port of the engine's
    with _watched(docker) as observer:
        watch = Watch(observer)
        watch.start()
        wait_for(lambda: not observer.naming_problems, what=str(observer.naming_problems))
        docker.run("prober", _PYTHON, "-c", _PROBER, options=("--network", "back"))
        pair = Pair("prober", "redis", 20444)
        wait_for(lambda: pair in watch.pairs() and watch.total(pair, "connect_errors") == 5)
        assert {each for each in watch.pairs() if each.port == 20444} == {pair}
        watch.stop()


def test_a_container_is_renamed_and_restarted(docker: Engine) -> None:
    with _watched(docker) as observer:
        watch = Watch(observer)
        watch.start()
        address = docker.address("web", "front")
        _ask(docker, f"http://{address}/")
        watch.settle(2)
        assert Pair("web", "api", 8000) in _pairs(watch)
        docker("rename", "api", "api2")
        time.sleep(1)
        watch.windows.clear()
        _ask(docker, f"http://{address}/")
        watch.settle(2)
        assert Pair("web", "api2", 8000) in _pairs(watch)
        assert Pair("web", "api", 8000) not in _pairs(watch)
        docker("restart", "-t", "1", "web")
        address = docker.address("web", "front")
        watch.windows.clear()
        wait_for(lambda: _answers(docker, address), what="nginx is back")
        watch.settle(2)
        assert {pair.server for pair in _pairs(watch) if pair.port == 80} == {"web"}
        watch.stop()
        docker("rename", "api2", "api")


def _answers(docker: Engine, address: str) -> bool:
    try:
        _ask(docker, f"http://{address}/", 1)
    except AssertionError:
        return False
    return True


def test_an_engine_that_is_not_there_or_hangs(tmp_path: Path) -> None:
    nobody = DockerContainers(tmp_path / "none.sock")
    try:
        assert nobody.get("a" * 64) is None
        wait_for(lambda: nobody.problem == "there is no such socket")
    finally:
        nobody.close()
    silent = """
import socket, sys
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen()
print("ready", flush=True)
import time; time.sleep(60)
"""
    path = tmp_path / "silent.sock"
    with running(sys.executable, "-c", silent, path, stdout=-1) as process:
        assert hear(process) == "ready"
        asked = DockerContainers(path)
        try:
            began = time.monotonic()
            assert asked.get("a" * 64) is None
            assert time.monotonic() - began < 0.1
            wait_for(lambda: "imed out" in asked.problem, within_s=15, what=asked.problem)
        finally:
            asked.close()
