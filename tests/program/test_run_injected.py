"""`tailrace run` as a whole, with recorded traffic in the kernel's place and a real receiver."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from alerts.feed import Feed
from alerts.store import Store
from detector.calibration import Change
from probes.budget import Level
from probes.cost import Cost
from probes.identity.service import Service
from probes.identity.service_event import ServiceEvent
from probes.identity.sources import NamingSettings
from probes.window import Window
from tailrace import pairs, state
from tailrace.cli import main
from tests.program.windows import WEB_API, traffic


class Scripted:
    """An observer that plays windows."""

    notes = ("played, not observed",)

    def __init__(
        self, windows: Iterable[Window], *, hooks: str = "auto", budget: float | None = None
    ) -> None:
        self._windows = windows
        self.hooks_in_use = f"hooks asked for: {hooks}"
        self.cost = Cost(level=Level.FULL, user=0.001, kernel=0.0005, budget=budget, reason="")
        self.lost: dict[str, int] = {}
        self.folded = 0
        self.naming_problems: list[str] = []
        self.stopped = False
        self.known = b"an observer's memory"
        self.services: dict[str, Service] = {}
        self.asked = lambda _pair: ()
        self.happened = [
            ServiceEvent(
                kind="deploy", service=WEB_API.server, at=1_760_000_118.0, detail="api:2 for api:1"
            )
        ]

    def windows(self) -> Iterator[Window]:
        yield from self._windows

    def stop(self) -> None:
        self.stopped = True

    def events(self) -> list[ServiceEvent]:
        happened, self.happened = self.happened, []
        return happened

    def memory(self) -> bytes:
        return self.known

    def restore(self, saved: bytes) -> None:
        if saved != self.known:
            raise ValueError("not an observer's memory")

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        return


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[Window]], None]:
    def set_windows(windows: Iterable[Window]) -> None:
        class Loaded:
            """What is loaded in no time."""

            def __init__(self, hooks: str) -> None:
                self.hooks = hooks

            def __enter__(self) -> Loaded:
                return self

            def __exit__(self, *_: object) -> None:
                return

            def observer(
                self,
                _window_s: float,
                *,
                overhead_budget: float | None,
                naming: NamingSettings,
                netns: tuple[str, ...],
            ) -> Scripted:
                assert (naming, netns) == (NamingSettings(), ())
                return Scripted(windows, hooks=self.hooks, budget=overhead_budget)

        monkeypatch.setattr("tailrace.observe.Loading", Loaded)

    return set_windows


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, object]]]]:
    bodies: list[dict[str, object]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_from_windows_to_a_webhook(
    tmp_path: Path,
    play: Callable[[Iterable[Window]], None],
    receiver: tuple[str, list[dict[str, object]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, bodies = receiver
    config = tmp_path / "tailrace.toml"
    config.write_text(f'[[alerts.receivers]]\nname = "hook"\ntype = "webhook"\nurl = "{url}"\n')
    directory = tmp_path / "state"

    def windows() -> Iterator[Window]:
        yield from traffic(240, slow_from=120, slow_until=180)
        wait_for(lambda: len(bodies) >= 2)

    play(windows())
    options = ["--config", str(config), "--state-dir", str(directory)]
    assert main(["run", *options]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    said = captured.err
    assert "played, not observed" in said
    assert "event=finding" in said
    assert "level=warning event=incident" in said
    assert 'event="message delivered"' in said
    assert url not in said
    types = [str(body["type"]) for body in bodies]
    assert len(types) == 2
    assert types[0] != types[1]
    assert all(set(body) >= {"type", "timestamp", "data"} for body in bodies)
    assert [body["data"]["trigger"]["detail"] for body in bodies] == ["api:2 for api:1"] * 2
    with Store.open(directory, read_only=True) as store:
        assert {f.signal for f in store.findings()} >= {"request_latency"}
        (health,) = store.outbox.health()
        spent = store.spent(now=time.time())
    assert health.pending == 0
    assert not (directory / state.PAIRS).exists()
    assert spent is not None
    # the latency stayed ten times as high: the incident has paid its token back
    assert (spent.text, spent.told, spent.proven, spent.tokens) == ("1/week", 1, 1, 5.0)


def test_what_least_changes_are_configured_decides_what_is_plain(
    tmp_path: Path,
    play: Callable[[Iterable[Window]], None],
    receiver: tuple[str, list[dict[str, object]]],
) -> None:
    config = tmp_path / "tailrace.toml"
    config.write_text(
        '[detector]\nfalse_alerts = "2/day"\n'
        f'[[alerts.receivers]]\nname = "hook"\ntype = "webhook"\nurl = "{receiver[0]}"\n'
        # ten times the latency is twice a rise by 216 %, and not twice a rise by 300 %
        '[detector.min_change]\nlatency = "300%"\n'
    )
    play(traffic(240, slow_from=120, slow_until=180))
    assert main(["run", "--config", str(config), "--state-dir", str(tmp_path / "state")]) == 0
    with Store.open(tmp_path / "state", read_only=True) as store:
        spent = store.spent(now=time.time())
    assert spent is not None
    assert (spent.text, spent.proven) == ("14/week", 0)


def test_the_feed_goes_on_after_a_restart(
    tmp_path: Path, play: Callable[[Iterable[Window]], None]
) -> None:
    feed, now = Feed(), time.time()
    feed.update([Change(WEB_API, "requests", "up", now - 90, 20.0, 10.0, 30.0)], end=now - 80)
    with Store.open(tmp_path) as store:
        store.commit([], snapshot=None, now=now, changes=feed.unstored())
    play(traffic(3, start=now))
    assert main(["run", "--state-dir", str(tmp_path)]) == 0
    with Store.open(tmp_path, read_only=True) as store:
        # it was not seen again
        assert [row.ended for row in store.changes()] == [now - 80]


def test_the_observer_is_made_as_configured_and_its_cost_is_said(
    tmp_path: Path,
    play: Callable[[Iterable[Window]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "tailrace.toml"
    config.write_text('[probes]\nhooks = "tracepoint"\noverhead_budget = "2%"\n')
    directory = tmp_path / "state"
    seen: list[float | None] = []

    def windows() -> Iterator[Window]:
        yield from traffic(2)
        found = pairs.published_by(directory / state.PAIRS, now=time.time())
        assert found is not None
        seen.append(found.condition.budget)

    play(windows())
    assert main(["run", "--config", str(config), "--state-dir", str(directory)]) == 0
    said = capsys.readouterr().err
    assert 'text="hooks asked for: tracepoint"' in said
    assert 'cost="0.15 %"' in said
    assert seen == [0.02]


def test_a_duration_is_so_many_windows(
    tmp_path: Path,
    play: Callable[[Iterable[Window]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    played: list[Window] = []
    play(played.append(each) or each for each in traffic(100))  # type: ignore[func-returns-value]
    directory = str(tmp_path)
    assert main(["run", "--state-dir", directory, "--window", "2s", "--duration", "10s"]) == 0
    assert len(played) == 5
    assert "stopped; what was learned is kept" in capsys.readouterr().err


def test_what_the_observer_knew_is_kept(
    tmp_path: Path,
    play: Callable[[Iterable[Window]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    play(traffic(3))
    with Store.open(tmp_path) as store:
        store.save_snapshot("observer", b"nonsense", now=0.0)
    assert main(["run", "--state-dir", str(tmp_path)]) == 0
    assert "who was watched before is not known any more" in capsys.readouterr().err
    with Store.open(tmp_path, read_only=True) as store:
        assert store.snapshot("observer") == b"an observer's memory"
    assert main(["run", "--state-dir", str(tmp_path)]) == 0
    assert "who was watched" not in capsys.readouterr().err


def test_a_receiver_whose_secret_is_missing_stops_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tailrace.toml"
    config.write_text(
        '[[alerts.receivers]]\nname = "hook"\ntype = "webhook"\nurl = "http://x"\n'
        'secret_file = "missing"\n'
    )
    assert main(["run", "--config", str(config), "--state-dir", str(tmp_path / "s")]) == 2
    assert "receiver `hook`, key `secret_file`: cannot read" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
