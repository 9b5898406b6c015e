"""A shop in containers of a Docker engine, each part of which counts what it does.

Two bridge networks, IPv4 and IPv6: `web`, an nginx on both, whose port is published; `api`, a
Python program, and `shop-redis-1`, on the second; and `ledger.py` on the host itself. Every order
goes client -> web -> api -> redis and ledger.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.docker import Engine
from tests.support.traffic import free_port, hear, running, say, wait_for

PYTHON = "/usr/bin/python3"

_TENTATIVE = ("ip", "-6", "addr", "show", "tentative")

_COMMON = """
import json, socket, sys, threading, time
def ask(where, question, ending):
    began = time.perf_counter()
    with socket.create_connection(where, timeout=20) as end:
        connected = time.perf_counter()
        end.sendall(question)
        answer = b""
        while not answer.endswith(ending):
            part = end.recv(65536)
            assert part, (where, answer)
            answer += part
        now = time.perf_counter()
    return [len(question), len(answer), now - connected]
def serve(port, handle):
    server = socket.create_server(("::", port), family=10, dualstack_ipv6=True, backlog=256)
    print("ready", flush=True)
    while True:
        threading.Thread(target=handle, args=(server.accept()[0],)).start()
def question_of(end):
    question = b""
    while not question.endswith(b"\\r\\n\\r\\n"):
        part = end.recv(65536)
        if not part: return b""
        question += part
    return question
written = threading.Lock()
def write(path, said):
    with written, open(path, "a") as file: file.write(json.dumps(said) + "\\n")
"""

_API = """
sys.path.insert(0, "/srv")
port, redis_port, ledger, ledger_port = sys.argv[1:]
GET = b"GET / HTTP/1.0\\r\\n\\r\\n"
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 3000\\r\\n\\r\\n" + b"a" * 2998 + b"\\r\\n"
def handle(end):
    with end:
        question = question_of(end)
        if not question: return
        began = time.perf_counter()
        redis = ask(("redis", int(redis_port)), b"DEBUG SLEEP 0.01\\r\\n", b"+OK\\r\\n")
        booked = ask((ledger, int(ledger_port)), GET, b"booked\\r\\n")
        took = time.perf_counter() - began
        end.sendall(ANSWER)
        asked = [len(question), len(ANSWER), took]
        write("/srv/api.log", dict(asked=asked, redis=redis, ledger=booked))
serve(int(port), handle)
"""

_LEDGER = """
def handle(end):
    with end:
        if not question_of(end): return
        time.sleep(0.02)
        end.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nbooked\\r\\n")
serve(int(sys.argv[1]), handle)
"""

_CLIENT = """
host, port, number, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
GET = b"GET / HTTP/1.1\\r\\nHost: shop\\r\\nConnection: close\\r\\n\\r\\n"
for _ in range(number):
    write(path, ask((host, port), GET, b"a\\r\\n"))
print("done", flush=True)
"""

_STEADY = """
host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
GET = b"GET / HTTP/1.1\\r\\nHost: shop\\r\\n\\r\\n"
stop, end, failed = threading.Event(), None, 0
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
while not stop.is_set():
    try:
        if end is None: end = socket.create_connection((host, port), timeout=5)
        began, answer = time.perf_counter(), b""
        end.sendall(GET)
        while not answer.endswith(b"a\\r\\n"):
            part = end.recv(65536)
            if not part: raise OSError("closed")
            answer += part
        assert b" 200 OK" in answer.splitlines()[0], answer
        write(path, [len(GET), len(answer), time.perf_counter() - began])
    except (OSError, AssertionError):
        failed += 1
        if end is not None: end.close()
        end = None
        time.sleep(0.02)
