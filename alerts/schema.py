"""The tables of `tailrace.db` and how an older file becomes a newer one.

`PRAGMA user_version` is the number of migrations applied. A migration that was released is never
changed; a new one is appended.
"""

from __future__ import annotations

import sqlite3

MIGRATIONS = (
    """
    -- The detector's findings: one row each, its latest state
    CREATE TABLE findings (
        id           TEXT PRIMARY KEY,
        client       TEXT NOT NULL,
        server       TEXT NOT NULL,
        port         INTEGER NOT NULL,
        transport    TEXT NOT NULL,
        signal       TEXT NOT NULL,
        direction    TEXT NOT NULL,
        onset        REAL NOT NULL,
        detected     REAL NOT NULL,
        before       REAL,
        after        REAL,
        ratio        REAL,
        unit         TEXT NOT NULL,
        significance REAL,
        cause        TEXT NOT NULL,
        state        TEXT NOT NULL,
        ended        REAL,
        evidence     TEXT NOT NULL,  -- JSON object, in the order `tailrace explain` shows
        alert_id     TEXT,           -- null: it had ended before it was first stored
        created      REAL NOT NULL,
        updated      REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX findings_detected ON findings (detected);
    CREATE INDEX findings_ended ON findings (ended);
    CREATE INDEX findings_alert ON findings (alert_id);

    CREATE TABLE alerts (
        id          TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        state       TEXT NOT NULL,
        severity    TEXT NOT NULL,
        started     REAL NOT NULL,
        resolved    REAL,
        updated     REAL NOT NULL,
        alert       TEXT NOT NULL   -- the public form, JSON
    ) WITHOUT ROWID;
    -- Deduplication as an invariant: one firing alert of a fingerprint
    CREATE UNIQUE INDEX alerts_firing ON alerts (fingerprint) WHERE state = 'firing';
    CREATE INDEX alerts_started ON alerts (started);

    -- The outbox: one row per receiver and change of state, in order of `sequence`
    CREATE TABLE deliveries (
        sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
        id        TEXT NOT NULL UNIQUE,  -- the message's id, the same in every attempt
        receiver  TEXT NOT NULL,
        alert_id  TEXT NOT NULL,
        event     TEXT NOT NULL,         -- firing | resolved
        payload   TEXT NOT NULL,         -- the alert as it was then, JSON
        created   REAL NOT NULL,
        due       REAL NOT NULL,
        state     TEXT NOT NULL,         -- pending | sent | dropped
        attempts  INTEGER NOT NULL,
        reason    TEXT NOT NULL,         -- of the latest failure
        detail    TEXT NOT NULL,
        attempted REAL,
        finished  REAL,
        receipt   TEXT NOT NULL          -- what the receiver gave back, JSON object
    );
    CREATE INDEX deliveries_pending ON deliveries (receiver, sequence) WHERE state = 'pending';
    CREATE INDEX deliveries_alert ON deliveries (alert_id, receiver);

    CREATE TABLE receivers (
        name          TEXT PRIMARY KEY,
        last_success  REAL,
        last_failure  REAL,
        last_error    TEXT NOT NULL,     -- "" when the latest attempt succeeded
        disabled      INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE snapshots (name TEXT PRIMARY KEY, data BLOB NOT NULL, saved REAL NOT NULL);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    "ALTER TABLE findings ADD COLUMN side TEXT NOT NULL DEFAULT '';",
    """
    -- Why receivers are not told of an alert; "" when they are. The incident it belongs to
    ALTER TABLE alerts ADD COLUMN held TEXT NOT NULL DEFAULT '';
    ALTER TABLE alerts ADD COLUMN incident TEXT;

    -- The budget of false alerts: its incidents. Its tokens are in meta, under "budget"
    CREATE TABLE incidents (
        id       TEXT PRIMARY KEY,
        opened   REAL NOT NULL,
        standing TEXT NOT NULL,      -- paid | proven | free | held
        proof    TEXT NOT NULL,      -- corroborated | lasted | confirmed | ""
        verdict  TEXT NOT NULL,      -- the user's: confirmed | dismissed | ""
        open     INTEGER NOT NULL,   -- whether anything can still come of it
        incident TEXT NOT NULL       -- all of it, JSON
    ) WITHOUT ROWID;
    CREATE INDEX incidents_opened ON incidents (opened);
    CREATE INDEX incidents_open ON incidents (open) WHERE open;

    CREATE TABLE digests (id TEXT PRIMARY KEY, made REAL NOT NULL, digest TEXT NOT NULL)
        WITHOUT ROWID;

    -- What users said of alerts; written beside the daemon, which takes it up
    CREATE TABLE verdicts (
        alert_id TEXT PRIMARY KEY,
        verdict  TEXT NOT NULL,      -- confirmed | dismissed
        given    REAL NOT NULL,
        taken    INTEGER NOT NULL    -- whether the daemon has taken it up
    ) WITHOUT ROWID;

    -- The feed of changes: significant at a false discovery rate, shown, never told
    CREATE TABLE changes (
        id        TEXT PRIMARY KEY,
        client    TEXT NOT NULL,
        server    TEXT NOT NULL,
        port      INTEGER NOT NULL,
        transport TEXT NOT NULL,
        signal    TEXT NOT NULL,
        direction TEXT NOT NULL,
        onset     REAL NOT NULL,
        seen      REAL NOT NULL,     -- the latest window in which it was significant
        ended     REAL,              -- null while it is
        peak      REAL NOT NULL,     -- most evidence, nats
        before    REAL,
        after     REAL               -- at the peak
    ) WITHOUT ROWID;
    CREATE INDEX changes_seen ON changes (seen);
    """,
    """
    -- Incidents take the place of alerts. What still fires opens incidents when the daemon starts;
    -- messages about alerts that were not delivered are given up, and the tokens stay
    UPDATE deliveries SET state = 'dropped', reason = 'upgraded', finished = created
        WHERE state = 'pending';
    DROP TABLE alerts;
    DROP TABLE incidents;
    DROP TABLE verdicts;
    DELETE FROM digests;
    DROP INDEX findings_alert;
    DROP INDEX deliveries_alert;
    ALTER TABLE findings RENAME COLUMN alert_id TO incident_id;
    ALTER TABLE deliveries RENAME COLUMN alert_id TO incident_id;  -- of a digest: its own id
    UPDATE findings SET incident_id = NULL;
    ALTER TABLE findings ADD COLUMN lasted INTEGER NOT NULL DEFAULT 0;  -- with a plain effect
    CREATE INDEX findings_incident ON findings (incident_id);
    CREATE INDEX deliveries_incident ON deliveries (incident_id, receiver);

    CREATE TABLE incidents (
        id         TEXT PRIMARY KEY,
        state      TEXT NOT NULL,    -- pending | firing | recovering | resolved
        severity   TEXT NOT NULL,
        suppressed TEXT NOT NULL,    -- why nobody is told; "" when people are
        started    REAL NOT NULL,
        resolved   REAL,
        updated    REAL NOT NULL,
        incident   TEXT NOT NULL     -- the public form, JSON
    ) WITHOUT ROWID;
    CREATE INDEX incidents_started ON incidents (started);
    CREATE INDEX incidents_open ON incidents (state) WHERE state != 'resolved';

    -- The budget of false alerts: what each incident cost. Its tokens are in meta, under "budget"
    CREATE TABLE accounts (
        incident_id TEXT PRIMARY KEY,
        opened      REAL NOT NULL,
        standing    TEXT NOT NULL,   -- paid | proven | free | held
        verdict     TEXT NOT NULL,   -- the user's: confirmed | dismissed | ""
        open        INTEGER NOT NULL,  -- whether anything can still come of it
        account     TEXT NOT NULL    -- all of it, JSON
    ) WITHOUT ROWID;
    CREATE INDEX accounts_opened ON accounts (opened);
    CREATE INDEX accounts_open ON accounts (open) WHERE open;

    -- What users said of incidents; written beside the daemon, which takes it up
    CREATE TABLE verdicts (
        incident_id TEXT PRIMARY KEY,
        verdict     TEXT NOT NULL,   -- confirmed | dismissed
        given       REAL NOT NULL,
        taken       INTEGER NOT NULL -- whether the daemon has taken it up
    ) WITHOUT ROWID;
    """,
    """
    -- What users want to hear nothing of for a while; written beside the daemon, which reads it
    CREATE TABLE silences (
        id       TEXT PRIMARY KEY,
        author   TEXT NOT NULL,
        comment  TEXT NOT NULL,
        matchers TEXT NOT NULL,      -- JSON array of text, e.g. ["service=redis"]
        created  REAL NOT NULL,
        starts   REAL NOT NULL,
        ends     REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX silences_ends ON silences (ends);

    -- The notification log: what each receiver was told last of each incident
    CREATE TABLE notifications (
        incident TEXT NOT NULL,
        receiver TEXT NOT NULL,
        event    TEXT NOT NULL,      -- firing | updated | resolved
        told     REAL NOT NULL,
        severity TEXT NOT NULL,      -- of the incident, as it was then
        digest   TEXT NOT NULL,      -- of what matters of the incident, as it was then
        sequence INTEGER NOT NULL,   -- how many messages that makes
        PRIMARY KEY (incident, receiver)
    ) WITHOUT ROWID;
    """,
)
VERSION = len(MIGRATIONS)


def version(db: sqlite3.Connection) -> int:
    """Return the schema version of an open file; 0 for a new one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    """Bring a file up to `VERSION`, each step whole or not at all."""
    for done in range(version(db), VERSION):
        # executescript ends an open transaction, so the script brings its own
        db.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[done]} PRAGMA user_version = {done + 1}; COMMIT;"
        )
