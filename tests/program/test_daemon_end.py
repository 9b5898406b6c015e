"""How the daemon ends: at its limit, when told to or signalled, when nothing can be stored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.errors import StoreError
from alerts.store import Store
from detector.engine import Detector
from detector.settings import DetectorSettings
from probes.window import Window
from tailrace.daemon import Daemon
from tailrace.observe import windows_within
from tests.program.listening import Listener
from tests.program.windows import traffic


def test_the_end_fails_when_nothing_could_be_stored(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        daemon = Daemon(detector=Detector(DetectorSettings()), store=store, voice=Listener())
        store.close()
        with pytest.raises(StoreError):
            daemon.run(traffic(2))


def test_limits() -> None:
    assert windows_within(None, 1.0) is None
    assert windows_within(30.0, 1.0) == 30
    assert windows_within(0.3, 0.1) == 3
    assert windows_within(0.5, 1.0) == 1
    assert windows_within(2.5, 1.0) == 3


def test_it_stops_at_its_limit_and_when_told(tmp_path: Path) -> None:
    def make(store: Store) -> tuple[Daemon, Listener]:
        voice = Listener()
        return Daemon(detector=Detector(DetectorSettings()), store=store, voice=voice), voice

    with Store.open(tmp_path) as store:
        daemon, voice = make(store)
        endless = traffic(10**9)
        daemon.run(endless, limit=7)
        assert len(voice.statuses) == 7
        daemon, voice = make(store)

        def stopping() -> Iterator[Window]:
            for second, each in enumerate(endless):
                if second == 3:
                    daemon.stop()
                yield each

        daemon.run(stopping())
        assert len(voice.statuses) == 3


PROGRAM = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from alerts.store import Store
    from detector.engine import Detector
    from tailrace import observe, status
    from tailrace.daemon import Daemon
    from tests.program.windows import traffic

    def slowly():
        for window in traffic(10**6):
            yield window
            time.sleep(0.01)

    with Store.open(Path(sys.argv[1])) as store, status.voice() as voice:
        daemon = Daemon(detector=Detector(), store=store, voice=voice)
        with observe.stopped_by_signals(daemon.stop) as interrupt:
            daemon.run(slowly())
        voice.note("stopped")
    sys.exit(interrupt.exit_code)
    """
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_stop_it_with_a_last_snapshot(tmp_path: Path, number: int, code: int) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stderr=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        time.sleep(0.3)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(10) == code
    assert "event=status" in first
    assert rest.splitlines()[-1].endswith("event=note text=stopped")
    assert "Traceback" not in rest
    with Store.open(tmp_path, read_only=True) as store:
        snapshot = store.snapshot("detector")
    assert snapshot is not None
    learning, judged = Detector.from_bytes(snapshot).learning()
    assert learning + judged > 0
