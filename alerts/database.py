"""The file `tailrace.db`: opening, locking, transactions, and errors a person can act upon.

One process writes: it holds a lock that the kernel releases whenever that process ends. Any
number of others read at the same time, and may leave it a note beside (`Database.beside`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from alerts import schema
from alerts.errors import StoreError, StoreReason

FILE = "tailrace.db"
LOCK = "tailrace.lock"
BUSY_TIMEOUT_S = 5.0
"""How long to wait for another connection's transaction."""
LOG_LIMIT_BYTES = 16 * 1024 * 1024
"""What the write-ahead log is cut back to after a large transaction."""
FULL_BELOW_BYTES = 64 * 1024
"""An I/O error on a file system with less room than this is a full disk."""


class Database:
    """One connection, shared by threads; every statement runs under one lock."""

    def __init__(
        self, path: Path, db: sqlite3.Connection, lock: int | None, *, read_only: bool
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.version = schema.version(db)
        self._db = db
        self._daemon_lock = lock  # a file descriptor
        self._lock = threading.RLock()

    @classmethod
    def open(cls, state_dir: Path, *, read_only: bool = False) -> Self:
        """Open the database of a state directory; a writer creates what is missing.

        Raises:
            StoreError: the directory or file cannot be used; the message says why.
        """
        path = state_dir / FILE
        if read_only:
            return cls(path, _open_reader(path), None, read_only=True)
        lock = _lock(state_dir)
        try:
            return cls(path, _open_writer(path), lock, read_only=False)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def beside(cls, state_dir: Path) -> Self:
        """Open the database to leave a note for the daemon, whether it runs or not.

        For small transactions on tables that the daemon only takes from: SQLite keeps the two
        apart.

        Raises:
            StoreError: as `open`; or no daemon of this version has used it yet.
        """
        path = state_dir / FILE
        _open_reader(path).close()
        db = _connect(f"file:{quote(str(path.absolute()))}?mode=rw", uri=True)
        try:
            _check_version(db, path, least=schema.VERSION)
            db.execute("PRAGMA synchronous = FULL")
            return cls(path, db, None, read_only=False)
        except sqlite3.Error as error:
            db.close()
            raise explain(error, path) from error
        except BaseException:
            db.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction: all of it is stored durably, or nothing.

        Raises:
            StoreError: it could not be stored; the database is as before.
        """
        if self.read_only:
            raise StoreError(f"{self.path} was opened for reading only", reason="read_only")
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise explain(error, self.path) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        # After some errors SQLite has rolled back by itself, and says so with an error
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query, so that no read transaction stays open.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock:
            try:
                return self._db.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise explain(error, self.path) from error

    def close(self) -> None:
        """Close the file and release the lock; closing twice is harmless."""
        with self._lock:
            self._db.close()
            if self._daemon_lock is not None:
                os.close(self._daemon_lock)
                self._daemon_lock = None


def _lock(state_dir: Path) -> int:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        # Not a Python file: closing one writes what it buffered, which a full disk refuses
        lock = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _explain_os(error, state_dir) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise _explain_os(error, state_dir) from error
        who = f" (process {holder})" if holder.isdecimal() else ""
        raise StoreError(
            f"another tailrace{who} is using {state_dir}: stop it, or set another state directory",
            reason="locked",
        ) from error
    # The number only helps the message above; a full disk must not stop the daemon here
    with contextlib.suppress(OSError):
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _connect(target: str, *, uri: bool) -> sqlite3.Connection:
    db = sqlite3.connect(
        target, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=uri
    )
    db.row_factory = sqlite3.Row
    return db


def _open_writer(path: Path) -> sqlite3.Connection:
    try:
        db = _connect(str(path), uri=False)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    try:
        _check_version(db, path)
        _check_whole(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}")
        schema.migrate(db)
    except sqlite3.Error as error:
        db.close()
        raise explain(error, path) from error
    except BaseException:
        db.close()
        raise
    return db


def _open_reader(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise StoreError(
            f"there is no {path}: has the daemon run with this state directory?", reason="missing"
        )
    try:
        return _open_reader_as(path, "mode=ro")
    except StoreError as error:
        # Without a daemon there are no -wal and -shm files, and a reader who may not create them
        # can still read a file that nobody changes
        if error.reason != "not_writable" or path.with_name(f"{FILE}-wal").exists():
            raise
        return _open_reader_as(path, "immutable=1")


def _open_reader_as(path: Path, mode: str) -> sqlite3.Connection:
    try:
        db = _connect(f"file:{quote(str(path.absolute()))}?{mode}", uri=True)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    try:
        _check_version(db, path, least=1)
    except sqlite3.Error as error:
        db.close()
        raise explain(error, path) from error
    except BaseException:
        db.close()
        raise
    return db


def _check_whole(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise _corrupt(path)


def _check_version(db: sqlite3.Connection, path: Path, *, least: int = 0) -> None:
    found = schema.version(db)
    if found > schema.VERSION:
        raise StoreError(
            f"{path} has schema {found}, this tailrace knows {schema.VERSION}: "
            "upgrade tailrace, or set another state directory",
            reason="newer_schema",
        )
    if found == 0 and db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StoreError(
            f"{path} is a database of another program: set another state directory",
            reason="corrupt",
        )
    if found < least:
        what = "is still empty: try again"
        if found:
            what = f"has schema {found}: start this version's `tailrace run` once"
        raise StoreError(f"{path} {what}", reason="missing")


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """Return what went wrong, where, and what to do about it."""
    name = getattr(error, "sqlite_errorname", "")
    result = "_".join(name.split("_")[:2])  # without the extension, e.g. SQLITE_IOERR_WRITE
    full_as_well = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
    if result == "SQLITE_FULL" or (result in full_as_well and _is_full(path.parent)):
        return _full(path.parent)
    if result in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return _corrupt(path)
    text = f"cannot use {path}: {error} {name}".rstrip()
    reason: StoreReason = "io"
    if result in ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"):
        text = f"cannot open {path}: check the owner and mode of it and of {path.parent}"
        reason = "not_writable"
    elif result in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        text, reason = f"{path} is in use by another program: try again", "busy"
    elif isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        text, reason = f"{path} is closed", "closed"
    return StoreError(text, reason=reason)


def _explain_os(error: OSError, state_dir: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(state_dir)
    reason: StoreReason = "io" if error.errno == errno.EIO else "not_writable"
    return StoreError(
        f"cannot write the state directory {state_dir}: {error.strerror}; "
        "check its owner and mode, or set another",
        reason=reason,
    )


def _is_full(state_dir: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(state_dir).free < FULL_BELOW_BYTES
    return False


def _full(state_dir: Path) -> StoreError:
    return StoreError(
        f"no room left for {state_dir}: free some space; what is already stored is safe",
        reason="disk_full",
    )


def _corrupt(path: Path) -> StoreError:
    return StoreError(
        f"{path} is damaged: restore it from a backup, or move it away "
        "(with its -wal and -shm) to start afresh",
        reason="corrupt",
    )