if end is not None: end.close()
print(failed, flush=True)
"""

_PROXY = """
daemon off; user root; worker_processes 1; error_log /srv/error.log; pid /tmp/pid;
events {}
http {
  log_format figures escape=json '{"asked": [$request_length, $bytes_sent, $request_time],'
    ' "upstream": [$upstream_bytes_sent, $upstream_bytes_received, $upstream_response_time]}';
  access_log /srv/access.log figures;
  client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
  uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
  server { listen WEB; listen [::]:WEB; location / { proxy_pass http://api:API; } }
}
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A running shop.

    Attributes:
        docker: the engine.
        own: the host's own addresses, IPv4 and IPv6.
        public: the published port.
        web: the port of nginx; and so on.
    """

    docker: Engine
    own: tuple[str, str]
    public: int
    web: int
    api: int
    redis: int
    ledger: int

    @property
    def ports(self) -> set[int]:
        """All of them: nobody else on this machine has them."""
        return {self.public, self.web, self.api, self.redis, self.ledger}

    def gateways(self, network: str) -> list[str]:
        """Return the host's addresses on a bridge, IPv4 and IPv6."""
        said = self.docker("network", "inspect", "-f", "{{json .IPAM.Config}}", network)
        return [each["Gateway"].partition("/")[0] for each in json.loads(said)]

    def order(self, name: str, host: str, port: int, number: int) -> None:
        """Order so often from a program on the host, as `name`.py."""
        self._program(name)
        path = self.docker.directory / f"{name}.log"
        command = self.docker.on_host(PYTHON, f"{name}.py", host, port, number, path)
        with running(*command, stdout=-1, cwd=self.docker.directory) as client:
            assert hear(client) == "done"

    def order_inside(self, name: str, network: str, host: str, port: int, number: int) -> None:
        """Order so often from a container of this name on a network, "front" or "back"."""
        self._program(name)
        command = (PYTHON, f"/srv/{name}.py", host, port, number, f"/srv/{name}.log")
        self.docker.run(name, *command, options=("--network", network))
        assert self.docker("wait", name) == "0", self.docker("logs", name)

    @contextlib.contextmanager
    def steady(self, name: str, host: str, port: int) -> Iterator[Callable[[], int]]:
        """Order all the time by one connection, from the host, as `name`.py.

        Yields what ends it, and returns how often it was not served and connected anew.
        """
        (self.docker.directory / f"{name}.py").write_text(_COMMON + _STEADY)
        path = self.docker.directory / f"{name}.log"
        path.write_text("")
        command = self.docker.on_host(PYTHON, f"{name}.py", host, port, path)
        with running(*command, stdin=-1, stdout=-1, cwd=self.docker.directory) as client:
            wait_for(lambda: len(self.said(name)) > 3, what="orders are taken")

            def end() -> int:
                say(client)
                return int(hear(client))

            yield end

    def answers(self) -> bool:
        """Return whether an order from the host, as trial.py, is taken."""
        try:
            self.order("trial", self.docker.address("web", "front"), self.web, 1)
        except AssertionError:
            return False
        return True

    def _program(self, name: str) -> None:
        (self.docker.directory / f"{name}.py").write_text(_COMMON + _CLIENT)

    def said(self, name: str) -> list[Any]:
        """Return what a part of the shop has written down: "access", "api", or a client."""
        text = (self.docker.directory / f"{name}.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def redis_info(self) -> dict[str, int]:
        """Return redis's own figures; this question is not in `commands`, and its bytes are."""
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(str(self.docker.directory / "redis.sock"))
            end.sendall(b"INFO all\r\n")
            answer = b""
            while b"\r\n" not in answer or len(answer) < int(answer[1:].split(b"\r")[0]):
                answer += end.recv(65536)
        text = answer.decode()
        debug = re.search(r"cmdstat_debug[^:]*:calls=(\d+),usec=(\d+)", text)
        figures = {
            key: int(re.search(rf"{key}:(\d+)", text)[1])  # type: ignore[index]
            for key in ("total_net_input_bytes", "total_net_output_bytes",
                        "total_connections_received")
        }  # fmt: skip
        figures |= (
            {"calls": int(debug[1]), "usec": int(debug[2])} if debug else {"calls": 0, "usec": 0}
        )
        return figures | {"this_answer": len(answer)}


@contextlib.contextmanager
def shop(docker: Engine, subnet: str = "66") -> Iterator[Shop]:
    """Open a shop on an engine that may do IPv6; the engine removes its containers.

    Args:
        docker: the engine.
        subnet: of the addresses 10.`subnet` and fd`subnet` that it takes.
    """
    own = (f"10.{subnet}.9.1", f"fd{subnet}:9::1")
    for address in own:
        length = 128 if ":" in address else 32
        add = docker.on_host("ip", "addr", "add", f"{address}/{length}", "dev", "lo")
        subprocess.run(add, check=True)
    ports: set[int] = set()
    while len(ports) < 5:
        ports.add(free_port())
    it = Shop(docker, own, *ports)
    for number, network in enumerate(("front", "back")):
        docker("network", "create", "--ipv6", "--subnet", f"10.{subnet}.{number}.0/24", "--gateway",
               f"10.{subnet}.{number}.1", "--subnet", f"fd{subnet}:{number}::/64", "--gateway",
               f"fd{subnet}:{number}::1", network)  # fmt: skip
    directory = docker.directory
    (directory / "api.py").write_text(_COMMON + _API)
    (directory / "ledger.py").write_text(_COMMON + _LEDGER)
    (directory / "proxy.conf").write_text(
        _PROXY.replace("WEB", str(it.web)).replace("API", str(it.api))
    )
    ledger = docker.on_host(PYTHON, directory / "ledger.py", it.ledger)
    with running(*ledger, stdout=-1) as books:
        assert hear(books) == "ready"
        labels = ("--label", "com.docker.compose.project=shop",
                  "--label", "com.docker.compose.service=redis")  # fmt: skip
        docker.run("shop-redis-1", "redis-server", "--save", "", "--bind", "*", "-::*",
                   "--protected-mode", "no", "--port", it.redis, "--enable-debug-command", "yes",
                   "--unixsocket", "/srv/redis.sock",
                   options=("--network", "back", "--network-alias", "redis", *labels))  # fmt: skip
        docker.run("api", PYTHON, "/srv/api.py", it.api, it.redis, it.gateways("back")[0],
                   it.ledger, options=("--network", "back", "--network-alias", "api"))  # fmt: skip
        docker("create", "--name", "web", "-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro",
               "-v", f"{directory}:/srv", "--network", "front", "-p", f"{it.public}:{it.web}",
               "host", "nginx", "-c", "/srv/proxy.conf")  # fmt: skip
        docker("network", "connect", "back", "web")
        docker("start", "web")
        for name in ("shop-redis-1", "api", "web"):
            wait_for(lambda name=name: not docker("exec", name, *_TENTATIVE), what=name)  # type: ignore[misc]
        wait_for(it.answers, what="the shop is open")
        yield it
