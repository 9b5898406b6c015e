"""A small company in one network namespace: real servers under real, varying, healthy load."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support import varying
from tests.support.traffic import nginx, running, wait_for

NGINX, PRICING, REDIS, POSTGRES, DNS = 8080, 8001, 6379, 5432, 53

_UNBOUND = """
server:
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  verbosity: 0
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  local-zone: "test." nodefault
  local-zone: "soak.test" static
  local-data: "api.soak.test A 192.0.2.1"
  local-data: "db.soak.test A 192.0.2.2"
  local-data: "cache.soak.test AAAA 2001:db8::1"
  local-data: "queue.soak.test A 192.0.2.4"
remote-control:
  control-enable: no
"""
_CRON = "while sleep {pause}; do redis-cli -p {port} -r {times} -i 0.02 PING >/dev/null; done"


@contextmanager
def first() -> Iterator[None]:
    """Let this process, and what it starts meanwhile, run before others.

    Services that wait for a CPU because this machine has other work do answer late, and are told.
    Where the kernel shares CPUs by session, the session's weight counts too: sched(7), autogroup.
    """
    was, session = os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/autogroup")
    # The file is empty for a process whose session has no group, as after setsid(2) by another
    weight = "".join(session.read_text().split()[-1:]) if session.exists() else ""
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    if weight:
        session.write_text("-20")
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, was)
        if weight:
            session.write_text(weight)


class Namespace:
    """Starts services under names of their own in a network namespace."""

    def __init__(self, name: str, directory: Path, stack: ExitStack) -> None:
        self.name, self.directory, self._stack = name, directory, stack

    def run(
        self, *command: object, user: str = "", realtime: bool = False
    ) -> subprocess.Popen[str]:
        """Run a command until the end of the stack."""
        before = ["ip", "netns", "exec", self.name]
        if realtime:
            before += ["chrt", "--rr", "1"]
        if user:
            before += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        words = [*before, *map(str, command)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        return self._stack.enter_context(running(*words, **pipes))

    def service(self, name: str, *arguments: object) -> subprocess.Popen[str]:
        """Run `varying` as the service `name`.py."""
        script = self.directory / f"{name}.py"
        shutil.copy(varying.__file__, script)
        return self.run(sys.executable, script, *arguments)

    def serve(self, name: str, where: str, *arguments: object) -> subprocess.Popen[str]:
        """Run a server of HTTP, and wait until it listens."""
        server = self.service(name, "serve", where, *arguments)
        self.wait_until_listening(where)
        return server

    def wait_until_listening(self, where: str) -> None:
        """Wait until somebody listens at an address or a path."""
        port = where.rpartition(":")[2]
        what = ["-xl", "src", where] if where.startswith("/") else ["-tl", f"sport = :{port}"]
        listening = ["ip", "netns", "exec", self.name, "ss", "-Hn", *what]
        wait_for(
            lambda: bool(subprocess.run(listening, capture_output=True, check=True).stdout),
            within_s=30,
            what=f"{where} accepts",
        )


def postgres(at: Namespace, directory: Path, *, port: int = POSTGRES) -> dict[str, str]:
    """Run PostgreSQL, as its own user: it refuses to run as root; return where its programs are."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
    wanted = ("initdb", "postgres", "pgbench", "psql")
    found = {name: where for name in wanted if (where := shutil.which(name, path=path))}
    missing = sorted(set(wanted) - set(found))
    assert not missing, f"PostgreSQL is not installed: no {', '.join(missing)}"
    directory.mkdir()
    shutil.chown(directory, "postgres", "postgres")
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run(
        [*as_postgres, found["initdb"], "-A", "trust", "-U", "postgres", "-D", directory / "data"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    # Without fsync: how long the disk takes is up to whatever else this machine does
    options = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
        "fsync": "off",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    # Each of its processes makes a session of its own, with the weight of any other: see `first`
    at.run(found["postgres"], "-D", directory / "data", *words, user="postgres", realtime=True)
    at.wait_until_listening(f"127.0.0.1:{port}")
    return found


def prepared(at: Namespace, *command: object) -> None:
    """Run a client of PostgreSQL to its end, as soon as the server is ready for it."""
    within = ["ip", "netns", "exec", at.name, *map(str, command)]
    wait_for(
        lambda: subprocess.run(within, capture_output=True, check=False).returncode == 0,
        within_s=60, what="PostgreSQL is ready",
    )  # fmt: skip


def _pgbench(at: Namespace, directory: Path) -> None:
    """Run PostgreSQL with pgbench's tables, and pgbench: a connection for each transaction."""
    pgbench = postgres(at, directory)["pgbench"]
    where = ["-h", "127.0.0.1", "-p", POSTGRES, "-U", "postgres"]
    prepared(at, pgbench, "-i", "-q", *where, "postgres")
    at.run(pgbench, *where, "-n", "-S", "-C", "-R", 3, "-T", 86_400, "postgres")


@contextmanager
def mixed(namespace: str, directory: Path) -> Iterator[Namespace]:
    """Run it all: keep-alive and single connections, jobs, pauses, waves and random walks."""
    directory.chmod(0o755)  # PostgreSQL's user passes through
    with ExitStack() as stack:
        at = Namespace(namespace, directory, stack)
        web = directory / "nginx"
        web.mkdir()
        stack.enter_context(nginx(web, port=NGINX, inside=namespace))
        at.run("redis-server", "--port", REDIS, "--save", "", "--dir", directory)
        at.wait_until_listening(f"127.0.0.1:{REDIS}")
        (directory / "unbound.conf").write_text(_UNBOUND.format(directory=directory, port=DNS))
        at.run("unbound", "-c", directory / "unbound.conf")
        _pgbench(at, directory / "postgres")
        price, web_at = f"127.0.0.1:{PRICING}", f"127.0.0.1:{NGINX}"
        redis, sidecar = f"127.0.0.1:{REDIS}", str(directory / "agent.sock")
        at.serve("pricing", price, "--median", 0.004, "--size", 2000)
        at.serve("agent", sidecar, "--median", 0.001, "--size", 300)

        def call(name: str, *arguments: object) -> None:
            at.service(name, "call", *arguments)

        wave = ("--period", 1200, "--factor", 2)
        call("shop", "http", web_at, "--rate", 40, "--threads", 4, "--walk", 0.2, *wave)
        call("mobile", "http", web_at, "--rate", 10, "--close", "--walk", 0.3, "--seed", 2)
        call("catalog", "http", price, "--rate", 25, "--threads", 3, "--walk", 0.2,
             "--period", 900, "--seed", 3)  # fmt: skip
        call("report", "http", price, "--rate", 2, "--close", "--walk", 0.3, "--seed", 4)
        call("heartbeat", "http", price, "--rate", 0.2, "--close", "--seed", 5)
        call("session", "redis", redis, "--rate", 60, "--walk", 0.3, "--seed", 6)
        call("feed", "push", redis, "--rate", 8, "--walk", 0.3, "--seed", 7)
        call("worker", "work", redis, "--rate", 100, "--seed", 8)
        call("orders", "postgres", f"127.0.0.1:{POSTGRES}", "--rate", 20, "--threads", 2,
             "--walk", 0.2, "--period", 1500, "--seed", 9)  # fmt: skip
        call("lookup", "dns", f"127.0.0.1:{DNS}", "--rate", 15, "--walk", 0.3, "--seed", 10)
        call("sidecar", "http", sidecar, "--rate", 12, "--walk", 0.2, "--seed", 11)
        # jobs: one keeps its connection, one opens many, one is long and rare, one a new process
        call("batch", "redis", redis, "--rate", 50, "--every", 45, "--lasts", 5, "--seed", 12)
        call("sync", "http", web_at, "--rate", 20, "--close", "--every", 20, "--lasts", 2,
             "--seed", 13)  # fmt: skip
        call("crawl", "http", price, "--rate", 30, "--every", 150, "--lasts", 20, "--seed", 14)
        at.run("sh", "-c", _CRON.format(pause=58, port=REDIS, times=100))
        yield at
