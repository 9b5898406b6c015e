"""The part of the configuration about receivers: their files, and how they are shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alerts.settings import ReceiverSettings
from tailrace.errors import ConfigError


def check_secret(file: Path, *, where: str) -> None:
    """Check that a file with a secret can be read; its content is never shown.

    Raises:
        ConfigError: it cannot, or is empty.
    """
    try:
        empty = not file.read_bytes().strip()
    except OSError as error:
        problem = f"cannot read {file}: {error.strerror}"
    else:
        if not empty:
            return
        problem = f"{file} is empty"
    raise ConfigError(
        problem,
        where=where,
        remedy="write the secret into that file, readable by the user Tailrace runs as",
    )


def receiver_table(receiver: ReceiverSettings) -> dict[str, Any]:
    """Return a receiver as it is written in TOML: its name and type first, no secret in it."""
    known = {"name": receiver.name, "type": receiver.type}
    for each in dataclasses.fields(receiver):
        value = getattr(receiver, each.name)
        if value is None or (each.name == "timeout_s" and value == each.default):
            continue
        if each.name == "url":
            value = _without_secrets(value)
        known[each.name] = str(value) if isinstance(value, Path) else value
    return known


def files_of(receiver: ReceiverSettings) -> dict[str, Path]:
    """Return the files that a receiver's settings name, by key."""
    named = {each.name: getattr(receiver, each.name) for each in dataclasses.fields(receiver)}
    return {key: file for key, file in named.items() if key.endswith("_file") and file is not None}


def _without_secrets(url: str) -> str:
    """Return a URL's host only: an incoming webhook's path is its password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return (
        f"{parts.scheme}://{host}/…"
        if parts.path.strip("/") or parts.query
        else f"{parts.scheme}://{host}"
    )


def with_files_at(base: Path, receiver: ReceiverSettings) -> ReceiverSettings:
    """Return a receiver's settings with its files as seen from a directory."""
    files: dict[str, Any] = {key: base / file for key, file in files_of(receiver).items()}
    return dataclasses.replace(receiver, **files)
