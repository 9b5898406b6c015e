"""The live page beside the daemon's real loop, which is fed with simulated traffic."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alerts.incident import Incident, Trigger
from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Window
from tailrace import state
from tailrace.config_page import Page
from tailrace.daemon import Daemon
from tailrace.history.database import FILE as HISTORY_FILE
from tailrace.history.keeper import Keeper
from tailrace.history.settings import HistorySettings
from tailrace.page.beside import Beside
from tailrace.simulation import fleet, scenario
from tailrace.simulation.scenario import Pairs
from tailrace.status import Status

SHOP = Path(__file__).with_name("page_shop.toml")


class Quiet:
    """A voice that remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def note(self, text: str) -> None: ...
    def finding(self, finding: object) -> None: ...
    def incident(self, incident: Incident) -> None: ...
    def status(self, status: Status) -> None: ...

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None: ...


class Scene:
    """A daemon whose windows are given to it one by one, and its page.

    Attributes:
        voice: what the daemon and the page's socket say.
        page: the page's socket.
    """

    def __init__(self, state_dir: Path, windows: Iterator[Window], daemon: Daemon, store: Store,
                 voice: Quiet, page: Beside, history: Keeper) -> None:  # fmt: skip
        self.state_dir, self.voice, self.page, self.store = state_dir, voice, page, store
        self._windows, self._daemon, self._history = windows, daemon, history
        self._lock = threading.Lock()
        self.fed = 0

    def feed(self, number: int = 1) -> None:
        """Give the daemon its next windows; what it publishes is of the last."""
        with self._lock:
            for left in range(number, 0, -1):
                if left == 1:
                    self._daemon._publish_due = 0.0  # else about once a second
                window = next(self._windows)
                self._daemon.step(window)
                self._history.add(window)
                self.fed += 1
            self._history.flush()
            self._last()

    def _last(self) -> None:
        """Let what was published hold for an hour: a test may wait for long on a busy machine."""
        path = self.state_dir / state.PAIRS
        said = json.loads(path.read_text())
        said["time"] += 3600.0
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(said))
        beside.replace(path)

    def feed_until(self, there: Callable[[], bool], *, most: int = 120) -> None:
        for _ in range(most):
            if there():
                return
            self.feed()
        raise AssertionError(f"not there after {most} windows")

    def incidents(self) -> list[Incident]:
        """Return what people are told of and is going on."""
        going = (each for each in self.store.incidents(state="firing") if not each.suppressed)
        return list(going)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Feed a window a second meanwhile."""
        done = threading.Event()

        def feed() -> None:
            while not done.wait(1.0):
                self.feed()

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@contextlib.contextmanager
def scene(
    state_dir: Path,
    *,
    before_s: float,
    file: Path = SHOP,
    page: Page | None = None,
    pairs: int | None = None,
    more: Sequence[Pairs] = (),
    later_s: float = 0.0,
    trigger: Trigger | None = None,
) -> Iterator[Scene]:
    """Yield a daemon whose first window was `before_s` ago.

    Args:
        state_dir: made when it is missing.
        before_s: so many windows of a second may be fed before they are of the future.
        file: the scenario.
        page: the page's configuration; any free port unless given.
        pairs: how many, in the scenario's proportions.
        more: of them.
        later_s: the scenario's faults come so much later.
        trigger: what happened to a service with the first fault, its time aside.
    """
    voice = Quiet()
    chosen = scenario.read(file)
    if pairs is not None:
        chosen = chosen.resized(pairs)
    faults = tuple(f.model_copy(update={"at": f.at + later_s}) for f in chosen.faults)
    chosen = chosen.model_copy(update={"faults": faults, "pairs": (*chosen.pairs, *more)})
    begin = time.time() - before_s
    first = min((fault.at for fault in faults), default=0.0)
    triggers = [] if trigger is None else [dataclasses.replace(trigger, at=begin + first - 4.0)]
    moved = (
        dataclasses.replace(each, time=each.time - chosen.begin + begin)
        for each in fleet.Fleet(chosen, seed=3).windows()
    )
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store.open(state.prepared(state_dir)))
        store.register_receivers([])
        beside = stack.enter_context(
            Beside(page or Page(listen="127.0.0.1:0"), state_dir, warning=voice.warning)
        )
        daemon = Daemon(
            detector=Detector(DetectorSettings()),
            store=store,
            voice=voice,
            pairs_file=state_dir / state.PAIRS,
            triggers=lambda: triggers,
        )
        history = Keeper(state_dir / HISTORY_FILE, HistorySettings(), warn=voice.warning)
        yield Scene(state_dir, moved, daemon, store, voice, beside, history)
