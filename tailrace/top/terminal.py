"""Keys from a terminal, which is put back as it was whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import termios
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Final, NoReturn

NAMED: Final = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down",
    "\x1b[5~": "page up", "\x1b[6~": "page down", "\x1b[H": "home", "\x1b[1~": "home",
    "\x1b": "escape", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace",
}  # fmt: skip
"""What keys send, and what they are called here; any other is the character it sends."""
_KEY: Final = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])|.", re.DOTALL)


class Keyboard:
    """The keys of a terminal, one by one, without waiting for Enter."""

    def __init__(self, descriptor: int) -> None:
        """Read from this descriptor, which `unbuffered` has prepared."""
        self._descriptor = descriptor

    def pressed(self, timeout_s: float) -> list[str]:
        """Return the keys that were pressed, after at most so long; none when that was up.

        Raises:
            EOFError: the terminal is gone.
        """
        ready, _, _ = select.select([self._descriptor], [], [], max(timeout_s, 0.0))
        if not ready:
            return []
        data = os.read(self._descriptor, 1024)
        if not data:
            raise EOFError
        return keys_in(data.decode(errors="ignore"))


def keys_in(text: str) -> list[str]:
    """Return the keys that send this, by name where they have one; unknown sequences are left."""
    keys = [NAMED.get(sent, sent) for sent in _KEY.findall(text)]
    return [key for key in keys if not key.startswith("\x1b")]


@contextlib.contextmanager
def unbuffered(descriptor: int) -> Iterator[Keyboard]:
    """Yield a terminal's keyboard; at the end, or at SIGTERM or SIGHUP, it is as it was.

    Ctrl-C stays an interrupt. Ctrl-Z does nothing: it would leave the screen as it is.
    """
    before = termios.tcgetattr(descriptor)
    handlers = {
        number: signal.signal(number, _interrupted) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        tty.setcbreak(descriptor)
        now = termios.tcgetattr(descriptor)
        now[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(descriptor, termios.TCSANOW, now)
        yield Keyboard(descriptor)
    finally:
        # A terminal that is gone needs nothing
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
