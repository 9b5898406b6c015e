"""Conntrack of every network namespace, followed in a thread of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from probes.conntrack import namespaces, wire
from probes.conntrack.dump import Dump
from probes.conntrack.entries import MOST, Entries, Hop
from probes.conntrack.namespaces import Namespace
from probes.conntrack.translations import Translations
from probes.conntrack.wire import Entry

_PASS_S: Final = 0.02
"""Pause between two passes: events come in handfuls, and others get their turn."""
_DUMP_S: Final = 0.01
"""What a pass takes at most for what there was before."""
_EVENTS: Final = 512
"""Events of one namespace that a pass takes at most."""
_LOOK_S: Final = 2.0
_PROCESSES_S: Final = 60.0
_AGAIN_S: Final = 60.0
_RECEIVE_BYTES: Final = 4 << 20
_MOST_NAMESPACES: Final = 1024


class Sink(Protocol):
    """Who wants to know how UDP flows are translated, as `Programs.translate`."""

    def __call__(self, views: NDArray[Any], asked: NDArray[Any], gone: NDArray[Any], /) -> int:
        """Take what is new and what is gone; return how many found no room."""


class Conntrack:
    """Follows translated connections. `close` it.

    Attributes:
        translations: what they mean for names.
        overruns: how often events were lost, since a namespace told more than was taken in time;
            what there is was asked for anew each time.
    """

    def __init__(
        self,
        sink: Sink | None = None,
        *,
        most: int = MOST,
        receive_bytes: int = _RECEIVE_BYTES,
        again_s: float = _AGAIN_S,
    ) -> None:
        """Begin to follow.

        Args:
            sink: who is told of UDP flows.
            most: entries that are kept at a time.
            receive_bytes: room for events of one namespace that wait to be taken.
            again_s: when to ask a second time for what there is, then after twice as long, and so
                on: of what was there before anybody listened, the kernel tells no end
                (nf_ct_ecache_ext_add()).
        """
        self.translations = Translations()
        self.overruns = 0
        self._entries = Entries(most)
        self._sink = sink
        self._refused = 0
        self._receive_bytes = receive_bytes
        self._again_s = again_s
        self._again: dict[int, tuple[float, float]] = {}  # when, and how long that is
        self._known: dict[int, Namespace] = {}
        self._addresses: dict[int, set[bytes]] = {}
        self._failed: dict[int, str] = {}
        self._silent: set[int] = set()
        self._dumps: list[Dump] = []
        self._problem = ""
        self._wanted: dict[int, int] = {}
        self._look = self._look_at_processes = 0.0
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_namespaces = min(_MOST_NAMESPACES, soft // 4)
        self._left_out = 0
        self._moved = True  # what is mounted
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._heard: dict[int, tuple[Namespace, bool]] = {}  # by descriptor: whether of events
        self._stop, self._settled = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="conntrack", daemon=True)
        self._thread.start()

    @property
    def namespaces(self) -> int:
        """How many namespaces are followed."""
        return len(self._known)

    @property
    def kept(self) -> int:
        """How many translated connections are known now."""
        return len(self._entries)

    @property
    def refused(self) -> int:
        """How many were not kept, for want of room."""
        return self._entries.refused + self._refused

    @property
    def problems(self) -> list[str]:
        """What keeps translations from being known, in words."""
        found = [self._problem] if self._problem else []
        why = Counter(self._failed.copy().values())
        found += [f"{what} ({number} network namespaces)" for what, number in why.items()]
        if self._silent:
            found.append(
                f"conntrack tells nothing in {len(self._silent)} network namespaces: "
                "set net.netfilter.nf_conntrack_events to 1 or 2 there"
            )
        if self._left_out:
            found.append(f"{self._left_out} network namespaces are too many; raise LimitNOFILE")
        if self.overruns:
            found.append(
                f"events of conntrack were lost {self.overruns} times, and all was asked for anew"
            )
        if self.refused:
            found.append(f"{self.refused} translated connections found no room")
        return found

    def follows(self, netns: int) -> bool:
        """Return whether a namespace is followed, and what there was in it is known."""
        return netns in self._known and all(d.whose.inode != netns for d in self._dumps.copy())

    def kept_of(self, netns: int) -> int:
        """Return how many translated connections of one namespace are known now."""
        return self._entries.count(netns)

    def wait(self, within_s: float) -> bool:
        """Wait until all that there was at the start is known; return whether it is."""
        return self._settled.wait(within_s)

    def want(self, processes: Iterable[tuple[int, int]]) -> None:
        """Have namespaces followed: (inode, id of a process that is in it)."""
        for inode, tgid in processes:
            if inode not in self._known and inode not in self._failed:
                self._wanted[inode] = tgid
        if self._wanted:
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Let go of all namespaces."""
        if not self._stop.is_set():
            self._stop.set()
            os.eventfd_write(self._wake, 1)
            self._thread.join(5.0)
            os.close(self._wake)

    def _run(self) -> None:
        mounts = None
        try:
            with contextlib.suppress(OSError):
                mounts = namespaces.MOUNTS.open()
                self._epoll.register(mounts.fileno(), select.EPOLLPRI)
            while not self._stop.wait(_PASS_S):
                self._pass(-1 if mounts is None else mounts.fileno())
        except Exception as error:  # names are no reason to stop
            self._problem = f"conntrack is not followed any more: {type(error).__name__}: {error}"
            self._settled.set()
        finally:
            for one in self._dumps:
                one.close()
            for each in list(self._known.values()):
                each.close()
            self._known.clear()
            if mounts is not None:
                mounts.close()
            self._epoll.close()

    def _pass(self, mounts: int) -> None:
        now = time.monotonic()
        if now >= self._look or self._wanted:
            self._look = now + _LOOK_S
            self._find()
            self._ask_again(now)
        moved = False
        pause = 0.0 if self._dumps else max(min(self._look - now, _LOOK_S), 0.0)
        for descriptor, _ in self._epoll.poll(pause):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
                continue
            if descriptor == mounts:
                self._look, self._moved = min(self._look, now + 0.1), True
                continue
            if descriptor not in self._heard:
                continue
            whose, of_events = self._heard[descriptor]
            if of_events:
                self._hear(whose)
            else:
                moved |= self._read_addresses(whose)
        if moved:
            self._place_hosts()
        until = time.monotonic() + _DUMP_S
        while self._dumps and time.monotonic() < until:
            self._continue_dump(self._dumps[0])
        self._tell()
        if not self._dumps:
            self._settled.set()

    def _find(self) -> None:
        """Look for namespaces that have come or gone."""
        if not namespaces.tracked():
            for each in list(self._known.values()):
                self._leave(each)
            return
        now = time.monotonic()
        lost = [one for one in self._known.values() if not namespaces.is_still(one.inode, one.path)]
        everywhere = bool(lost) or now >= self._look_at_processes
        if not (everywhere or self._moved or self._wanted):
            return
        self._moved = False
        if everywhere:
            self._look_at_processes = now + _PROCESSES_S
        found = namespaces.namespaces(processes=everywhere)
        wanted, self._wanted = self._wanted, {}
        for inode, tgid in wanted.items():
            found.setdefault(inode, Path(f"/proc/{tgid}/ns/net"))
        for one in lost:
            one.path = found.get(one.inode, one.path)
            if one.inode not in found:
                self._leave(one)
        fresh = [inode for inode in found if inode not in self._known]
        room = max(self._most_namespaces - len(self._known), 0)
        self._left_out = max(len(fresh) - room, 0)
        self._failed = {inode: why for inode, why in self._failed.items() if inode in found}
        for inode in fresh[:room]:
            self._enter(inode, found[inode])
        if lost or fresh:
            self._place_hosts()

    def _ask_again(self, now: float) -> None:
        for inode, (when, _) in self._again.items():
            if now >= when and self._entries.count(inode) and self.follows(inode):
                self._begin_dump(self._known[inode])

    def _enter(self, inode: int, path: Path) -> None:
        try:
            one = Namespace(inode, path, self._receive_bytes)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._failed[inode] = wire.why(error)
            return
        self._failed.pop(inode, None)
        if one.silent:
            self._silent.add(inode)
        self._known[inode] = one
        for listening, of_events in ((one.events, True), (one.links, False)):
            self._heard[listening.fileno()] = one, of_events
            self._epoll.register(listening.fileno(), select.EPOLLIN)
        self._read_addresses(one)
        if not one.empty:
            self._begin_dump(one)

    def _leave(self, one: Namespace) -> None:
        for listening in (one.events, one.links):
            self._heard.pop(listening.fileno(), None)
            self._epoll.unregister(listening.fileno())
        for dump in [each for each in self._dumps if each.whose is one]:
            dump.close()
            self._dumps.remove(dump)
        one.close()
        del self._known[one.inode]
        self._silent.discard(one.inode)
        self._again.pop(one.inode, None)
        self._addresses.pop(one.inode, None)
        for entry in self._entries.drop(one.inode):
            self.translations.forget(entry)

    def _read_addresses(self, one: Namespace) -> bool:
        """Return whether they have changed."""
        try:
            found = one.addresses()
        except OSError:
            return False
        changed = self._addresses.get(one.inode) != found
        self._addresses[one.inode] = found
        return changed

    def _place_hosts(self) -> None:
        hosts: dict[bytes, set[int]] = {}
        for inode, addresses in self._addresses.items():
            for address in addresses:
                hosts.setdefault(address, set()).add(inode)
        moved = self.translations.set_hosts(hosts)
        if moved and len(self._entries):
            self.translations.learn(
                self._entries,
                [
                    hop
                    for hop in self._entries
                    if moved & {wire.side(end).source for end in hop.entry}
                ],
            )

    def _begin_dump(self, one: Namespace) -> None:
        for old in [each for each in self._dumps if each.whose is one]:
            old.close()
            self._dumps.remove(old)
        try:
            self._dumps.append(Dump(one, self._entries.replies(one.inode)))
        except OSError:  # it has just gone
            self._look = 0.0

    def _continue_dump(self, dump: Dump) -> None:
        inode = dump.whose.inode
        try:
            told = dump.step()
        except OSError as error:
            self._failed[inode] = wire.why(error)
            told = None
            dump.unseen.clear()
        if told is not None:
            fresh = [entry for entry in told if entry not in dump.gone]
            dump.unseen.difference_update(entry.reply for entry in fresh)
            self._add(inode, fresh)
            return
        self._dumps.remove(dump)
        dump.close()
        pause = 2 * self._again.get(inode, (0.0, self._again_s / 2))[1]
        self._again[inode] = time.monotonic() + pause, pause
        for hop in [hop for hop in self._entries if hop.netns == inode] if dump.unseen else ():
            if hop.entry.reply in dump.unseen:
                self._remove(inode, hop.entry)

    def _hear(self, one: Namespace) -> None:
        fresh: list[Entry] = []
        dump = next((each for each in self._dumps if each.whose is one), None)
        lost, left = False, _EVENTS
        while lost or left:
            left -= 1
            try:
                data = one.events.recv(8192)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # until all that waits is taken, more is lost and not told (netlink_overrun())
                lost = True
                continue
            for new, entry in wire.events(data):
                if new:
                    fresh.append(entry)
                else:
                    self._add(one.inode, fresh)
                    fresh = []
                    self._remove(one.inode, entry)
                if dump is not None:
                    dump.heard(entry, new=new)
        self._add(one.inode, fresh)
        if lost:
            self.overruns += 1
            self._begin_dump(one)

    def _add(self, inode: int, entries: Iterable[Entry]) -> None:
        known = self._entries
        fresh = [Hop(inode, entry) for entry in entries if known.add(inode, entry)]
        if fresh:
            self.translations.learn(known, fresh)

    def _remove(self, inode: int, entry: Entry) -> None:
        if self._entries.remove(inode, entry):
            self.translations.forget(entry)

    def _tell(self) -> None:
        views, asked, gone = self.translations.take()
        if self._sink is not None and (len(views) or len(gone)):
            self._refused += self._sink(views, asked, gone)
