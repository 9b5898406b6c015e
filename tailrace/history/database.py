"""The file `history.db`: its tables, opening it, and what to do with one that cannot be used.

A file of its own, so that whatever happens to it, alerts are stored and told.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

from alerts.database import explain
from tailrace.errors import TailraceError

FILE = "history.db"
VERSION = 1
PAGE_BYTES = 1024
"""Small, since a chunk ends in the middle of its last page."""
LOG_BYTES = 8_000_000
"""What the write-ahead log is cut back to."""
BUSY_S = 5.0
USELESS = ("damaged", "newer")
"""Why a file is set aside: the end of its new name."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE tiers (
    step  INTEGER PRIMARY KEY,  -- seconds, as
    keep  INTEGER NOT NULL,
    first INTEGER               -- begin of what it has, epoch seconds; null when it has nothing
);
CREATE TABLE signals (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE pairs (
    number    INTEGER PRIMARY KEY,
    client    TEXT NOT NULL,
    server    TEXT NOT NULL,
    port      INTEGER NOT NULL,
    transport TEXT NOT NULL,
    first     INTEGER NOT NULL, -- epoch seconds, when it was first seen
    last      INTEGER NOT NULL, -- and last; what is stored of it is no later
    signals   BLOB NOT NULL     -- which it ever had, a bit each by number, the first is the highest
);
-- One pair over CHUNK_STEPS steps of a tier
CREATE TABLE chunks (
    step  INTEGER NOT NULL,     -- of the tier, seconds
    start INTEGER NOT NULL,     -- epoch seconds, a multiple of the chunk's length
    pair  INTEGER NOT NULL,
    data  BLOB NOT NULL         -- tailrace.history.pack.pack_chunk
);
CREATE UNIQUE INDEX chunks_at ON chunks (step, start, pair);
-- All pairs of a shard, at the steps of a chunk that is not complete
CREATE TABLE pieces (
    step   INTEGER NOT NULL,
    start  INTEGER NOT NULL,    -- of the section
    shard  INTEGER NOT NULL,    -- pairs whose number // SHARD is this
    merged INTEGER NOT NULL,    -- 1: of a section that has a summary
    data   BLOB NOT NULL        -- tailrace.history.pack.pack_piece
);
CREATE INDEX pieces_at ON pieces (step, start, shard);
-- What pairs are listed by: headline signals of a shard
CREATE TABLE summaries (
    step  INTEGER NOT NULL,
    start INTEGER NOT NULL,     -- of the section or chunk
    shard INTEGER NOT NULL,
    whole INTEGER NOT NULL,     -- 0: in steps of a section, 1: a chunk as one step
    data  BLOB NOT NULL         -- tailrace.history.pack.pack_piece
);
CREATE UNIQUE INDEX summaries_at ON summaries (step, start, shard, whole);
"""


class HistoryError(TailraceError):
    """The history cannot be read or written.

    Attributes:
        useless: whether the file will stay so: it is damaged, or another version's.
        kind: "damaged" or "newer" if it is useless, the name it is set aside under.
    """

    def __init__(self, what: str, *, where: Path, remedy: str = "", kind: str = "") -> None:
        super().__init__(what, where=str(where), remedy=remedy)
        self.kind = kind

    @property
    def useless(self) -> bool:
        """Whether waiting does not help."""
        return bool(self.kind)


def failed(error: sqlite3.Error, path: Path) -> HistoryError:
    """Return what went wrong, where, and what to do about it."""
    known = explain(error, path)
    if known.reason == "corrupt":
        return damaged(path)
    return HistoryError(str(known).removeprefix(f"{path} "), where=path)


def damaged(path: Path) -> HistoryError:
    """Return the error for a file that is damaged."""
    return HistoryError(
        "the history is damaged",
        where=path,
        remedy="a running daemon sets it aside and begins a new one; or move it away yourself",
        kind="damaged",
    )


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for its one writer, made if it is missing.

    Raises:
        HistoryError: it cannot be used.
    """
    try:
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise failed(error, path) from error
    try:
        if _version(db, path) == 0:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        # What is lost with the power is what the writer had not stored either
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        db.execute("PRAGMA cache_size = -2000")
        if _version(db, path) == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    except sqlite3.Error as error:
        db.close()
        raise failed(error, path) from error
    except BaseException:
        db.close()
        raise
    return db


def open_reader(path: Path) -> sqlite3.Connection | None:
    """Open the file for reading; None when there is none, or nothing in it yet.

    Raises:
        HistoryError: it cannot be read.
    """
    if not path.exists():
        return None
    # Without a daemon there are no -wal and -shm files, and who may not create them can still
    # read a file that nobody changes
    modes = ["mode=ro"]
    if not path.with_name(f"{FILE}-wal").exists():
        modes.append("immutable=1")
    for mode in modes:
        try:
            return _open_reader(path, mode)
        except sqlite3.OperationalError as error:
            if mode == modes[-1]:
                raise failed(error, path) from error
        except sqlite3.Error as error:
            raise failed(error, path) from error
    raise AssertionError(modes)


def _open_reader(path: Path, mode: str) -> sqlite3.Connection | None:
    target = f"file:{quote(str(path.absolute()))}?{mode}"
    db = sqlite3.connect(
        target, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        if _version(db, path) == VERSION:
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return None


def _version(db: sqlite3.Connection, path: Path) -> int:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise HistoryError(
            f"the history has format {found}, and this tailrace knows {VERSION}",
            where=path,
            remedy="upgrade tailrace; its daemon would set the file aside and begin a new one",
            kind="newer",
        )
    if found == 0 and db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise damaged(path)
    return found


def set_aside(path: Path, kind: str) -> Path:
    """Rename a file that is useless, in the place of an earlier one; return its new name.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.{kind}")
    path.replace(aside)
    for end in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).replace(aside.with_name(aside.name + end))
    return aside


def on_disk(path: Path) -> int:
    """Return the bytes of a database's files, its log included."""
    total = 0
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            total += path.with_name(path.name + end).stat().st_size
    return total


def size(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the bytes that are in use in the file, and those that are free in it."""
    page, pages, free = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    return (pages - free) * page, free * page
