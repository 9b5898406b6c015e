"""The daemon's loop with an exporter, fed from a simulated recording, for the tests beside this."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from alerts.deliver import Deliverer
from alerts.receivers import make_receiver
from alerts.settings import WebhookSettings
from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Window
from tailrace import recording
from tailrace.cli import main
from tailrace.condition import Condition
from tailrace.daemon import Daemon
from tailrace.export.exporter import Exporter
from tailrace.export.settings import ExportSettings
from tests.program.listening import Listener

SCENARIO = """\
about = "each kind of traffic there is, and a fault that becomes an incident"
begin = {begin}
lasts = "15m"

[[pairs]]
client = "web-{{n}}"
server = "api"
number = 3
requests = 60
connections = 6
waits = 1
views = true
errors = 0.02
resets = 0.02
retransmits = 0.01
stalls = 0.01

[[pairs]]
client = "api"
server = "resolver"
port = 53
transport = "udp"
dns = true
requests = 20
errors = 0.05
drops = 0.01

[[pairs]]
client = "api"
server = "helper"
transport = "unix"
requests = 10

[[pairs]]
client = '{odd}'
server = "api"
requests = 5

[[faults]]
kind = "latency"
client = "web-1"
at = "2m"
size = 5
"""
ODD = 'odd "one" \\ {{client="api"}} 1 é'
"""A name that is none, to see what becomes of it."""
AT_ONCE = 200
"""So many windows are taken as fast as can be; of the rest 20 a second."""


def recorded(directory: Path) -> Path:
    """Write the recording, by `tailrace simulate`; it begins some minutes ago."""
    scenario, file = directory / "scenario.toml", directory / "recording.csv"
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - AT_ONCE))
    scenario.write_text(SCENARIO.format(begin=began, odd=ODD))
    assert main(["simulate", str(scenario), "-o", str(file)]) == 0
    return file


class Running:
    """A daemon's loop in a thread."""

    def __init__(self, exporter: Exporter, store: Store, voice: Listener) -> None:
        self.exporter, self.store, self.voice = exporter, store, voice

    @property
    def port(self) -> int:
        assert self.exporter.port is not None
        return self.exporter.port


@contextlib.contextmanager
def running(
    file: Path, state_dir: Path, settings: ExportSettings, *, hook: str
) -> Iterator[Running]:
    """Run the loop over a recording until the end of the block; it delivers to `hook`."""
    voice, stopping = Listener(), threading.Event()
    condition = Condition(
        level=1, user=0.004, kernel=0.001, budget=0.005, lost={"latencies": 3}, folded=2
    )
    detector = Detector(DetectorSettings())
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store.open(state_dir))
        deliverer = Deliverer(store, [make_receiver(WebhookSettings(name="hook", url=hook))])
        deliverer.start()
        stack.callback(deliverer.stop, 5.0)
        exporter = Exporter(
            settings, store=store, state_dir=state_dir, warn=voice.warning, note=voice.note
        )
        exporter.start()
        stack.callback(exporter.stop)
        daemon = Daemon(
            detector=detector,
            store=store,
            voice=voice,
            deliverer=deliverer,
            condition=lambda: condition,
            exporter=exporter,
        )

        def windows() -> Iterator[Window]:
            for number, window in enumerate(recording.read([file])):
                if number >= AT_ONCE and stopping.wait(0.05):
                    return
                yield window

        loop = threading.Thread(target=daemon.run, args=(windows(),), name="loop")
        loop.start()
        try:
            yield Running(exporter, store, voice)
        finally:
            stopping.set()
            loop.join()
