"""Options that several commands share, and the kinds of values they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tailrace import durations

_F = TypeVar("_F", bound=Callable[..., Any])


class _Kind(click.ParamType[float]):
    """A value that is converted by a function, whose ValueError is the message."""

    def __init__(self, name: str, convert: Callable[[str], float]) -> None:
        self.name = name
        self._convert = convert

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            return self._convert(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _window(text: str) -> float:
    from tailrace.config import check_window  # noqa: PLC0415 - pydantic is slow to import

    return check_window(durations.duration_s(text))


DURATION = _Kind("duration", durations.duration_s)
MOMENT = _Kind("moment", lambda text: durations.moment_s(text, now=time.time()))
LATER = _Kind("moment", lambda text: durations.later_s(text, now=time.time()))
WINDOW = _Kind("duration", _window)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)


def examples(*lines: str) -> str:
    """Return the end of a command's help: examples, one per line."""
    # \b keeps click from filling the lines
    return "\n".join(
        ("\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {x}" for x in lines))
    )


def config_option(function: _F) -> _F:
    """Add --config."""
    return _config(function)


def state_dir_option(function: _F) -> _F:
    """Add --state-dir."""
    return _state_dir(function)


def ignores_config(function: _F) -> _F:
    """Accept --config where it changes nothing, so that scripts can pass it to every command."""
    return _config(function, hidden=True, expose_value=False)


def ignores_state_dir(function: _F) -> _F:
    """Accept --state-dir where it changes nothing, as `ignores_config` does."""
    return _state_dir(function, hidden=True, expose_value=False)


def _config(function: _F, **more: Any) -> _F:
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        callback=_or_from_group,
        help="Configuration file. [default: $TAILRACE_CONFIG, else /etc/tailrace/tailrace.toml]",
        **more,
    )(function)


def _state_dir(function: _F, **more: Any) -> _F:
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        callback=_or_from_group,
        help="Where findings and baselines are kept. "
        "[default: $TAILRACE_STATE_DIR, else /var/lib/tailrace for root]",
        **more,
    )(function)


def _or_from_group(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Return the option of the command, else that of `tailrace` itself."""
    inherited: Path | None = ctx.find_root().params.get(param.name or "")
    return inherited if value is None else value


def output_option(function: _F) -> _F:
    """Add -o/--output for lists."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "jsonl", "csv"]),
        default="table",
        show_default=True,
        help="Format on stdout.",
    )(function)


def window_option(function: _F) -> _F:
    """Add --window."""
    return click.option(
        "--window",
        "window_s",
        type=WINDOW,
        metavar="LENGTH",
        help="Length of a window, 100ms to 60s. [default: from the configuration, 1s]",
    )(function)


def state_dir_of(given: Path | None) -> Path:
    """Return the state directory that counts."""
    from tailrace import state  # noqa: PLC0415 - not for --help

    return state.directory(given)
