"""Where the program keeps what must survive it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tailrace.errors import TailraceError

VARIABLE = "TAILRACE_STATE_DIR"
ROOT_PATH = Path("/var/lib/tailrace")
PAIRS = "pairs.json"
"""File in the state directory: the current pairs, replaced while the daemon runs."""


def directory(given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the state directory: as given, $TAILRACE_STATE_DIR, or the user's own default."""
    if given is not None:
        return given.absolute()
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE]).absolute()
    if os.geteuid() == 0:
        return ROOT_PATH
    import platformdirs  # noqa: PLC0415 - only needed here

    return platformdirs.user_state_path("tailrace", appauthor=False)


def prepared(path: Path) -> Path:
    """Return a state directory after creating it when it is missing, for its owner only.

    Raises:
        TailraceError: it cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise TailraceError(
            f"cannot create the state directory: {error.strerror}",
            where=str(path),
            remedy="create it for the user Tailrace runs as, or name another with --state-dir",
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise TailraceError(
            "the state directory is not writable",
            where=str(path),
            remedy="give it to the user Tailrace runs as, or name another with --state-dir",
        )
    return path
