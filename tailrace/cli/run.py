"""`tailrace run`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailrace.cli import options

if TYPE_CHECKING:
    from alerts.deliver import Deliverer
    from alerts.store import Store
    from tailrace.config import Config
    from tailrace.export.exporter import Exporter
    from tailrace.observe import Observer
    from tailrace.status import Voice

_STOP_S = 5.0
"""How long deliveries that are under way may take once the daemon stops."""


@click.command(
    epilog=options.examples(
        "sudo tailrace run",
        "sudo tailrace run --window 500ms --config tailrace.toml --record today.csv",
    )
)
@options.window_option
@click.option("--duration", "duration_s", type=options.DURATION, metavar="TIME",
              help="Stop after this long. [default: never]")  # fmt: skip
@click.option("--record", "record_path", type=options.NEW_FILE, metavar="FILE",
              help="Also write every window to FILE (.csv, .csv.gz or .parquet).")  # fmt: skip
@options.state_dir_option
@options.config_option
@click.pass_context
def run(
    ctx: click.Context,
    *,
    window_s: float | None,
    duration_s: float | None,
    record_path: Path | None,
    state_dir: Path | None,
    config_path: Path | None,
) -> None:
    """Watch this host's traffic, detect changes and tell of incidents.

    Needs root, or CAP_BPF and CAP_PERFMON; `tailrace doctor` tells what is missing. SIGTERM or
    Ctrl-C stops it; what it has learned is kept in the state directory and taken up again.
    """
    from tailrace import config, observe, state  # noqa: PLC0415 - slow to import

    settings = config.load(config_path)
    config.check_files(settings)
    window_s = window_s or settings.probes.window
    directory = state.prepared(state.directory(state_dir))
    with contextlib.ExitStack() as stack:
        # The rest is imported while the probes are being compiled
        loading = stack.enter_context(observe.Loading(settings.probes.hooks))
        from alerts.budget import Budget  # noqa: PLC0415
        from alerts.feed import Feed  # noqa: PLC0415
        from alerts.store import Store  # noqa: PLC0415
        from alerts.trigger import trigger_of  # noqa: PLC0415
        from detector import engines  # noqa: PLC0415
        from tailrace import recording, status  # noqa: PLC0415
        from tailrace.condition import Condition  # noqa: PLC0415
        from tailrace.daemon import MEMORY, Daemon  # noqa: PLC0415
        from tailrace.history.service import History  # noqa: PLC0415
        from tailrace.restore import detector_of, incidents_of, remember  # noqa: PLC0415

        store = stack.enter_context(Store.open(directory))
        voice = stack.enter_context(status.voice())
        if caution := engines.caution(settings.detector.model):
            voice.note(caution)
        knobs = settings.detector_settings()
        detector = detector_of(store, knobs, note=voice.note)
        budget = Budget(
            per_week=knobs.false_alerts_per_week,
            text=settings.detector.false_alerts_text,
        )
        store.keep_to(budget)
        recorder = None
        if record_path is not None:
            recorder = stack.enter_context(recording.create(record_path))
        history = None
        if settings.history.enabled:
            history = stack.enter_context(
                History(
                    directory,
                    settings.history.settings(),
                    note=voice.note,
                    warn=voice.warning,
                    max_pairs=2 * settings.probes.max_pairs,
                )
            )
        deliverer = _deliverer(store, settings, stack)
        observer = stack.enter_context(
            loading.observer(
                window_s,
                overhead_budget=settings.probes.overhead_budget,
                naming=settings.naming_settings(),
                netns=settings.probes.netns,
            )
        )
        voice.note(observer.hooks_in_use)
        for note in observer.notes:
            voice.note(note)
        remember(store, MEMORY, observer, note=voice.note)
        incidents = incidents_of(store, detector, now=time.time(), note=voice.note)
        if deliverer is not None:
            deliverer.wake()
        daemon = Daemon(
            detector=detector,
            store=store,
            voice=voice,
            deliverer=deliverer,
            recorder=recorder,
            history=history,
            memory=observer.memory,
            condition=lambda: Condition.of(observer),
            services=lambda: observer.services,
            asked=observer.asked,
            pairs_file=directory / state.PAIRS,
            incidents=incidents,
            triggers=lambda: [trigger_of(event) for event in observer.events()],
            feed=Feed(store.changes(still=True)),
            least_change=knobs.least_change,
            exporter=_exporter(
                settings, store, observer, voice=voice, directory=directory, stack=stack
            ),
        )

        def stop() -> None:
            daemon.stop()
            observer.stop()

        _page(settings, directory, stack, voice)
        voice.note(f"watching this host in windows of {window_s:g} s, state in {directory}")
        interrupt = stack.enter_context(observe.stopped_by_signals(stop))
        daemon.run(observer.windows(), limit=observe.windows_within(duration_s, window_s))
        voice.note("stopped; what was learned is kept")
    ctx.exit(interrupt.exit_code)


def _exporter(
    settings: Config,
    store: Store,
    observer: Observer,
    *,
    voice: Voice,
    directory: Path,
    stack: contextlib.ExitStack,
) -> Exporter | None:
    """Return the started exporter; None when nothing is to be exported."""
    from tailrace.config_export import export_settings  # noqa: PLC0415 - pydantic is slow

    wanted = export_settings(settings.metrics, settings.otlp)
    if not wanted:
        return None
    from tailrace.export.exporter import Exporter  # noqa: PLC0415 - few need it

    exporter = Exporter(
        wanted,
        store=store,
        services=lambda: observer.services,
        state_dir=directory,
        warn=voice.warning,
        note=voice.note,
    )
    stack.callback(exporter.stop)
    exporter.start()
    return exporter


def _deliverer(store: Store, settings: Config, stack: contextlib.ExitStack) -> Deliverer | None:
    """Return the started deliverer; None without receivers."""
    receivers = settings.receiver_settings()
    if not receivers:
        store.register_receivers([])
        return None
    from alerts.deliver import Deliverer  # noqa: PLC0415 - HTTP clients are slow to import
    from alerts.receivers import make_receiver  # noqa: PLC0415

    made = [make_receiver(receiver) for receiver in receivers]
    rules = settings.notification_rules({each.name: each.resend_s for each in made})
    deliverer = Deliverer(store, made, rules=rules)
    deliverer.start()
    stack.callback(deliverer.stop, _STOP_S)
    return deliverer


def _page(settings: Config, directory: Path, stack: contextlib.ExitStack, voice: Voice) -> None:
    """Listen for visitors of the live page; without it, the daemon goes on."""
    if not settings.page.enabled:
        return
    from tailrace.errors import TailraceError  # noqa: PLC0415
    from tailrace.page.beside import Beside  # noqa: PLC0415

    try:
        page = stack.enter_context(Beside(settings.page, directory, warning=voice.warning))
    except TailraceError as error:
        voice.warning(f"no live page: {error}")
        return
    voice.note(f"live page: {page.url}")
