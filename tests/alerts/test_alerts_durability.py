"""Crashes, full disks, foreign and damaged files, two daemons: nothing stored is ever lost."""

import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

from alerts import schema
from alerts.errors import StoreError
from alerts.outbox import message_id
from alerts.store import Store
from tests.alerts.examples import T0, commit, finding, numbered, written
from tests.servers.base import Answer
from tests.servers.webhook import SECRET, WebhookServer
from tests.support.disks import small_disk

ROOT = Path(__file__).parents[2]

DAEMON = """
    import sys, time
    from pathlib import Path
    from alerts.deliver import Backoff, Deliverer
    from alerts.receivers import make_receiver
    from alerts.store import Store
    from tests.alerts.examples import commit, ended, numbered, webhook_settings

    state_dir, url, secret_file, steps = sys.argv[1:]
    with Store.open(Path(state_dir)) as store:
        receiver = make_receiver(webhook_settings(url, secret_file=Path(secret_file)))
        deliverer = Deliverer(store, [receiver], backoff=Backoff(first_s=0.02, cap_s=0.1))
        deliverer.start()
        # The snapshot is the detector's position: it goes on where it was, as the daemon does
        for step in range(int(store.snapshot() or b"0"), int(steps)):
            findings = [numbered(step)]
            if step >= 2:
                findings.append(ended(numbered(step - 2)))
            commit(store, findings, snapshot=b"%d" % (step + 1), now=time.time())
            deliverer.wake()
            print(step, flush=True)
        while any(each.pending for each in deliverer.health().values()):
            time.sleep(0.01)
        deliverer.stop(5.0)
"""


def start_daemon(state_dir, url, secret_file, *, steps):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(DAEMON),
            str(state_dir),
            url,
            str(secret_file),
            str(steps),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("seed", range(2))
def test_kill_at_random_moments_loses_nothing_and_repeats_only_under_the_same_id(tmp_path, seed):
    chance = random.Random(seed)
    steps, kills = 150, 0
    secret_file = written(tmp_path / "secret", SECRET)
    state_dir = tmp_path / "state"
    with WebhookServer() as server:

        def moody(request, original=server.answer):
            if chance.random() < 0.1:
                return Answer(status=chance.choice([500, 503, 429]))
            answer = original(request)
            # Taken, but the sender never hears of it: it must come again under its id
            return Answer(hang_up=True) if chance.random() < 0.05 else answer

        server.answer = moody
        while kills < 12:
            with start_daemon(state_dir, server.url, secret_file, steps=steps) as daemon:
                before = len(daemon.stdout.readline())
                time.sleep(chance.uniform(0.0, 0.25))
                killed = daemon.poll() is None
                daemon.send_signal(signal.SIGKILL)
                daemon.communicate()
            kills += killed
            if not killed and not before:
                break
        with start_daemon(state_dir, server.url, secret_file, steps=steps) as daemon:
            _, errors = daemon.communicate(timeout=30)
        assert (daemon.returncode, errors) == (0, "")
    assert kills >= 5
    with Store.open(state_dir) as store:
        assert store.snapshot() == b"%d" % steps
        assert {one.id for one in store.findings()} == {numbered(n).id for n in range(steps)}
        assert [incident.state for incident in store.incidents()] == ["resolved"] * (steps - 2) + [
            "firing"
        ] * 2
        assert {row.state for row in store.outbox.deliveries()} == {"sent"}
        owed = {row.id for row in store.outbox.deliveries()}
    # Every message arrived, under the one id that its incident and change of state have
    arrived = defaultdict(list)
    for received in server.accepted:
        incident = received.body["data"]
        assert received.id == message_id(
            incident["id"],
            incident["state"],
            "pager",
            number=1 if incident["state"] == "firing" else 2,
        )
        arrived[incident["id"]].append(incident["state"])
    assert {received.id for received in server.accepted} == owed
    assert len(owed) == 2 * steps - 2
    for states in arrived.values():
        assert states == sorted(states)  # firing, however often, before resolved
    bodies = defaultdict(set)
    for received in server.accepted:
        bodies[received.id].add(str(received.body))
    assert {len(same) for same in bodies.values()} == {1}


def test_a_second_daemon_is_refused_until_the_first_is_gone(tmp_path):
    script = """
        import sys, time
        from pathlib import Path
        from alerts.store import Store
        store = Store.open(Path(sys.argv[1]))
        print("open", flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout.readline() == "open\n"
        with pytest.raises(
            StoreError, match=rf"process {first.pid}\) is using .*stop it"
        ) as caught:
            Store.open(tmp_path)
        assert caught.value.reason == "locked"
        with Store.open(tmp_path, read_only=True) as reader:
            assert reader.findings() == []
        first.kill()
        first.wait()
    Store.open(tmp_path).close()


def test_two_stores_in_one_process_exclude_each_other_too(tmp_path):
    with Store.open(tmp_path), pytest.raises(StoreError, match="another tailrace"):
        Store.open(tmp_path)


def test_a_newer_schema_is_left_alone(tmp_path):
    with Store.open(tmp_path) as store:
        commit(store, [finding()], snapshot=None, now=T0)
    db = sqlite3.connect(tmp_path / "tailrace.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (tmp_path / "tailrace.db").read_bytes()
    for read_only in (False, True):
        with pytest.raises(
            StoreError, match=rf"schema 99, this tailrace knows {schema.VERSION}: upgrade"
        ) as caught:
            Store.open(tmp_path, read_only=read_only)
        assert caught.value.reason == "newer_schema"
    assert (tmp_path / "tailrace.db").read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_left_alone(tmp_path, read_only):
    (tmp_path / "tailrace.db").write_bytes(b"no database " * 1000)
    with pytest.raises(StoreError, match="damaged: restore it from a backup") as caught:
        Store.open(tmp_path, read_only=read_only)
    assert caught.value.reason == "corrupt"
    assert (tmp_path / "tailrace.db").read_bytes() == b"no database " * 1000


def test_another_programs_database_is_left_alone(tmp_path):
    db = sqlite3.connect(tmp_path / "tailrace.db")
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreError, match="another program"):
        Store.open(tmp_path)


def test_a_damaged_page_is_noticed_when_the_daemon_starts(tmp_path):
    with Store.open(tmp_path) as store:
        commit(store, [numbered(n) for n in range(300)], snapshot=None, now=T0)
    path = tmp_path / "tailrace.db"
    whole = bytearray(path.read_bytes())
    whole[3 * 4096 : 4 * 4096] = os.urandom(4096)
    path.write_bytes(whole)
    with pytest.raises(StoreError, match="damaged") as caught:
        Store.open(tmp_path)
    assert caught.value.reason == "corrupt"


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the state directory .*check its owner"):
        Store.open(tmp_path / "file" / "state")


def test_a_reader_without_a_daemon_ever(tmp_path):
    with pytest.raises(StoreError, match="has the daemon run") as caught:
        Store.open(tmp_path, read_only=True)
    assert caught.value.reason == "missing"
    assert list(tmp_path.iterdir()) == []


READER = """
    import os, sys
    from pathlib import Path
    from alerts.store import Store
    os.setgid(65534)
    os.setuid(65534)
    with Store.open(Path(sys.argv[1]), read_only=True) as store:
        print(len(store.findings()), len(store.incidents()))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("daemon", ["running", "stopped", "killed"])
