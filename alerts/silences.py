"""Silences: what users want to hear nothing of, for a while.

Written by the command line beside a running daemon, which reads them at each step; they always
end by themselves.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from alerts import words
from alerts.database import Database
from alerts.errors import StoreError
from alerts.matchers import Matcher, parse_all, takes_everything
from detector.finding import rfc3339

SCHEMA: Final = "tailrace.silence/1"
LONGEST_S: Final = 30 * 86_400.0
"""What is wrong for longer than this wants a mute window or a route in the configuration."""
FARTHEST_S: Final = 365 * 86_400.0
"""A silence begins within a year."""
LONGEST_TEXT: Final = 500
MOST_MATCHERS: Final = 20
_SELECT: Final = "SELECT * FROM silences WHERE ?1 IS NULL OR ends > ?1 ORDER BY starts, id"

SilenceState = Literal["pending", "active", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """One silence.

    Attributes:
        id: stable over its life.
        author: who wants it.
        comment: why.
        matchers: which incidents it is about: those that meet all of them.
        created: epoch seconds.
        starts: epoch seconds.
        ends: the first moment after it, epoch seconds.
    """

    id: str
    author: str
    comment: str
    matchers: tuple[Matcher, ...]
    created: float
    starts: float
    ends: float

    def state(self, now: float) -> SilenceState:
        """Return whether it is yet to begin, holds, or is over."""
        if now >= self.ends:
            return "expired"
        return "active" if now >= self.starts else "pending"

    def to_json(self, now: float) -> dict[str, Any]:
        """Return the public form, as `docs/formats.md` specifies it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "state": self.state(now),
            "matchers": [str(matcher) for matcher in self.matchers],
            "starts": rfc3339(self.starts),
            "ends": rfc3339(self.ends),
            "author": self.author,
            "comment": self.comment,
            "created": rfc3339(self.created),
        }


def make(
    matchers: Sequence[Matcher],
    *,
    starts: float,
    ends: float,
    comment: str,
    author: str,
    now: float,
) -> Silence:
    """Return a new silence.

    Raises:
        ValueError: it would never end, silence nothing or everything, or not say why.
    """
    if takes_everything(matchers):
        raise ValueError(
            "it would silence everything: say which incidents, e.g. service=redis or "
            "severity!=critical"
        )
    if len(matchers) > MOST_MATCHERS:
        raise ValueError(f"at most {MOST_MATCHERS} matchers, not {len(matchers)}")
    # In one line, as it is told beside other things
    comment = "".join(filter(str.isprintable, " ".join(comment.split())))
    author = words.clean(author.strip())
    if not comment or not author:
        raise ValueError(f"{'the author' if comment else 'the comment'} is empty")
    if len(comment) > LONGEST_TEXT:
        raise ValueError(f"a comment has at most {LONGEST_TEXT} characters, not {len(comment)}")
    if ends <= now:
        raise ValueError(f"it would be over already, since {words.moment(ends)}")
    if ends <= starts:
        raise ValueError("it has no length: it must end after it starts")
    if ends - starts > LONGEST_S:
        raise ValueError(
            f"a silence lasts at most {words.duration(LONGEST_S)}: for longer, or again and "
            "again, use [[alerts.mute]] or [[alerts.routes]] in the configuration"
        )
    if starts - now > FARTHEST_S:
        raise ValueError("it would begin in more than a year")
    parts = [*map(str, matchers), rfc3339(starts), rfc3339(ends), rfc3339(now), author, comment]
    return Silence(
        id=hashlib.blake2b("\0".join(["silence", *parts]).encode(), digest_size=8).hexdigest(),
        author=author,
        comment=comment,
        matchers=tuple(matchers),
        created=now,
        starts=starts,
        ends=ends,
    )


def add(state_dir: Path, silence: Silence) -> None:
    """Leave the daemon a silence, whether it runs or not.

    Raises:
        StoreError: it cannot be stored.
    """
    database = Database.beside(state_dir)
    try:
        with database.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO silences (id, author, comment, matchers, created, starts,"
                " ends) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    silence.id,
                    silence.author,
                    silence.comment,
                    json.dumps([str(m) for m in silence.matchers], ensure_ascii=False),
                    silence.created,
                    silence.starts,
                    silence.ends,
                ),
            )
    finally:
        database.close()


def end(state_dir: Path, id_prefix: str, *, now: float) -> Silence:
    """End the one silence that has not ended and whose id starts with `id_prefix`.

    Raises:
        StoreError: there is none or several (reason "missing"), or it cannot be stored.
    """
    database = Database.beside(state_dir)
    try:
        with database.transaction() as db:
            known = [each for each in load(db) if id_prefix and each.id.startswith(id_prefix)]
            still = [each for each in known if each.state(now) != "expired"]
            if len(still) != 1:
                raise StoreError(_not_one(id_prefix, known, still), reason="missing")
            db.execute(
                "UPDATE silences SET ends = ?1, starts = min(starts, ?1) WHERE id = ?2",
                (now, still[0].id),
            )
            [ended] = [each for each in load(db) if each.id == still[0].id]
            return ended
    finally:
        database.close()


def _not_one(id_prefix: str, known: Sequence[Silence], still: Sequence[Silence]) -> str:
    if still:
        some = ", ".join(each.id for each in still[:5])
        return f"more than one silence starts with {id_prefix!r} ({some}): give more of the id"
    if known:
        return f"silence {known[0].id} is over already, since {words.moment(known[0].ends)}"
    return f"no silence has the id {id_prefix!r}: list them by `tailrace silence list`"


def load(db: sqlite3.Connection, *, after: float | None = None) -> list[Silence]:
    """Return the silences that end after a moment, in the order they start; all without one.

    Args:
        db: may be within a transaction.
        after: epoch seconds.
    """
    return [_from_row(row) for row in db.execute(_SELECT, (after,))]


def stored(state_dir: Path, *, after: float | None = None) -> list[Silence]:
    """Return the silences of a state directory, as `load` does; none if it never had any.

    Raises:
        StoreError: it cannot be read.
    """
    database = Database.open(state_dir, read_only=True)
    try:
        if not database.rows("SELECT 1 FROM sqlite_master WHERE name = 'silences'"):
            return []  # written by an older version
        return [_from_row(row) for row in database.rows(_SELECT, (after,))]
    finally:
        database.close()


def prune(db: sqlite3.Connection, *, before: float) -> int:
    """Remove silences that ended before a moment, within a transaction; return how many."""
    return db.execute("DELETE FROM silences WHERE ends < ?", (before,)).rowcount


def _from_row(row: sqlite3.Row) -> Silence:
    return Silence(
        id=row["id"],
        author=row["author"],
        comment=row["comment"],
        matchers=parse_all(json.loads(row["matchers"])),
        created=row["created"],
        starts=row["starts"],
        ends=row["ends"],
    )
