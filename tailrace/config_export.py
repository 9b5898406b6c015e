"""The part of the configuration that says what other tools get: `[metrics]` and `[otlp]`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tailrace.durations import duration_s, exact_text
from tailrace.errors import ConfigError
from tailrace.export.pair_families import Names
from tailrace.export.settings import ExportSettings, OtlpSettings

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>\d{1,5})")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _listen(given: object) -> str:
    if given == "off":
        return "off"
    if not isinstance(given, str) or _address(given) is None:
        raise ValueError(f'"off", or an address and port like "127.0.0.1:9470", not {given!r}')
    return given


def _address(text: str) -> tuple[str, int] | None:
    found = _ADDRESS.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        return None
    return found["six"] or found["host"], int(found["port"])


def _endpoint(given: object) -> str:
    parts = urlsplit(given) if isinstance(given, str) else None
    # The URL itself is not repeated: who writes a password into it should not see it in a log
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('"off", or a URL like "http://127.0.0.1:4318"')
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("only scheme, host, port and path: what is secret goes into headers_file")
    return str(given)


def _endpoint_or_off(given: object) -> str:
    return "off" if given == "off" else _endpoint(given)


def _interval(given: object) -> float:
    seconds = duration_s(given)  # type: ignore[arg-type]
    if not 1.0 <= seconds <= 3600.0:
        raise ValueError(f"{given!r} is not from 1s to 1h")
    return seconds


def _headers(given: object) -> object:
    for name in given if isinstance(given, dict) else ():
        if not _HEADER.fullmatch(str(name)):
            raise ValueError(f"{name!r} is no name of a header")
    return given


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Metrics(_Table):
    """What is exported of service pairs and of Tailrace, and where Prometheus finds it.

    Attributes:
        listen: address and port of `/metrics`, or "off".
        names: the vocabulary, of OTLP too.
        max_pairs: so many service pairs have series of their own, at OTLP too.
    """

    listen: Annotated[str, BeforeValidator(_listen)] = "off"
    names: Names = "tailrace"
    max_pairs: int = Field(default=1000, ge=1, le=100_000)


class Otlp(_Table):
    """Where metrics, findings and incidents are sent.

    Attributes:
        endpoint: base URL of the receiver, or "off".
        headers: sent with each request.
        headers_file: file with more of them, a line `name: value` each; for what is secret.
        interval: between two exports of metrics, seconds.
        timeout: longest wait for each phase of a request, seconds.
        ca_file: certificates to trust in place of the system's.
        attributes: of the resource, in place of ours or beside them.
    """

    endpoint: Annotated[str, BeforeValidator(_endpoint_or_off)] = "off"
    headers: Annotated[dict[str, str], BeforeValidator(_headers)] = {}
    headers_file: Path | None = None
    interval: Annotated[float, BeforeValidator(_interval)] = 60.0
    timeout: Annotated[float, BeforeValidator(_interval)] = 10.0
    ca_file: Path | None = None
    attributes: dict[str, str] = {}

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if self.endpoint == "off" and (self.headers or self.headers_file or self.attributes):
            raise ValueError("name an endpoint, or leave the rest out")
        return self

    def at(self, base: Path) -> Self:
        """Return it with whole paths; `base` is where the configuration is."""
        files = {"headers_file": self.headers_file, "ca_file": self.ca_file}
        return self.model_copy(
            update={key: base / file for key, file in files.items() if file is not None}
        )

    def secret_headers(self) -> dict[str, str]:
        """Return the headers in `headers_file`.

        Raises:
            ConfigError: it cannot be read, or a line is no header; its content is not shown.
        """
        file = self.headers_file
        if file is None:
            return {}
        where = "key `headers_file` in [otlp]"
        remedy = "write a line `name: value` for each header, readable by the user Tailrace runs as"
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not ASCII"
            raise ConfigError(f"cannot read {file}: {reason}", where=where, remedy=remedy) from None
        found = {}
        for number, line in enumerate(lines, start=1):
            name, colon, value = line.partition(":")
            if not line.strip():
                continue
            if not colon or not _HEADER.fullmatch(name.strip()) or not value.strip():
                raise ConfigError(f"{file}, line {number} is no header", where=where, remedy=remedy)
            found[name.strip()] = value.strip()
        if not found:
            raise ConfigError(f"{file} is empty", where=where, remedy=remedy)
        return found


def export_settings(metrics: Metrics, otlp: Otlp) -> ExportSettings:
    """Return what the export needs to know.

    Raises:
        ConfigError: the secret headers cannot be read.
    """
    to = None
    if otlp.endpoint != "off":
        to = OtlpSettings(
            endpoint=otlp.endpoint,
            headers={**otlp.headers, **otlp.secret_headers()},
            interval_s=otlp.interval,
            timeout_s=otlp.timeout,
            ca_file=otlp.ca_file,
            attributes=otlp.attributes,
        )
    return ExportSettings(
        listen=_address(metrics.listen),
        names=metrics.names,
        max_pairs=metrics.max_pairs,
        otlp=to,
    )


def tables(metrics: Metrics, otlp: Otlp) -> dict[str, dict[str, Any]]:
    """Return both as they are written in TOML, defaults included; values of headers are hidden."""
    written: dict[str, Any] = {
        "endpoint": otlp.endpoint,
        "interval": exact_text(otlp.interval),
        "timeout": exact_text(otlp.timeout),
    }
    for key, file in (("headers_file", otlp.headers_file), ("ca_file", otlp.ca_file)):
        written |= {} if file is None else {key: str(file)}
    written["headers"] = dict.fromkeys(otlp.headers, "…")
    written["attributes"] = dict(otlp.attributes)
    return {"metrics": metrics.model_dump(), "otlp": written}
