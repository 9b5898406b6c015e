"""Follows all objects of one kind: a list, then what changes, and again from where that broke off.

Kubernetes, "API concepts": "Efficient detection of changes", "Retrieving large results sets in
chunks", "410 Gone responses".
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from probes.identity.kubernetes_api import (
    NO_PACKAGE,
    Api,
    ApiError,
    ConfigurationError,
    NotAnAnswerError,
    lines,
)
from probes.identity.kubernetes_objects import (
    Key,
    Managed,
    Pod,
    Slice,
    VirtualService,
    key_of,
    managed_of,
    pod_of,
    service_of,
    slice_of,
)

_PAGE: Final = 100
_SILENT_S: Final = 90.0
"""A stream without a word for so long is asked for anew: bookmarks come about once a minute."""

_STREAM_S: Final = 300
_METADATA: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1,application/json"

Object = Pod | VirtualService | Slice | Managed


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects.

    Attributes:
        name: as the API calls it.
        plural: as rights name it.
        group: of its API; "" for the core.
        version: of that API.
        read: what is kept of an object; ValueError if it is none.
        metadata: whether metadata is all that is read of it.
    """

    name: str
    plural: str
    group: str
    version: str
    read: Callable[[Mapping[str, Any]], Object]
    metadata: bool = False

    @property
    def path(self) -> str:
        """Where all of them are."""
        root = f"/apis/{self.group}" if self.group else "/api"
        return f"{root}/{self.version}/{self.plural}"

    def accept(self, *, listed: bool) -> str:
        """Return what is asked for, of HTTP's Accept."""
        return _METADATA.format("List" if listed else "") if self.metadata else "application/json"


