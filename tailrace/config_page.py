"""The part of the configuration about the live page."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

DEFAULT_LISTEN = "127.0.0.1:9465"
_LISTEN = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+)):(\d{1,5})")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def address_of(listen: str) -> tuple[str, int]:
    """Return the address and port that `listen` says.

    Raises:
        ValueError: it says none; the message says what to write.
    """
    found = _LISTEN.fullmatch(listen)
    if found is None:
        raise ValueError(f'{listen!r} is no address and port: write it like "{DEFAULT_LISTEN}"')
    host, port = found[1] or found[2], int(found[3])
    if host == "localhost":
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            f"{host!r} is not an address: write one of this host's, such as 127.0.0.1"
        ) from None
    if port > 65535:
        raise ValueError(f"{port} is no port: it is from 0 (any that is free) to 65535")
    return str(address), port


def is_loopback(listen: str) -> bool:
    """Return whether nobody but this host can connect."""
    return ipaddress.ip_address(address_of(listen)[0]).is_loopback


def _listen(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError(f'an address and port as text, like "{DEFAULT_LISTEN}"')  # noqa: TRY004
    address_of(given)
    return given


def _hosts(given: object) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise ValueError('a list of names, like ["tailrace.example.com"]')
    for name in listed:
        if not _HOST.fullmatch(name.lower()):
            raise ValueError(f"{name!r} is no host's name: write it without scheme and port")
    return tuple(name.lower() for name in listed)


class Page(BaseModel):
    """The live page that `tailrace run` serves.

    Attributes:
        enabled: whether it does.
        listen: address and port.
        password_file: holds the password it asks for; None: it asks for the token of the address
            that is printed at the start.
        hosts: names under which it is reached beside its addresses, e.g. those of a proxy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    enabled: bool = True
    listen: Annotated[str, BeforeValidator(_listen)] = DEFAULT_LISTEN
    password_file: Path | None = None
    hosts: Annotated[tuple[str, ...], BeforeValidator(_hosts)] = ()

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.enabled and self.password_file is None and not is_loopback(self.listen):
            raise ValueError(
                f"it would be open to other hosts on {self.listen} without a password: name a "
                f'file with one as password_file, or listen = "{DEFAULT_LISTEN}"'
            )
        return self

    def relative_to(self, base: Path) -> Self:
        """Return it with the password's file as seen from a directory."""
        if self.password_file is None:
            return self
        return self.model_copy(update={"password_file": base / self.password_file})

    def table(self) -> dict[str, Any]:
        """Return it as it is written in TOML; the password is not in it."""
        written: dict[str, Any] = {
            "enabled": self.enabled,
            "listen": self.listen,
            "hosts": list(self.hosts),
        }
        if self.password_file is not None:
            written["password_file"] = str(self.password_file)
        return written
