"""This host's traffic as a stream of windows: the front door of this package."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bpf import layout
from probes import memory, namespaces
from probes.backlogs import Backlogs
from probes.capacity import Capacity
from probes.checks import HookLine
from probes.conntrack.follower import Conntrack
from probes.cost import Cost, CostKeeper
from probes.endpoints import endpoint_text
from probes.errors import ProbeError
from probes.hookreport import in_use
from probes.identity.elsewhere import Elsewhere
from probes.identity.happenings import Happenings
from probes.identity.peers import Peers
from probes.identity.resolver import Services
from probes.identity.reverse import ReverseNames
from probes.identity.rules import AddressRules
from probes.identity.service import Service
from probes.identity.service_event import ServiceEvent
from probes.identity.sources import HostContainers, NamingSettings
from probes.naming import PairNames
from probes.programs import Programs
from probes.selfcheck import check
from probes.tracker import Tracker
from probes.window import Pair, Window

_SHORT_S: Final = 1.5
_TRANSLATIONS_S: Final = 0.3
"""The start waits no longer for the translations that there are; they may be many."""


class Observer:
    """Watches this host. Use it in a `with`; iterate over `windows()`.

    Attributes:
        notes: what the user should know about how well this kernel can be watched.
        conntrack: follows how addresses are translated.
    """

    def __init__(
        self,
        window_s: float = 1.0,
        *,
        hooks: str = "auto",
        overhead_budget: float | None = None,
        capacity: Capacity | None = None,
        programs: Programs | None = None,
        naming: NamingSettings | None = None,
        netns: Sequence[str] = (),
    ) -> None:
        """Load and attach the probes, check them, and find what is already open.

        Args:
            window_s: length of a window, at least 0.1 s.
            hooks: "auto", or the family of hooks to use: "tracepoint", "fentry", "kprobe".
            overhead_budget: share of one core that may be used (0.005 is 0.5 %) before less is
                measured, see `probes.cost.Cost`; None for no limit.
            capacity: sizes of the kernel's maps.
            programs: loaded already, in place of `hooks` and `capacity`; the observer closes them.
            naming: how services are named.
            netns: network namespaces to look at, by name or path; all if there is none.

        Raises:
            ProbeError: this host cannot be watched; the message says why and what to do.
            ValueError: a window that is too short, no such family, or no such budget.
        """
        if window_s < 0.1:
            raise ValueError(f"a window of {window_s} s is too short: at least 0.1 s")
        self.window_s = window_s
        self.notes: list[str] = []
        self._stop = threading.Event()
        self._programs = programs or Programs(capacity, hooks=hooks)
        try:
            watched = frozenset(namespaces.inode_of(name) for name in netns)
            self._costs = CostKeeper(self._programs, overhead_budget)
            if watched:  # and our own, where the probes are checked
                self._programs.limit(watched | {namespaces.own()})
            self._note_unseeded(listeners_only=True)
            self._programs.attach()
            found = check(self._programs)
            if watched:
                self._programs.limit(watched)
            self._note_unseeded(listeners_only=False)
            self.notes += found.notes
        except BaseException:
            self._programs.close()
            raise
        naming = naming or NamingSettings()
        self._containers = HostContainers(naming)
        services = Services(
            readable=not found.own_pid_namespace, rules=naming.rules, containers=self._containers
        )
        self._elsewhere = Elsewhere(reverse=ReverseNames() if naming.reverse_dns else None)
        peers = Peers([AddressRules(naming.rules), self._containers.kubernetes], self._elsewhere)
        if naming.dns_names:
            self._programs.tune(layout.TUNING_ANSWERS, 1)
        self.conntrack = Conntrack(self._programs.translate)
        self.conntrack.wait(_TRANSLATIONS_S)
        self._happenings = Happenings(
            services,
            own_tgid=found.tgid,
            readable=not found.own_pid_namespace,
            cluster=self._containers.kubernetes,
            is_known=lambda name: name in self._names.services,
        )
        self._names = PairNames(
            services,
            own_tgid=found.tgid,
            most_pairs=naming.most_pairs,
            peers=peers,
            translations=self.conntrack.translations,
            netns=watched,
            happenings=self._happenings,
        )
        self._backlogs = Backlogs(self._names, readable=not found.own_pid_namespace)
        self._tracker = Tracker(
            self._names,
            capacity=self._programs.capacity.groups,
            rtt=found.rtt,
            segments=found.segments,
        )
        self._follow_translations()
        self.notes += [f"{what}: this kernel does not show them" for what in self._programs.missing]

    def _note_unseeded(self, *, listeners_only: bool) -> None:
        try:
            self._programs.seed(listeners_only=listeners_only)
        except ProbeError as error:
            self.notes = [
                f"connections that are already open are met when they next move data: {error}"
            ]

    def windows(self) -> Iterator[Window]:
        """Yield one window per `window_s`, aligned to the clock, until `stop()`.

        The first begins at once, at whatever time it is, and ends with the clock: it is from a
        quarter to one and a quarter of a window long, and says so in `width`. What happened
        before it is not in it. A window that was held up (the host slept, the caller was slow) is
        longer, and says so too.
        """
        if self._stop.is_set():
            return
        began, began_ns = time.time(), time.monotonic_ns()
        self._sweep(began_ns, began, self.window_s)
        self._tracker.tell_again()
        boundary = self._first_boundary(began) - self.window_s
        while True:
            following, now_ns = self._wait(boundary)
            if self._stop.is_set():
                return
            width = (now_ns - began_ns) / 1e9
            yield self._sweep(now_ns, round(began, 3), width)
            began = boundary = following
            began_ns = now_ns

    def _first_boundary(self, began: float) -> float:
        """Return where the first window ends: shorter than a quarter would say too little."""
        boundary = (math.floor(began / self.window_s) + 1) * self.window_s
        short = boundary - began < 0.25 * self.window_s
        return boundary + self.window_s if short else boundary

    def _wait(self, since: float) -> tuple[float, int]:
        """Wait for the boundary after `since`; return it and the monotonic time in ns.

        Boundaries are multiples of the window, so that the windows of many hosts fall together.
        """
        grid = self.window_s
        boundary = (math.floor(since / grid + 0.5) + 1) * grid
        while not self._stop.is_set():
            now = time.time()
            if now >= boundary:
                # late (a slow caller, a sleeping host): the boundary that has just passed
                boundary = max(boundary, math.floor(now / grid) * grid)
                break
            if boundary - now > 1.5 * grid:  # the clock was set back
                boundary = (math.floor(now / grid) + 1) * grid
            left, pause = boundary - now, self._programs.drain_s
            self._stop.wait(min(left, pause))
            if pause < left:
                self._programs.drain()
                self._hear(time.monotonic())
                self._happenings.update(time.time())
                self._update_costs()
        return round(boundary, 3), time.monotonic_ns()

    def _follow_translations(self) -> None:
        """Have flows wait for their translations, while those are told."""
        self._tracker.translated = self.conntrack.namespaces > 0
        self._programs.hold(self._tracker.translated)

    def _sweep(self, now_ns: int, start: float, width: float) -> Window:
        self._follow_translations()
        self._names.set_listeners(*self._programs.listeners())
        now_s = now_ns / 1e9
        snapshot = self._programs.sweep()
        self._hear(now_s)  # after it: who was found by an answer is named by it
        window = self._tracker.update(
            snapshot,
            now_s=now_s,
            time=start,
            width=width,
            nominal=self.window_s,
            refusals=self._backlogs.update(snapshot.backlogs),
        )
        self._programs.pace(*self._tracker.paced)
        full = len(snapshot.slots) > 0.8 * self._programs.capacity.groups
        self.conntrack.want(self._tracker.namespaces(snapshot))
        retire, release = self._tracker.idle(now_s, full=full)
        self._programs.retire(retire)
        self._programs.release(release)
        self._happenings.update(time.time())
        self._update_costs()
        self._costs.begin_window()
        return window

    def _update_costs(self) -> None:
        # In long windows it is asked more often than there are sweeps to count events
        self._costs.update(self._tracker.events if self.window_s <= _SHORT_S else None)

    def _hear(self, now_s: float) -> None:
        self._elsewhere.hear(self._programs.answers(), now_s)

    def events(self) -> Sequence[ServiceEvent]:
        """Return what has happened to services since the last call, as it was noticed."""
        return self._happenings.events()

    def memory(self) -> bytes:
        """Return what a later observer should know, for `restore`."""
        return memory.save(self._names, self._tracker)

    def restore(self, saved: bytes) -> None:
        """Take up what an earlier observer knew: names of servers that are down, silent pairs.

        Raises:
            ValueError: it is not what `memory` returned.
        """
        memory.restore(saved, self._names, self._tracker)

    @property
    def hooks(self) -> list[HookLine]:
        """Which hook tells of which event."""
        return self._programs.hooks

    @property
    def hooks_in_use(self) -> str:
        """The families of hooks in use, in a line."""
        return in_use(self._programs.hooks)

    @property
    def cost(self) -> Cost:
        """What watching costs, and whether less is measured for it."""
        return self._costs.cost

    @property
    def lost(self) -> dict[str, int]:
        """What was lost since the start, until the last window, by kind.

        Of `Programs.lost()`; "malformed", DNS answers that make no sense; "overruns", how often
        events of conntrack were lost; "translations", translated connections that found no room.
        """
        return self._programs.lost_kinds | {
            "malformed": self._elsewhere.answers.malformed,
            "overruns": self.conntrack.overruns,
            "translations": self.conntrack.refused,
        }

    def run_time_ns(self) -> dict[str, tuple[int, int]]:
        """Return {program: (ns spent, times run)}; zeros unless kernel.bpf_stats_enabled."""
        return self._programs.run_time_ns()

    @property
    def services(self) -> Mapping[str, Service]:
        """What is known of the services in the pairs, by name."""
        return self._names.services

    def asked(self, pair: Pair) -> list[str]:
        """Return where a pair's clients asked for it, "10.96.0.10:80": addresses are translated."""
        found = self._names.asked.get(pair, {})
        return [endpoint_text(address, port) for address, port in found]

    @property
    def naming_problems(self) -> list[str]:
        """What keeps services from being named or followed better, in words."""
        return self._containers.problems + self.conntrack.problems + self._happenings.problems

    @property
    def folded(self) -> int:
        """How many pairs are put under `other`, as there are too many."""
        return self._names.places.folded

    @property
    def connections(self) -> int:
        """How many connections are followed."""
        return self._tracker.connections

    def stop(self) -> None:
        """End `windows()`; to be called from another thread, not from a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Detach from the kernel."""
        self._stop.set()
        self._containers.close()
        self._elsewhere.close()
        self._happenings.close()
        self.conntrack.close()
        self._costs.close()
        self._programs.close()

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
