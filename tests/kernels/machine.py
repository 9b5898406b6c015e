"""An emulated machine: boots a kernel over this host's own files, read-only, and runs a command.

By virtme-ng (https://github.com/arighi/virtme-ng) on qemu, without KVM: slow, but the same
everywhere, and it needs no rights.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.kernels.images import Image, KernelsError

_BIN: Final = Path(sys.executable).parent
_PATH: Final = f"{_BIN}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_NEEDED: Final = {
    "vng": "virtme-ng (pip)",
    "qemu-system-x86_64": "qemu-system-x86",
    "modprobe": "kmod",
    "busybox": "busybox-static",
}


def check_tools() -> None:
    """Raise unless this host has what an emulated machine takes.

    Raises:
        KernelsError: something is missing.
    """
    missing = [name for tool, name in _NEEDED.items() if not shutil.which(tool, path=_PATH)]
    if missing:
        raise KernelsError(
            f"missing: {', '.join(missing)}. Run scripts/kernels as root once, which installs "
            "them on Debian; elsewhere install them by your distribution's means."
        )


def boot(
    image: Image, command: Sequence[str], *, within_s: float, log: Path, directory: Path
) -> list[str]:
    """Boot `image`, run `command` as root in `directory`, power off.

    The guest sees this host's files and cannot change them: what it writes goes to memory.

    Args:
        image: what to boot.
        command: and its arguments.
        within_s: seconds after which the machine is switched off.
        log: where all that it said on its console is kept.
        directory: the same path inside as outside.

    Returns:
        The lines of its console: the kernel's, the command's and the emulator's.

    Raises:
        KernelsError: a tool is missing, or the time was up.
    """
    check_tools()
    # The kernel's own lines would fall into the middle of the command's. And on the console it may
    # be hung up a second after its start: so it gets a session of its own.
    inside = f"dmesg -n 1; exec </dev/null; setsid -w {shlex.join(command)}; echo status $?"
    vng = [
        "vng", "--disable-kvm", "--force-9p", "--run", str(image.vmlinuz),
        "--memory", "2G", "--cpus", "2", "--user", "root", "--cwd", str(directory),
        # numpy sorts by AVX2, and qemu 7.2 emulates that wrongly: crashes and false sums
        "--qemu-opts=-cpu max,avx2=off",
        "--verbose", "--", inside,
    ]  # fmt: skip
    log.parent.mkdir(parents=True, exist_ok=True)
    with _group(vng) as process:
        late = threading.Event()

        def switch_off() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(within_s, switch_off)
        timer.start()
        try:
            assert process.stdout is not None
            said = process.stdout.read().replace("\r", "")
        finally:
            timer.cancel()
    log.write_text(said, encoding="utf-8")
    if late.is_set():
        raise KernelsError(
            f"Linux {image.release} was not done after {within_s:.0f} s; the end of {log}:\n"
            + "\n".join(said.splitlines()[-10:])
        )
    return said.splitlines()


@contextmanager
def _group(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own, which is gone at the end, files and all."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, "PATH": _PATH, "TMPDIR": temporary},
        ) as process,
    ):
        try:
            yield process
        finally:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
