"""What version of a program a process runs, told by the file: its path, and when it was changed."""

from __future__ import annotations

import time
from pathlib import Path

from probes.identity.processes import Process
from probes.identity.programs import script_of
from probes.identity.service import Facts


def of_process(proc: Path, facts: Facts, process: Process | None) -> str:
    """Return the version that a process runs; "" if we may not know.

    Of a script it is the script's, as the process sees that file; a module of a package is found
    by nobody but its interpreter, whose version it then is.

    Args:
        proc: where procfs is.
        facts: what the kernel said of the process.
        process: what procfs says; None if it is gone.
    """
    if process is None or not process.executable:
        return ""
    name = script_of(facts.executable, process.arguments)
    given = next((each for each in process.arguments[1:] if each.endswith(name)), "")
    place = proc / str(facts.tgid)
    if name and given:
        # a path from the root begins anew, at the process's own root
        within = "root" if given.startswith("/") else "cwd"
        try:
            changed = (place / within / given.lstrip("/")).stat().st_mtime
        except OSError:
            pass  # a module, or a file that is gone
        else:
            return version_text(given, changed)
    return version_text(process.executable, process.changed)


def version_text(path: str, changed: float) -> str:
    """Return the version that a file is, which was changed at so many epoch seconds."""
    return f"{path} of {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(changed))}"