def test_somebody_who_may_only_read_can_report(daemon):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        store = Store.open(path)
        commit(store, [finding()], snapshot=None, now=T0)
        if daemon == "killed":  # as the files are left behind: copied while open
            copy = path / "killed"
            copy.mkdir()
            for file in path.glob("tailrace.db*"):
                (copy / file.name).write_bytes(file.read_bytes())
        if daemon != "running":
            store.close()
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                textwrap.dedent(READER),
                str(copy if daemon == "killed" else path),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        store.close()
    assert (result.stdout, result.stderr) == ("1 1\n", "")


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", megabytes=1) as path:
        yield path


def fill(store):
    """Commit until nothing more fits; return how many steps were stored, and why."""
    for number in range(10_000):
        try:
            commit(store, [numbered(number)], snapshot=b"%d" % number * 500, now=T0)
        except StoreError as error:
            return number, error
    raise AssertionError("the disk never filled")


def check_full_then_freed(store, path, free):
    stored, error = fill(store)
    assert (stored > 5, error.reason) == (True, "disk_full")
    assert "free some space" in str(error)
    expected = {numbered(n).id for n in range(stored)}
    assert {one.id for one in store.findings()} == expected
    assert store.snapshot() == b"%d" % (stored - 1) * 500
    with Store.open(path, read_only=True) as reader:
        assert {one.id for one in reader.findings()} == expected
    free()
    [incident] = commit(store, [numbered(stored)], snapshot=b"after", now=T0)
    assert incident.state == "firing"
    store.close()
    with Store.open(path) as again:
        assert len(again.findings()) == stored + 1
        assert again.snapshot() == b"after"
        assert len(again.outbox.deliveries(state="pending")) == stored + 1


def test_a_full_disk_loses_nothing_and_goes_on_once_there_is_room(disk):
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 200_000)
    store = Store.open(disk)
    store.register_receivers(["pager"])
    check_full_then_freed(store, disk, ballast.unlink)


def test_a_full_database_loses_nothing_and_goes_on_once_there_is_room(tmp_path):
    store = Store.open(tmp_path)
    store.register_receivers(["pager"])
    db = store._database._db
    db.execute("PRAGMA max_page_count = 60")
    check_full_then_freed(store, tmp_path, lambda: db.execute("PRAGMA max_page_count = 100000"))


def test_a_daemon_that_starts_on_a_full_disk_says_so(disk):
    with contextlib.suppress(OSError):
        (disk / "ballast").write_bytes(b"x" * 1_100_000)
    with pytest.raises(StoreError, match="no room left") as caught:
        Store.open(disk)
    assert caught.value.reason == "disk_full"


def _read_until(path, stop, seen):
    with Store.open(Path(path), read_only=True) as reader:
        while not stop.is_set():
            findings, incidents = reader.findings(), reader.incidents()
            if len(incidents) < len(findings):  # findings were read first, and are never ahead
                seen.value = -1
                return
            seen.value = max(seen.value, len(findings))


def test_another_process_reads_whole_steps_while_the_daemon_writes(tmp_path):
    context = multiprocessing.get_context("spawn")
    stop, seen = context.Event(), context.Value("i", 0)
    with Store.open(tmp_path) as store:
        reader = context.Process(target=_read_until, args=(str(tmp_path), stop, seen))
        reader.start()
        slowest_s = 0.0
        number = 0
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (seen.value < 50 or number < 100):
            started = time.monotonic()
            commit(store, [numbered(number)], snapshot=b"x" * 50_000, now=T0)
            slowest_s = max(slowest_s, time.monotonic() - started)
            number += 1
        stop.set()
        reader.join(10)
    assert reader.exitcode == 0
    assert seen.value >= 50
    assert slowest_s < 5.0
    reader.close()


def test_threads_share_a_store(tmp_path):
    with Store.open(tmp_path) as store:
        store.register_receivers(["pager"])
        failures = []

        def work(base):
            try:
                for number in range(base, base + 25):
                    commit(store, [numbered(number)], snapshot=None, now=T0)
                    store.findings(client=f"client-{number}")
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(base,)) for base in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(store.findings()) == len(store.outbox.deliveries()) == 75
