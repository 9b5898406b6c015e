"""The way to a cluster's API server: where its configuration is, and requests by it.

Kubernetes' own client library reads the configuration, finds credentials (service accounts,
certificates, tokens, programs that give some) and sets up TLS. Its models are not used: they take
many times the time and memory of what is kept here of an object.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NODE_FILES: Final = (
    Path("/etc/rancher/k3s/k3s.yaml"),
    Path("/etc/rancher/rke2/rke2.yaml"),
    Path("/var/lib/k0s/pki/admin.conf"),
    Path("/var/snap/microk8s/current/credentials/client.config"),
    Path("/etc/kubernetes/admin.conf"),
)
"""Where distributions leave a kubeconfig on their nodes."""

IN_CLUSTER: Final = "service account"
NO_PACKAGE: Final = "the package kubernetes is not installed: pip install 'tailrace[kubernetes]'"

_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 60.0
_MOST_BYTES: Final = 64 << 20
_CHUNK: Final = 1 << 16


class ApiError(Exception):
    """The API server refused.

    Attributes:
        status: of HTTP; 410: what was asked for is too old.
        retry_after_s: when it wants to be asked again; 0 if it does not say.
    """

    def __init__(self, status: int, message: str, retry_after_s: float = 0.0) -> None:
        """Say what it answered."""
        super().__init__(f"{status} {message}".strip())
        self.status = status
        self.retry_after_s = retry_after_s


class ConfigurationError(Exception):
    """The configuration cannot be used."""


class NotAnAnswerError(Exception):
    """Something answered that does not speak as an API server does."""


def found_config(
    asked: str, environment: Mapping[str, str] = os.environ, *, account: Path = ACCOUNT
) -> str:
    """Return where the configuration is: IN_CLUSTER or paths of kubeconfigs; "" if nowhere.

    Args:
        asked: "auto", "off" or the path of a kubeconfig.
        environment: of this process.
        account: where a pod finds its service account.
    """
    if asked == "off":
        return ""
    if asked != "auto":
        return asked
    if environment.get("KUBERNETES_SERVICE_HOST") and (account / "token").exists():
        return IN_CLUSTER
    if given := environment.get("KUBECONFIG"):
        return given
    return next((str(path) for path in NODE_FILES if os.access(path, os.R_OK)), "")


class Api:
    """One cluster's API server, for several threads."""

    def __init__(self, where: str, context: str | None = None) -> None:
        """Take note of where it is; nothing is read or asked yet.

        Args:
            where: IN_CLUSTER, or paths of kubeconfigs as in $KUBECONFIG.
            context: of the kubeconfig; None for its current one.
        """
        self._where = where
        self._context = context
        self._lock = threading.Lock()
        self._made: tuple[Any, Any] | None = None

    def renew(self) -> None:
        """Read the configuration again before the next request: credentials change."""
        with self._lock:
            self._made = None

    def document(self, path: str, query: Mapping[str, str], accept: str) -> Any:
        """Return the JSON values at a path.

        Raises:
            ApiError: the server refuses.
            NotAnAnswerError: it sends something else, too much, or too slowly.
            ConfigurationError: there is no way to it.
            urllib3.exceptions.HTTPError: it cannot be reached.
        """
        deadline = time.monotonic() + _ANSWER_S
        response = self.request(path, query, accept, read_s=_ANSWER_S)
        try:
            body = bytearray()
            for part in response.stream(_CHUNK, decode_content=True):
                body += part
                if len(body) > _MOST_BYTES:
                    raise NotAnAnswerError(f"an answer of more than {_MOST_BYTES >> 20} MiB")
                if time.monotonic() > deadline:
                    raise NotAnAnswerError(f"an answer that took more than {_ANSWER_S:.0f} s")
        finally:
            response.close()
        try:
            return json.loads(body)
        except ValueError as error:
            raise NotAnAnswerError("an answer that is not JSON") from error

    def request(self, path: str, query: Mapping[str, str], accept: str, *, read_s: float) -> Any:
        """Return the open answer (urllib3's) to a question; close it.

        Raises:
            ApiError: the server refuses.
            ConfigurationError: there is no way to it.
            urllib3.exceptions.HTTPError: it cannot be reached.
        """
        configuration, pool = self._client()
        from urllib3 import Timeout  # noqa: PLC0415 - of an extra

        headers = {"Accept": accept, "User-Agent": "tailrace"}
        # looks whether a token must be renewed, too
        bearer = configuration.auth_settings().get("BearerToken")
        if bearer and bearer["value"]:
            headers["Authorization"] = bearer["value"]
        elif configuration.username:
            headers["Authorization"] = configuration.get_basic_auth_token()
        response = pool.request(
            "GET",
            f"{configuration.host.rstrip('/')}{path}?{urlencode(query)}",
            headers=headers,
            preload_content=False,
            retries=False,
            redirect=False,
            timeout=Timeout(connect=_CONNECT_S, read=read_s),
        )
        if response.status == 200:
            return response
        try:
            raise _refusal(response)
        finally:
            response.close()

    def _client(self) -> tuple[Any, Any]:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> tuple[Any, Any]:
        try:
            return self._configured()
        except ImportError:
            raise
        except Exception as error:  # of the library's, of YAML, of the operating system, of SSL
            text = f"cannot use the configuration ({self._where}): {error}"
            raise ConfigurationError(text) from error

    def _configured(self) -> tuple[Any, Any]:
        from kubernetes import client, config  # noqa: PLC0415 - an extra, and slow to import
        from kubernetes.client import rest  # noqa: PLC0415

        configuration = client.Configuration()
        if self._where == IN_CLUSTER:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(
                config_file=self._where,
                context=self._context,
                client_configuration=configuration,
                persist_config=False,
            )
        configuration.connection_pool_maxsize = 8
        return configuration, rest.RESTClientObject(configuration).pool_manager


def _refusal(response: Any) -> ApiError:
    message = ""
    try:
        said = json.loads(next(iter(response.stream(_CHUNK, decode_content=True)), b""))
        message = str(said.get("message", ""))[:300] if isinstance(said, dict) else ""
    except Exception:  # it says no, in whatever words
        message = ""
    after = str(response.headers.get("Retry-After", ""))
    return ApiError(
        int(response.status),
        message or str(response.reason or ""),
        min(float(after), 300.0) if after.isdigit() else 0.0,
    )


def lines(response: Any, most_bytes: int = 8 << 20) -> Iterator[bytes | None]:
    """Yield the lines of an open answer as they come; None for one that is too long.

    What stands behind the last line break is cut off, and not yielded.
    """
    rest = bytearray()
    skipping = False
    for part in response.stream(_CHUNK, decode_content=True):
        rest += part
        if b"\n" not in part:
            if len(rest) > most_bytes:
                rest.clear()
                skipping = True
            continue
        *whole, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in whole:
            yield None if skipping else line
            skipping = False
