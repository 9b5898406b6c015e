"""Who may look: the token of the page's address, sessions after it, and the mark of our own forms.

All of it derives from one secret in the state directory, so that an open page outlives a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Self

from tailrace.errors import TailraceError

FILE = "page.key"
SESSION_S = 7 * 86_400.0
"""How long a browser is remembered."""


class Keys:
    """What is derived from the secret, and from the password if there is one.

    Attributes:
        token: what the page's address carries; good as long as the secret is.
    """

    def __init__(self, secret: bytes, password: str = "") -> None:
        """Take the secret.

        Args:
            secret: of the state directory.
            password: another one makes all sessions void; "" for none.
        """
        self._secret, self._password = secret, password.encode()
        self.token = self._mac("token")

    @classmethod
    def of(cls, state_dir: Path, password: str = "") -> Self:
        """Return the keys of a state directory; the secret is made when there is none.

        Raises:
            TailraceError: it cannot be read or made.
        """
        path = state_dir / FILE
        try:
            if not path.exists():
                _make(path)
            secret = path.read_bytes()
        except OSError as error:
            raise TailraceError(
                f"cannot read or make the page's key: {error.strerror}", where=str(path)
            ) from error
        if len(secret) < 32:
            raise TailraceError(
                "it is not the page's key", where=str(path), remedy="remove it; it is made anew"
            )
        return cls(secret, password)

    def is_token(self, given: str) -> bool:
        """Return whether it is the token."""
        return _same(given, self.token)

    def is_password(self, given: str) -> bool:
        """Return whether it is the password; never, without one."""
        return bool(self._password) and _same(given, self._password.decode())

    def session(self, now: float) -> str:
        """Return a new session, to be kept as a cookie."""
        said = f"{now + SESSION_S:.0f}.{secrets.token_hex(8)}"
        return f"{said}.{self._mac('session', said)}"

    def is_session(self, given: str, now: float) -> bool:
        """Return whether it is a session that has not ended."""
        said, _, mac = given.rpartition(".")
        ends = said.partition(".")[0]
        return _same(mac, self._mac("session", said)) and ends.isdecimal() and now < float(ends)

    def form(self, session: str) -> str:
        """Return what marks a form as one that we gave to a session."""
        return self._mac("form", session)

    def is_form(self, given: str, session: str) -> bool:
        """Return whether it marks a form of that session's."""
        return _same(given, self.form(session))

    def _mac(self, *parts: str) -> str:
        words = "\0".join(parts).encode() + b"\0" + hashlib.sha256(self._password).digest()
        return hmac.new(self._secret, words, hashlib.sha256).hexdigest()[:40]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _make(path: Path) -> None:
    # Under another name first: who reads it meanwhile must not see half of it
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, secrets.token_hex(32).encode() + b"\n")
    finally:
        os.close(handle)
    temporary.replace(path)
