"""The daemon's part of the page: it holds the listening socket, and starts who answers.

The page's process is started when somebody connects, and ends when nobody has looked for a while.
No byte that a visitor sends is read here.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tailrace.config_page import Page, address_of
from tailrace.errors import TailraceError
from tailrace.page.keys import Keys

IDLE_S = 300.0
"""So long after the last visitor has left, the page's process ends."""
AGAIN_AFTER_S = 10.0
"""After one that failed, the next page's process is started no sooner."""
_STOP_S = 3.0
_BACKLOG = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the page's process is asked to do.

    Attributes:
        socket: descriptor of the listening socket.
        state_dir: whose page it is.
        hosts: names under which it is reached, beside its addresses.
        password_file: holds the password; None for none.
        idle_s: it ends when nobody looked for so long, seconds.
    """

    socket: int
    state_dir: str
    hosts: tuple[str, ...]
    password_file: str | None
    idle_s: float

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` made a text of."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields | {"hosts": tuple(fields["hosts"])})


class Beside:
    """The page, as the daemon has it.

    Attributes:
        url: where the page is, with the token if that is what it asks for.
    """

    def __init__(
        self,
        settings: Page,
        state_dir: Path,
        *,
        warning: Callable[[str], None],
        idle_s: float = IDLE_S,
    ) -> None:
        """Listen, and start whoever answers when somebody connects.

        Args:
            settings: where, and for whom.
            state_dir: whose page it is.
            warning: told when something is wrong and goes on; called from a thread.
            idle_s: how long the page's process stays when nobody looks, seconds.

        Raises:
            TailraceError: the address is in use or not this host's, or the state directory cannot
                hold the page's key.
        """
        keys = Keys.of(state_dir)
        self._warning = warning
        self._socket = _listening(settings.listen)
        self._request = Request(
            socket=self._socket.fileno(),
            state_dir=str(state_dir),
            hosts=settings.hosts,
            password_file=None if settings.password_file is None else str(settings.password_file),
            idle_s=idle_s,
        )
        host, port = self._socket.getsockname()[:2]
        self.url = url_of(host, port, None if settings.password_file is not None else keys.token)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end the page's process."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._wake.send(b".")
        with self._lock:
            if self._process is not None:
                self._process.terminate()
        self._thread.join(_STOP_S)
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self._thread.join(_STOP_S)
        for each in (self._socket, self._wake, self._woken):
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while self._visitor():
            code = self._serve()
            if code and not self._stopping.is_set():
                self._warning(
                    f"the live page ended by itself ({_ending(code)}); it is started again when "
                    "somebody looks at it"
                )
                self._stopping.wait(AGAIN_AFTER_S)

    def _visitor(self) -> bool:
        """Wait until somebody connects; return whether somebody did."""
        poll = select.poll()  # select() knows no descriptor above 1023
        poll.register(self._socket, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        poll.poll()
        return not self._stopping.is_set()

    def _serve(self) -> int:
        """Run the page's process to its end; return its exit code."""
        environment = {
            **os.environ,
            # it must see the packages that this process sees
            "PYTHONPATH": os.pathsep.join(os.path.abspath(part) for part in sys.path),  # noqa: PTH100
            "OPENBLAS_NUM_THREADS": "1",
        }
        try:
            with self._lock:
                if self._stopping.is_set():
                    return 0
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-P", "-m", "tailrace.page", self._request.to_json()],
                    stdin=subprocess.PIPE,  # whose end tells it that this process is gone
                    pass_fds=(self._request.socket,),
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for this process
                )
        except OSError as error:
            self._warning(f"the live page cannot be started: {error.strerror}")
            self._stopping.wait(AGAIN_AFTER_S)
            return 0
        with self._process as process:
            code = process.wait()
        with self._lock:
            self._process = None
        return code


def url_of(host: str, port: int, token: str | None) -> str:
    """Return the page's address, with the token if there is one."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened at
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + ("" if token is None else f"?token={token}")


def _listening(listen: str) -> socket.socket:
    host, port = address_of(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise TailraceError(
            f"cannot listen at {listen}: {error.strerror}",
            where="[page]",
            remedy="set another address as listen, or enabled = false",
        ) from error
    return made


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
