"""A Kubernetes API server as far as those who list and watch see it, over HTTP or HTTPS.

It keeps its objects as etcd does: each change has a number, a log of changes answers watches, and
once the log is compacted whoever is behind is told 410. It can be made to refuse, to hang up, to
be slow and to talk nonsense.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATHS = {
    "/api/v1/pods": ("Pod", "v1"),
    "/api/v1/services": ("Service", "v1"),
    "/apis/discovery.k8s.io/v1/endpointslices": ("EndpointSlice", "discovery.k8s.io/v1"),
    "/apis/apps/v1/replicasets": ("ReplicaSet", "apps/v1"),
    "/apis/batch/v1/jobs": ("Job", "batch/v1"),
}

Said = dict[str, Any]


@dataclass
class Faults:
    """What goes wrong, from now on.

    Attributes:
        refused: by plural: the status that a request for them gets.
        hang_up: chance that a stream ends behind an event, at times in the middle of a line.
        garbage: chance that nonsense stands in front of an event, or in its place.
        gone_as_status: whether a watch that is behind gets 410 as its status, not in its stream.
        delay_s: before every answer.
        trickle: whether lists come byte by byte, some every 10 ms.
        silent: whether streams say nothing at all.
    """

    refused: dict[str, int] = field(default_factory=dict)
    hang_up: float = 0.0
    garbage: float = 0.0
    gone_as_status: bool = False
    delay_s: float = 0.0
    trickle: bool = False
    silent: bool = False


class Cluster:
    """The objects, their changes, and who may ask.

    Attributes:
        token: that a request must bring; "" for none.
        faults: what goes wrong.
        bookmark_s: how often a quiet stream says where it is.
        asked: requests so far: (kind, "list" or "watch", status).
        gone: how often somebody was told 410.
    """

    def __init__(self, *, token: str = "", seed: int = 0) -> None:
        self.token = token
        self.faults = Faults()
        self.bookmark_s = 1.0
        self.asked: list[tuple[str, str, int]] = []
        self.gone = 0
        self.random = random.Random(seed)
        self._version = 1000
        self._compacted = 0
        self._epoch = 0
        self._objects: dict[str, dict[tuple[str, str], Said]] = {
            kind: {} for kind, _ in PATHS.values()
        }
        self._log: list[tuple[int, str, str, Said]] = []
        self._pages: dict[str, tuple[int, list[Said]]] = {}
        self.changed = threading.Condition()

    def put(self, said: Said) -> Said:
        """Create or replace an object, as whole as it is given."""
        meta = said["metadata"]
        with self.changed:
            self._version += 1
            known = self._objects[said["kind"]]
            key = meta["namespace"], meta["name"]
            what = "MODIFIED" if key in known else "ADDED"
            said = {**said, "metadata": {**meta, "resourceVersion": str(self._version)}}
            known[key] = said
            self._log.append((self._version, said["kind"], what, said))
            self.changed.notify_all()
        return said

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Remove an object."""
        with self.changed:
            said = self._objects[kind].pop((namespace, name))
            self._version += 1
            meta = {**said["metadata"], "resourceVersion": str(self._version)}
            self._log.append((self._version, kind, "DELETED", {**said, "metadata": meta}))
            self.changed.notify_all()

    def compact(self) -> None:
        """Forget all changes so far; streams that are behind them are told so."""
        with self.changed:
            self._compacted = self._version
            self._log.clear()
            self._pages.clear()
            # what other kinds have done moves on without those who watch this one
            self._version += 1
            self.changed.notify_all()

    def hang_up(self) -> None:
        """End all streams."""
        with self.changed:
            self._epoch += 1
            self.changed.notify_all()

    def all(self, kind: str) -> list[Said]:
        """Return all objects of a kind."""
        with self.changed:
            return list(self._objects[kind].values())

    def page(self, kind: str, limit: int, token: str) -> tuple[list[Said], str, int] | None:
        """Return (objects, token of the rest, version); None if they are too old by now."""
        with self.changed:
            if token:
                if token not in self._pages:
                    return None
                version, rest = self._pages.pop(token)
            else:
                version, rest = self._version, sorted(
                    self._objects[kind].values(),
                    key=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]),
                )  # fmt: skip
            now, later = (rest[:limit], rest[limit:]) if limit else (rest, [])
            following = ""
            if later:
                following = uuid.uuid4().hex
                self._pages[following] = version, later
            return now, following, version

    def after(self, kind: str, version: int) -> list[tuple[int, str, Said]] | None:
        """Return the changes behind a version; None if some of them are forgotten."""
        if version < self._compacted:
            return None
        return [(at, what, said) for at, of, what, said in self._log if at > version and of == kind]

    @property
    def version(self) -> int:
        """The number of the last change."""
        return self._version

    @property
    def epoch(self) -> int:
        """How often all streams were ended."""
        return self._epoch


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


