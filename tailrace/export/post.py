"""One request of OTLP over HTTP, and what its answer means."""

from __future__ import annotations

import gzip
import logging
import ssl
import time
from typing import Final, NamedTuple

import httpx
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

import tailrace
from alerts.receivers.base import retry_after_s
from tailrace.errors import ConfigError
from tailrace.export.settings import OtlpSettings

RETRIED: Final = frozenset({429, 502, 503, 504})
"""By OTLP's specification; any other failure is final."""
_ANSWER_BYTES: Final = 64 * 1024


class PostError(Exception):
    """A request that brought nothing.

    Attributes:
        retry: whether to try again.
        retry_after_s: when, as the receiver asks; None when it does not.
    """

    def __init__(self, text: str, *, retry: bool, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry, self.retry_after_s = retry, retry_after_s


class Taken(NamedTuple):
    """What the receiver says of what it took: how many items it did not want, and why."""

    rejected: int
    text: str


class Poster:
    """Makes single attempts.

    Raises:
        ConfigError: the certificates cannot be read.
    """

    def __init__(self, settings: OtlpSettings) -> None:
        for library in ("httpx", "httpcore"):
            # They log all headers, which may hold a token
            logging.getLogger(library).setLevel(logging.WARNING)
        verify: ssl.SSLContext | bool = True
        if settings.ca_file is not None:
            try:
                verify = ssl.create_default_context(cafile=str(settings.ca_file))
            except OSError as error:  # ssl.SSLError is one
                raise ConfigError(
                    f"cannot read {settings.ca_file}: {error.strerror or error}",
                    where="key `ca_file` in [otlp]",
                    remedy="name a file with certificates in PEM",
                ) from error
        self._base = settings.endpoint.rstrip("/")
        self._client = httpx.Client(
            timeout=settings.timeout_s,
            follow_redirects=False,
            verify=verify,
            headers={
                **settings.headers,
                "content-type": "application/x-protobuf",
                "content-encoding": "gzip",
                "accept-encoding": "identity",
                "user-agent": f"tailrace/{tailrace.__version__}",
            },
        )

    def post(self, signal: str, body: bytes) -> Taken:
        """Send one body; return what the receiver says of it.

        Args:
            signal: "metrics" or "logs".
            body: a serialised request.

        Raises:
            PostError: it was not taken.
        """
        url = f"{self._base}/v1/{signal}"
        try:
            with self._client.stream(
                "POST", url, content=gzip.compress(body, 1, mtime=0)
            ) as answer:
                status, retry_after = answer.status_code, answer.headers.get("retry-after")
                said = _beginning(answer) if answer.is_success else b""
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            # None: the original's request holds the headers
            kind = type(error).__name__
            raise PostError(kind, retry=isinstance(error, httpx.TransportError)) from None
        if 200 <= status < 300:
            return _taken(signal, said)
        raise PostError(
            f"HTTP status {status}",
            retry=status in RETRIED,
            retry_after_s=retry_after_s(retry_after, now=time.time()),
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _beginning(answer: httpx.Response) -> bytes:
    said = b""
    for part in answer.iter_bytes():
        said += part
        if len(said) > _ANSWER_BYTES:
            return b""
    return said


def _taken(signal: str, said: bytes) -> Taken:
    try:
        if signal == "metrics":
            metrics = ExportMetricsServiceResponse.FromString(said).partial_success
            return Taken(max(metrics.rejected_data_points, 0), metrics.error_message[:200])
        logs = ExportLogsServiceResponse.FromString(said).partial_success
        return Taken(max(logs.rejected_log_records, 0), logs.error_message[:200])
    except DecodeError:  # some say "ok", or answer in JSON: it is taken all the same
        return Taken(0, "")
