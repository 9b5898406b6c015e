"""A Kubernetes API server as far as those who list and watch see it, over HTTP or HTTPS.

It shows a cluster (kubernetes_cluster.py), of objects (kubernetes_objects.py). It can be made to
refuse, to hang up, to be slow and to talk nonsense.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.kubernetes_cluster import PATHS, Cluster
from tests.support.kubernetes_objects import Said


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # who asked has gone
            self._answer()

    def _answer(self) -> None:
        cluster, url = self.cluster, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        verb = "watch" if query.get("watch") in ("1", "true") else "list"
        if cluster.faults.delay_s:
            time.sleep(cluster.faults.delay_s)
        scheme, _, token = str(self.headers["Authorization"]).partition(" ")
        if cluster.token and (scheme.lower(), token) != ("bearer", cluster.token):
            self._refuse(401, "Unauthorized", url.path, verb)
            return
        if url.path not in PATHS:
            self._refuse(404, "the server could not find the requested resource", url.path, verb)
            return
        kind, version = PATHS[url.path]
        plural = url.path.rpartition("/")[2]
        if status := cluster.faults.refused.get(plural, 0):
            self._refuse(status, f'{plural} is forbidden: User "test" cannot {verb}', kind, verb)
            return
        narrow = "as=PartialObjectMetadata" in (self.headers["Accept"] or "")
        if verb == "watch":
            self._watch(kind, query, narrow=narrow)
        else:
            self._list(kind, version, query, narrow=narrow)

    def _refuse(self, status: int, message: str, kind: str, verb: str) -> None:
        if status == 410:
            self.cluster.gone += 1
        self.cluster.asked.append((kind, verb, status))
        body = json.dumps(_status(status, message)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _list(self, kind: str, version: str, query: Mapping[str, str], *, narrow: bool) -> None:
        cluster = self.cluster
        found = cluster.page(kind, int(query.get("limit", "0")), query.get("continue", ""))
        if found is None:
            self._refuse(410, "The provided continue parameter is too old", kind, "list")
            return
        cluster.asked.append((kind, "list", 200))
        items, following, at = found
        said = {
            "kind": f"{kind}List",
            "apiVersion": version,
            "metadata": {"resourceVersion": str(at), "continue": following},
            "items": [_narrow(one) if narrow else one for one in items],
        }
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cluster.faults.trickle:
            step = max(1, len(body) // 50)
            for start in range(0, len(body), step):
                self.wfile.write(body[start : start + step])
                self.wfile.flush()
                time.sleep(0.01)
            return
        self.wfile.write(body)

    def _watch(self, kind: str, query: Mapping[str, str], *, narrow: bool) -> None:
        cluster = self.cluster
        at, epoch = int(query["resourceVersion"]), cluster.epoch
        end = time.monotonic() + float(query.get("timeoutSeconds", "300"))
        with cluster.changed:
            late = cluster.after(kind, at) is None
        if late and cluster.faults.gone_as_status:
            self._refuse(410, "too old resource version", kind, "watch")
            return
        cluster.asked.append((kind, "watch", 200))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        said_at = time.monotonic()
        while time.monotonic() < end:
            with cluster.changed:
                if cluster.faults.silent or cluster.after(kind, at) == []:
                    cluster.changed.wait(0.05)
                silent = cluster.faults.silent
                changes = [] if silent else cluster.after(kind, at)
                newest = cluster.version
            if cluster.epoch != epoch:
                break
            if changes is None:
                cluster.gone += 1
                self._line({"type": "ERROR", "object": _status(410, "too old resource version")})
                break
            for version, what, said in changes:
                if not self._event(what, _narrow(said) if narrow else said):
                    self.close_connection = True
                    return
                at, said_at = version, time.monotonic()
            due = cluster.bookmark_s and time.monotonic() - said_at > cluster.bookmark_s
            if due and "allowWatchBookmarks" in query and not silent:
                at, said_at = newest, time.monotonic()
                mark = {"kind": kind, "metadata": {"resourceVersion": str(at)}}
                self._line({"type": "BOOKMARK", "object": mark})
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, what: str, said: Said) -> bool:
        """Send an event; return whether the stream goes on."""
        faults, chance = self.cluster.faults, self.cluster.random
        if chance.random() < faults.garbage:
            nonsense = [b"\x00\xff{", b"[]", b'{"type": "ADDED"}', b'{"type": 3, "object": []}']
            self._chunk(chance.choice(nonsense) + b"\n")
            if chance.random() < 0.5:
                return True
        if chance.random() < faults.hang_up:
            if chance.random() < 0.5:
                line = json.dumps({"type": what, "object": said}).encode()
                self._chunk(line[: len(line) // 2])
            return False
        self._line({"type": what, "object": said})
        return True

    def _line(self, event: Said) -> None:
        self._chunk(json.dumps(event).encode() + b"\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def _status(code: int, message: str) -> Said:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message}


def _narrow(said: Said) -> Said:
    return {"kind": "PartialObjectMetadata", "metadata": said["metadata"]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ends: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        end, address = super().get_request()
        self.ends.add(end)
        return end, address

    def shutdown_request(self, request: Any) -> None:
        self.ends.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections, those between two requests too."""
        for end in tuple(self.ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that hang up are part of the test."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server.

    Attributes:
        cluster: what it shows.
        url: where it is.
        kubeconfig: the file that leads there.
    """

    cluster: Cluster
    url: str
    kubeconfig: Path


@contextlib.contextmanager
def served(
    directory: Path, cluster: Cluster, *, tls: bool = False, port: int = 0
) -> Iterator[Served]:
    """Serve a cluster on loopback."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = _Server(("127.0.0.1", port), handler)
    authority = ""
    if tls:
        certificate, key = certificates(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        authority = base64.b64encode((directory / "ca.crt").read_bytes()).decode()
    url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        path = directory / "kubeconfig"
        write_kubeconfig(path, url, token=cluster.token, authority=authority)
        yield Served(cluster, url, path)
    finally:
        cluster.hang_up()
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()


def write_kubeconfig(path: Path, url: str, *, token: str = "", authority: str = "") -> None:
    """Write a kubeconfig (JSON is YAML)."""
    cluster = {"server": url} | ({"certificate-authority-data": authority} if authority else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(config))


def certificates(directory: Path) -> tuple[Path, Path]:
    """Make an authority (ca.crt) and a certificate of it for 127.0.0.1; return that and its key."""

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    ca, ca_key = directory / "ca.crt", directory / "ca.key"
    crt, key, request = directory / "tls.crt", directory / "tls.key", directory / "tls.csr"
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-keyout", ca_key, "-out", ca, "-subj", "/CN=test", "-days", "2")
    openssl(*new, "-keyout", key, "-out", request, "-subj", "/CN=api")
    names = directory / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
            "-out", crt, "-days", "2", "-extfile", names)  # fmt: skip
    return crt, key