def owner(kind: str, name: str) -> list[Said]:
    """Return the ownerReferences of what a controller manages."""
    return [{"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": True}]


def meta(name: str, namespace: str = "shop", **more: Any) -> Said:
    """Return an object's metadata."""
    return {
        "name": name,
        "namespace": namespace,
        "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{namespace}/{name}/{more}")),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def pod(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    node: str = "node-1",
    phase: str = "Running",
    host_network: bool = False,
    host_ip: str = "192.0.2.1",
    ports: tuple[Said, ...] = (),
    image: str = "registry.example/app:1",
    containers: tuple[str, ...] = (),
    **metadata: Any,
) -> Said:
    """Return a Pod; `containers` are ids, the first is the application's."""
    names = ["app", *(f"side-{n}" for n in range(1, len(containers)))]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, namespace, **metadata),
        "spec": {
            "nodeName": node,
            "hostNetwork": host_network,
            "containers": [
                {"name": each, "image": image, "ports": list(ports) if each == "app" else []}
                for each in names
            ],
        },
        "status": {
            "phase": phase,
            "hostIP": host_ip,
            "hostIPs": [{"ip": host_ip}],
            **({"podIP": addresses[0]} if addresses else {}),
            "podIPs": [{"ip": address} for address in addresses],
            "containerStatuses": [
                {
                    "name": each,
                    "containerID": f"containerd://{container}",
                    "imageID": f"registry.example/app@sha256:{'ab' * 32}",
                }
                for each, container in zip(names, containers, strict=False)
            ],
        },
    }


def managed(kind: str, name: str, *, by: tuple[str, str] | None, namespace: str = "shop") -> Said:
    """Return a ReplicaSet or a Job."""
    more = {"ownerReferences": owner(*by)} if by else {}
    return {"kind": kind, "metadata": meta(name, namespace, **more), "spec": {"replicas": 1}}


def service(
    name: str,
    *addresses: str,
    namespace: str = "shop",
    ports: tuple[Said, ...] = ({"port": 80},),
    external: tuple[str, ...] = (),
    balancer: tuple[str, ...] = (),
) -> Said:
    """Return a Service."""
    return {
        "kind": "Service",
        "metadata": meta(name, namespace),
        "spec": {
            "clusterIP": addresses[0] if addresses else "None",
            "clusterIPs": list(addresses) or ["None"],
            "externalIPs": list(external),
            "ports": list(ports),
        },
        "status": {"loadBalancer": {"ingress": [{"ip": each} for each in balancer]}},
    }


def endpoints(name: str, of: str, *ends: tuple[str, Said | None, bool]) -> Said:
    """Return an EndpointSlice of a Service: (address, pod, ready)..."""
    return {
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": meta(name, labels={"kubernetes.io/service-name": of}),
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": ready},
                **({"targetRef": _reference(one)} if one else {}),
            }
            for address, one, ready in ends
        ],
    }


def _reference(one: Said) -> Said:
    about = one["metadata"]
    return {
        "kind": "Pod",
        "uid": about["uid"],
        "name": about["name"],
        "namespace": about["namespace"],
    }