KINDS: Final = (
    Kind("Pod", "pods", "", "v1", pod_of),
    Kind("Service", "services", "", "v1", service_of),
    Kind("EndpointSlice", "endpointslices", "discovery.k8s.io", "v1", slice_of),
    Kind("ReplicaSet", "replicasets", "apps", "v1", managed_of, metadata=True),
    Kind("Job", "jobs", "batch", "v1", managed_of, metadata=True),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to try again, seconds.

    Attributes:
        first_s: the first pause; each further one is twice as long.
        longest_s: and never longer than this.
        calm_s: after so long without a failure it begins anew.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    calm_s: float = 60.0


class _Pauses:
    """Pauses that grow while they follow each other, and differ, lest all hosts ask at once."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._number = 0
        self._latest = -math.inf

    def following(self) -> float:
        now = time.monotonic()
        if now - self._latest > self._pace.calm_s:
            self._number = 0
        self._latest = now
        most = min(self._pace.first_s * 2.0**self._number, self._pace.longest_s)
        self._number = min(self._number + 1, 30)
        return random.uniform(0.5 * most, most)  # noqa: S311 - no secret

    def forget(self) -> None:
        self._number = 0


class _StaleError(Exception):
    """What was seen last is too old, or not known: all must be listed again."""


class Follower:
    """Follows one kind in a thread.

    Attributes:
        kind: which.
        problem: why it is not being followed; "" while it is.
        listed: set once all have been read.
        tried: set once all have been read, or that has failed.
        lists: how often all were read.
        list_s: how long the last time took, seconds.
        skipped: objects and lines that could not be understood.
        skipped_last: the last of them, and why.
    """

    def __init__(
        self,
        kind: Kind,
        api: Api,
        *,
        put: Callable[[str, Object], None],
        drop: Callable[[str, Key], None],
        keys: Callable[[str], set[Key]],
        pace: Pace | None = None,
    ) -> None:
        """Prepare; `start` it, `close` it.

        Args:
            kind: which.
            api: whom to ask.
            put: takes an object that is new or has changed.
            drop: takes what one that is gone was called.
            keys: says what is known of a kind.
            pace: how fast to try again; None for the usual.
        """
        pace = pace or Pace()
        self.kind = kind
        self.problem = "not asked yet"
        self.listed, self.tried = threading.Event(), threading.Event()
        self.lists, self.list_s = 0, 0.0
        self.skipped, self.skipped_last = 0, ""
        self._api, self._put, self._drop, self._keys = api, put, drop, keys
        self._stop = threading.Event()
        self._version = ""
        self._stream: Any = None
        self._failures, self._relists = _Pauses(pace), _Pauses(pace)
        self._thread = threading.Thread(target=self._run, name=f"k8s {kind.plural}", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(Exception):  # it may be in any state
                stream.shutdown()

    def join(self, within_s: float) -> None:
        """Wait for the end; it may wait for a server, nobody waits for that."""
        self._thread.join(within_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
                continue
            except _StaleError as error:
                self._version = ""
                self.problem = str(error)
                pause_s = self._relists.following()
            except ImportError:
                self.problem = NO_PACKAGE
                self.tried.set()
                return
            except Exception as error:  # whatever it sent, names are no reason to stop
                pause_s = max(self._failed(error), self._failures.following())
            self._stop.wait(pause_s)

    def _failed(self, error: Exception) -> float:
        """Take note of a failure; return when the server wants to be asked again, seconds."""
        if isinstance(error, ApiError):
            if error.status == 410:
                self._version = ""
            if error.status == 401:
                self._api.renew()
            self.problem = _refused(self.kind, error)
        else:
            self._api.renew()  # addresses and certificates change too
            self.problem = _unanswered(error)
        self.tried.set()
        return error.retry_after_s if isinstance(error, ApiError) else 0.0

    def _list(self) -> None:
        began = time.monotonic()
        known, seen = self._keys(self.kind.name), set[Key]()
        query = {"limit": str(_PAGE)}
        while not self._stop.is_set():
            page = self._api.document(self.kind.path, query, self.kind.accept(listed=True))
            if not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise NotAnAnswerError("an answer that is no list")
            for item in page["items"]:
                if (key := self._take(item)) is not None:
                    seen.add(key)
            meta = page.get("metadata")
            meta = meta if isinstance(meta, dict) else {}
            if not meta.get("continue"):
                break
            query["continue"] = str(meta["continue"])
        else:
            return
        for key in known - seen:
            self._drop(self.kind.name, key)
        self._version = str(meta.get("resourceVersion") or "")
        self.lists, self.list_s = self.lists + 1, time.monotonic() - began
        self.problem = ""
        self.listed.set()
        self.tried.set()
        if not self._version:
            raise NotAnAnswerError("a list without a resourceVersion")

    def _watch(self) -> None:
        """Take what changes until the stream ends.

        Raises:
            _StaleError: all must be listed again.
        """
        lasts_s = random.randint(_STREAM_S, 2 * _STREAM_S)  # noqa: S311 - no secret
        query = {
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(lasts_s),
        }
        accept = self.kind.accept(listed=False)
        began = time.monotonic()
        self._stream = self._api.request(self.kind.path, query, accept, read_s=_SILENT_S)
        events = 0
        try:
            self.problem = ""
            for line in lines(self._stream):
                if self._stop.is_set():
                    return
                if line is None or line.strip():
                    self._hear(line)
                    events += 1
                    self._failures.forget()
        except Exception as error:
            # silent for long, or cut off: what was seen last is where to go on
            if isinstance(error, _StaleError) or not _is_broken_off(error):
                raise
        finally:
            self._stream.close()
            self._stream = None
        if not events and time.monotonic() - began < _SILENT_S / 2:
            self._stop.wait(self._failures.following())

    def _hear(self, line: bytes | None) -> None:
        try:
            event = json.loads(line or b"")
            kind, item = event["type"], event["object"]
            version = item["metadata"].get("resourceVersion") if kind != "ERROR" else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self._skip(f"a line of the stream: {type(error).__name__}")
            # what it said is not known
            raise _StaleError("the stream has a line that is not understood") from error
        if kind == "ERROR":
            code = item.get("code") if isinstance(item, dict) else None
            if code != 410:
                raise ApiError(code if isinstance(code, int) else 500, _message(item))
            raise _StaleError("the server has forgotten what was seen last")
        if kind in ("ADDED", "MODIFIED"):
            self._take(item)
        elif kind == "DELETED":
            try:
                self._drop(self.kind.name, key_of(item))
            except ValueError as error:
                self._skip(str(error))
        elif kind != "BOOKMARK":
            self._skip(f"an event of type {str(kind)[:40]!r}")
        if isinstance(version, str) and version:
            self._version = version

    def _take(self, item: Any) -> Key | None:
        """Take an object; return what it is called, None if that is not known."""
        key = None
        try:
            key = key_of(item)
            self._put(self.kind.name, self.kind.read(item))
        except (ValueError, TypeError, AttributeError) as error:
            self._skip(f"{'/'.join(key) if key else 'an object'}: {error}")
            if key is not None:  # nobody knows what it is now
                self._drop(self.kind.name, key)
        return key

    def _skip(self, why: str) -> None:
        self.skipped += 1
        self.skipped_last = why[:200]


def _is_broken_off(error: Exception) -> bool:
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - of an extra

    return isinstance(error, HTTPError | OSError)


def _message(status: Any) -> str:
    return str(status.get("message", ""))[:300] if isinstance(status, dict) else ""


def _unanswered(error: Exception) -> str:
    if isinstance(error, ConfigurationError):
        return str(error)[:300]
    if isinstance(error, NotAnAnswerError):
        return f"the API server sends {error}"
    if _is_broken_off(error):
        return f"cannot reach the API server: {error}"[:300]
    return f"{type(error).__name__}: {error}"[:300]


def _refused(kind: Kind, error: ApiError) -> str:
    if error.status == 401:
        return f"the API server does not accept the credentials: {error}"
    if error.status == 403:
        group = f' in the API group "{kind.group}"' if kind.group else ""
        return f"not allowed to list and watch {kind.plural}{group}: {error}"
    return f"the API server says {error}"
