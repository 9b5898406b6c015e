"""The notification log on disk: with its messages there or not there, also after `kill -9`."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts import notifications, silences
from alerts.database import Database
from alerts.errors import StoreError
from alerts.policy import Policy, Rules
from tests.alerts.control import incident, silence
from tests.alerts.examples import T0

ROOT = Path(__file__).parents[2]
RULES = Rules(receivers={"team": None, "am": 60.0})
POLICY = Policy(rules=RULES)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path)
    yield database
    database.close()


def settle(database: Database, *incidents: object, now: float = T0 + 10) -> list[tuple[str, str]]:
    with database.transaction() as db:
        due = notifications.settle(db, incidents, POLICY, now=now)  # type: ignore[arg-type]
    return [(each.event, each.receiver) for each in due]


def over(id_: str) -> object:
    return dataclasses.replace(incident(id_), state="resolved", resolved=T0 + 99)


def test_what_was_told_is_known_after_a_restart(tmp_path: Path) -> None:
    for expected in ([("firing", "team"), ("firing", "am")], []):
        database = Database.open(tmp_path)
        assert settle(database, incident()) == expected
        database.close()
    database = Database.open(tmp_path)
    assert settle(database, incident(), incident("b"), now=T0 + 70) == [
        ("firing", "am"),
        ("firing", "team"),
        ("firing", "am"),
    ]
    [row] = database.rows("SELECT * FROM notifications WHERE incident = 'a1' AND receiver = 'am'")
    assert (row["event"], row["told"], row["sequence"]) == ("firing", T0 + 70, 2)
    database.close()


def test_what_could_not_be_stored_is_due_again_under_the_same_id(database: Database) -> None:
    lost = []
    with contextlib.suppress(StoreError), database.transaction() as db:
        lost = notifications.settle(db, [incident()], POLICY, now=T0 + 10)
        db.execute("INSERT INTO nowhere VALUES (1)")
    with database.transaction() as db:
        again = notifications.settle(db, [incident()], POLICY, now=T0 + 10)
    assert again == lost
    assert len({each.id for each in again}) == 2


def test_silences_that_users_wrote_hold_at_the_next_step(
    database: Database, tmp_path: Path
) -> None:
    quiet = silence("service=redis")
    silences.add(tmp_path, quiet)
    with database.transaction() as db:
        policy = notifications.policy(db, RULES, now=T0 + 10)
        assert policy == Policy(rules=RULES, silences=(quiet,))
        assert notifications.settle(db, [incident()], policy, now=T0 + 10) == []
        later = notifications.policy(db, RULES, now=T0 + 3600)
        assert later.silences == ()
        assert len(notifications.settle(db, [incident()], later, now=T0 + 3600)) == 2


def test_prune_keeps_what_is_not_over(database: Database) -> None:
    settle(database, incident("old"), incident("long"))
    settle(database, over("old"), now=T0 + 100)
    settle(database, incident("new"), now=T0 + 5000)
    with database.transaction() as db:
        assert notifications.prune(db, before=T0 + 4000, still=["long"]) == 2
    left = database.rows("SELECT DISTINCT incident FROM notifications ORDER BY incident")
    assert [row["incident"] for row in left] == ["long", "new"]
    assert settle(database, incident("long"), now=T0 + 50) == []


DAEMON = """
    import dataclasses, sys
    from pathlib import Path
    from alerts import notifications
    from alerts.database import Database
    from tests.alerts.control import incident
    from tests.alerts.examples import T0
    from tests.alerts.test_alerts_notifications import POLICY

    state_dir, steps = sys.argv[1:]
    database = Database.open(Path(state_dir))
    with database.transaction() as db:
        db.execute("CREATE TABLE IF NOT EXISTS messages (step INT, event TEXT, receiver TEXT,"
                   " id TEXT PRIMARY KEY)")
    done = database.rows("SELECT coalesce(max(step) + 1, 0) AS step FROM messages")[0]["step"]
    for step in range(done, int(steps)):
        # Each incident fires for three steps, and one begins with each step
        going = [incident(str(n)) for n in range(max(step - 2, 0), step + 1)]
        ended = [dataclasses.replace(incident(str(step - 3)), state="resolved", resolved=T0)]
        with database.transaction() as db:
            due = notifications.settle(db, going + ended[: step >= 3], POLICY, now=T0 + 20 * step)
            for each in due:
                db.execute("INSERT INTO messages VALUES (?, ?, ?, ?)",
                           (step, each.event, each.receiver, each.id))
        print(step, flush=True)
"""


def test_killed_at_any_moment_it_tells_the_same(tmp_path: Path) -> None:
    steps, rng, kills = 60, random.Random(1), 0
    while True:
        daemon = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(DAEMON), str(tmp_path), str(steps)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert daemon.stdout is not None
        with daemon.stdout as lines:
            for _ in range(rng.randint(4, 12)):
                lines.readline()
            time.sleep(rng.random() * 0.003)
            daemon.send_signal(signal.SIGKILL)
        if daemon.wait() != -signal.SIGKILL:
            break  # it came to its end before
        kills += 1
    assert daemon.returncode == 0  # a message that comes twice is an error in it
    assert kills > 3
    database = Database.open(tmp_path)
    for event, expected in (("firing", range(steps)), ("resolved", range(3, steps))):
        rows = database.rows(
            "SELECT step FROM messages WHERE event = ? AND receiver = 'team' ORDER BY step",
            (event,),
        )
        assert [row["step"] for row in rows] == list(expected)
    database.close()
