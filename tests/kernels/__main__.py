"""scripts/kernels: try the probes on other kernels, in emulated machines, and on this host."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tests.kernels.images import Archive, KernelsError, cache_directory
from tests.kernels.machine import boot
from tests.kernels.report import DOCUMENT, document, table
from tests.kernels.results import GarbledError, Result, passes, read_results

VERSIONS = ("5.10", "6.1", "6.12", "7.2")
HOST = "host"
_SUITE = ("-B", "-m", "tests.kernels.suite")
_WITHIN_S = 900.0  # twice what the suite gives to one family, and a little
_ROOT = Path(__file__).parents[2]


def on_host() -> list[Result]:
    """Run the suite on the running kernel.

    Raises:
        KernelsError: it did not come to its end.
    """
    ended = subprocess.run(
        [sys.executable, *_SUITE], check=False, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    )
    try:
        return read_results(ended.stdout.splitlines())
    except GarbledError as error:
        raise KernelsError(str(error)) from error


def emulated(archive: Archive, version: str) -> list[Result]:
    """Boot Debian's newest kernel of a version and run the suite in it.

    Raises:
        UnreachableError: it cannot be downloaded.
        KernelsError: there is no such kernel, or the suite did not come to its end.
    """
    image = archive.image(version)
    log = cache_directory() / "logs" / f"{version}.log"
    # by the project's own name for it: the guest sees the same files
    python = _ROOT / ".venv" / "bin" / "python"
    lines = boot(image, [str(python), *_SUITE], within_s=_WITHIN_S, log=log, directory=_ROOT)
    try:
        return read_results(lines)
    except GarbledError as error:
        raise KernelsError(
            f"{error}. The end of {log}:\n" + "\n".join(line[:200] for line in lines[-15:])
        ) from error


@click.command(help="Try the probes on Debian's kernels, emulated, and on this host.")
@click.argument("versions", metavar="[VERSION|host]...", nargs=-1)
@click.option("--write", is_flag=True, help="Write docs/kernels.md; for all versions only.")
def main(versions: Sequence[str], *, write: bool) -> None:
    if write and versions:
        raise click.UsageError("--write is for all kernels: name none.")
    # an end that is asked for must switch the machine off, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    versions = versions or (*VERSIONS, HOST)
    kernels: dict[str, list[Result] | str] = {}
    archive: Archive | None = None
    for version in versions:
        click.echo(f"kernels: {version} ...", err=True)
        try:
            if version == HOST:
                kernels[version] = on_host()
                continue
            archive = archive or Archive(cache_directory())
            kernels[version] = emulated(archive, version)
        except (KernelsError, OSError) as error:
            kernels[version] = str(error)
    click.echo(table(kernels), nl=False)
    complete = [results for results in kernels.values() if not isinstance(results, str)]
    if write and len(complete) == len(kernels):
        DOCUMENT.write_text(document(complete, DOCUMENT.read_text("utf-8")), "utf-8")
    good = len(complete) == len(kernels) and all(map(passes, complete))
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
