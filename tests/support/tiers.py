"""Five real services in tiers, with a fault for each: nginx, two applications, Redis, PostgreSQL.

And a worker that takes from Redis what the applications put there, and two clients. All are in one
network namespace, on its loopback. A request goes client -> nginx -> orders.py or catalog.py ->
Redis, then PostgreSQL.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import varying
from tests.support.mixed import Namespace, postgres, prepared
from tests.support.traffic import say

APP = Path(__file__).with_name("tier_app.py")
WEB, ORDERS, CATALOG, REDIS, POSTGRES = 8080, 8001, 8002, 6379, 5432
POOL, QUERY_S = 6, 0.036
"""Connections of each application to PostgreSQL, and how long a query takes: one connection alone
is not enough for the load."""

_NGINX = """
user root; worker_processes 1; daemon off;
pid {directory}/pid; error_log {directory}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  split_clients $request_id $app {{ 50% orders; * catalog; }}
  upstream orders {{ server 127.0.0.1:{orders} max_fails=0; }}
  upstream catalog {{ server 127.0.0.1:{catalog} max_fails=0; }}
  server {{
    listen 127.0.0.1:{web} backlog=1024;
    location / {{ proxy_pass http://$app; proxy_connect_timeout 5s; }}
  }}
}}
"""
_TABLES = """
CREATE TABLE pace (delay float8); INSERT INTO pace VALUES ({delay});
CREATE TABLE done (at timestamptz);
CREATE FUNCTION price(n int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE wait float8;
BEGIN
  SELECT delay INTO wait FROM pace;
  IF wait > 0 THEN PERFORM pg_sleep(wait); END IF;
  RETURN n;
END $$;
"""
_LOSE = """
table inet loss {{
  chain in {{
    type filter hook input priority 0; policy accept;
    tcp dport {port} numgen random mod 100 < {percent} drop
    tcp sport {port} numgen random mod 100 < {percent} drop
  }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, and the truth about it.

    Attributes:
        name: in words.
        root: the services that may rightly be called its root.
        begin: breaks it.
        end: mends it.
        trigger: the kind of trigger that must be named; "" for none.
    """

    name: str
    root: frozenset[str]
    begin: Callable[[], None]
    end: Callable[[], None]
    trigger: str = ""


class Tiers:
    """All of them, running; `faults` has one of each kind."""

    def __init__(self, at: Namespace) -> None:
        self._at = at
        shutil.copy(varying.__file__, at.directory)
        psql = postgres(at, at.directory / "postgres", port=POSTGRES)["psql"]
        tables = at.directory / "tables.sql"
        tables.write_text(_TABLES.format(delay=QUERY_S))
        prepared(at, psql, "-h", "127.0.0.1", "-p", POSTGRES, "-U", "postgres", "-v",
                 "ON_ERROR_STOP=1", "-1", "-f", tables)  # fmt: skip
        self._redis = self._start_redis()
        self._orders = self._start_app("orders", ORDERS)
        self._catalog = self._start_app("catalog", CATALOG)
        self._start_nginx()
        self._worker = self._script("worker")
        for name, rate, more in (("shop", 45, ["--threads", 12]), ("mobile", 12, ["--close"])):
            at.service(name, "call", "http", f"127.0.0.1:{WEB}", "--rate", rate, "--walk", 0.1,
                       *more)  # fmt: skip

    def faults(self) -> list[Fault]:
        """Return one fault of each kind."""
        return [
            Fault(
                name="slow query", root=frozenset({"postgres"}),
                begin=lambda: say(self._orders, f"query {4 * QUERY_S}"),
                end=lambda: say(self._orders, f"query {QUERY_S}"),
            ),
            Fault(
                name="redis stopped", root=frozenset({"redis-server"}),
                begin=lambda: self._end(self._redis), end=self._restart_redis,
            ),
            Fault(
                name="packet loss to one app", root=frozenset({"orders.py"}),
                begin=lambda: self.lose(8), end=lambda: self.lose(0),
            ),
            Fault(
                name="slow new version", root=frozenset({"catalog.py"}), trigger="deploy",
                begin=lambda: self.deploy_catalog(0.15), end=lambda: self.deploy_catalog(0.0),
            ),
            Fault(
                name="connection pool exhausted", root=frozenset({"orders.py"}),
                begin=lambda: say(self._orders, f"hold {POOL - 1}"),
                end=lambda: say(self._orders, "hold 0"),
            ),
            Fault(
                name="accept queue overflow", root=frozenset({"catalog.py"}),
                begin=lambda: say(self._catalog, "deaf 1"),
                end=lambda: say(self._catalog, "deaf 0"),
            ),
        ]  # fmt: skip

    def lose(self, percent: int) -> None:
        """Drop that share of the packets to and from orders.py; 0 ends it."""
        nft = ["ip", "netns", "exec", self._at.name, "nft"]
        subprocess.run([*nft, "flush", "ruleset"], check=True)
        if percent:
            rule = _LOSE.format(port=ORDERS, percent=percent)
            subprocess.run([*nft, "-f", "-"], input=rule, text=True, check=True)

    def deploy_catalog(self, slower_s: float) -> None:
        """Put another version of catalog.py in place of the one that runs."""
        self._end(self._catalog)
        self._catalog = self._start_app("catalog", CATALOG, slower_s=slower_s)

    def scale_out(self) -> None:
        """Let a second worker help the first."""
        self._script("worker")

    def roll(self) -> None:
        """Restart both applications, one after the other, as they are."""
        self._end(self._orders)
        self._orders = self._start_app("orders", ORDERS)
        self.deploy_catalog(0.0)

    def _script(
        self, name: str, *arguments: object, slower_s: float = 0.0
    ) -> subprocess.Popen[str]:
        script = self._at.directory / f"{name}.py"
        text = APP.read_text()
        script.write_text(text.replace("SLOWER_S = 0.0", f"SLOWER_S = {slower_s}"))
        ports = ("--redis", REDIS, "--postgres", POSTGRES)
        return self._at.run(sys.executable, script, *ports, *arguments)

    def _start_app(self, name: str, port: int, *, slower_s: float = 0.0) -> subprocess.Popen[str]:
        app = self._script(name, "--port", port, "--pool", POOL, slower_s=slower_s)
        self._at.wait_until_listening(f"127.0.0.1:{port}")
        return app

    def _start_redis(self) -> subprocess.Popen[str]:
        redis = self._at.run("redis-server", "--port", REDIS, "--save", "",
                             "--dir", self._at.directory)  # fmt: skip
        self._at.wait_until_listening(f"127.0.0.1:{REDIS}")
        return redis

    def _restart_redis(self) -> None:
        self._redis = self._start_redis()

    def _start_nginx(self) -> None:
        directory = self._at.directory / "nginx"
        directory.mkdir()
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _NGINX.format(directory=directory, web=WEB, orders=ORDERS, catalog=CATALOG)
        )
        self._at.run("nginx", "-p", directory, "-c", configuration)
        self._at.wait_until_listening(f"127.0.0.1:{WEB}")

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


@contextmanager
def tiers(namespace: str, directory: Path) -> Iterator[Tiers]:
    """Run them all."""
    directory.chmod(0o755)  # PostgreSQL's user passes through
    with ExitStack() as stack:
        yield Tiers(Namespace(namespace, directory, stack))
