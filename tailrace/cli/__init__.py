"""The command line. In: arguments. Out: data on stdout, talk on stderr, and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

import tailrace
from tailrace.cli import options
from tailrace.errors import INTERRUPTED, OK, RUNTIME, TailraceError

_COMMANDS = {
    "run": "run:run",
    "report": "report:report",
    "incidents": "incidents:incidents",
    "explain": "report:explain",
    "pairs": "pairs:pairs",
    "top": "top:top",
    "record": "record:record",
    "replay": "replay:replay",
    "simulate": "simulate:simulate",
    "doctor": "doctor:doctor",
    "config": "config:config",
    "alert": "alert:alert",
    "silence": "silence:silence",
    "page": "page:page",
}
"""Each command's module in this package, imported only when it is needed."""


class _Lazy(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[name].split(":")
        command: click.Command = getattr(
            importlib.import_module(f"tailrace.cli.{module}"), attribute
        )
        return command


@click.command(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=options.examples(
        "sudo tailrace run               watch this host, tell of incidents",
        "tailrace incidents              what people were told, and why it happened",
        "tailrace report --since 1h      what changed in the last hour",
        "tailrace top                    the pairs of this host, live",
        "tailrace doctor                 is everything there that it takes?",
    ),
)
@click.version_option(tailrace.__version__, "-V", "--version", prog_name="tailrace")
@options.state_dir_option
@options.config_option
def cli(**_options: object) -> None:
    """Anomaly detection for service-to-service traffic, from the kernel's own sockets.

    Exit codes: 0 fine, 1 runtime error, 2 usage or configuration, 3 a check failed.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; an expected error is one message."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end the program
            stream.reconfigure(errors="backslashreplace")
    try:
        result = cli.main(args=arguments, prog_name="tailrace", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SystemExit:
        # Only click's own answer to a reader that left early; see BrokenPipeError below
        return OK
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not try to flush the rest at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        expected = _expected(error)
        if expected is None:
            raise
        click.echo(f"error: {expected}", err=True)
        return expected.exit_code
    return result if isinstance(result, int) else OK


def _expected(error: Exception) -> TailraceError | None:
    """Return the error as one of ours; None when it is a fault in the program."""
    if isinstance(error, TailraceError):
        return error
    # Imported only now: most runs have no error, and none needs these modules for it
    from alerts.errors import DeliveryError, StoreError  # noqa: PLC0415
    from probes.errors import ProbeError  # noqa: PLC0415

    if isinstance(error, StoreError | DeliveryError | ProbeError):
        expected = TailraceError(str(error))
        expected.exit_code = RUNTIME
        return expected
    if isinstance(error, OSError) and error.filename is not None:
        return TailraceError(error.strerror or str(error), where=str(error.filename))
    return None
