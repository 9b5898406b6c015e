"""What the history holds and takes, for people: `tailrace doctor`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tailrace.history import database


class Reach(NamedTuple):
    """How far back a tier reaches.

    Attributes:
        step: its steps, seconds.
        keep: how long they are kept, seconds.
        first: begin of what it has, epoch seconds; None when it has nothing yet.
    """

    step: int
    keep: int
    first: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A history as a whole.

    Attributes:
        tiers: the finest first.
        pairs: so many are known.
        size: of all its files, bytes.
        max_size: they may have, bytes.
        deleted_for_room: chunks of time that were deleted early, since the daemon's start.
        lost: what could not be kept since then, by why.
        aside: files that were set aside, with their sizes in bytes.
    """

    tiers: Sequence[Reach]
    pairs: int
    size: int
    max_size: int
    deleted_for_room: int
    lost: Mapping[str, int]
    aside: Mapping[str, int]


def overview(state_dir: Path) -> Overview | None:
    """Return what the history of a state directory holds; None when there is none.

    Raises:
        TailraceError: it cannot be read.
    """
    path = state_dir / database.FILE
    db = database.open_reader(path)
    if db is None:
        return None
    try:
        tiers = [Reach(*row) for row in db.execute("SELECT step, keep, first FROM tiers")]
        pairs = int(db.execute("SELECT count(*) FROM pairs").fetchone()[0])
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.Error as error:
        raise database.failed(error, path) from error
    finally:
        db.close()
    return Overview(
        tiers=sorted(tiers),
        pairs=pairs,
        size=database.on_disk(path),
        max_size=int(meta.get("max_size", 0)),
        deleted_for_room=int(meta.get("deleted_for_room", 0)),
        lost=json.loads(meta.get("lost", "{}")),
        aside={
            aside.name: aside.stat().st_size
            for kind in database.USELESS
            if (aside := path.with_name(f"{path.name}.{kind}")).exists()
        },
    )
