"""The live page by plain HTTP: who is refused and how, what is sent, and what it may not touch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from alerts import silences
from tailrace.config_page import Page
from tailrace.errors import TailraceError
from tailrace.page.beside import Beside
from tailrace.simulation.scenario import Pairs
from tests.support.page_scene import Scene, scene

ROOT = Path(__file__).parents[2]
SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
HOSTILE = Pairs(client=SCRIPT, server=IMAGE, requests=5)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A shop whose database has become slow, and people are told of it."""
    directory = tmp_path_factory.mktemp("page") / "state"
    with scene(directory, before_s=200, more=[HOSTILE]) as made:
        made.feed(150)
        made.feed_until(lambda: bool(made.incidents()))
        yield made


def base_of(page: Beside) -> str:
    return page.url.partition("?")[0]


@pytest.fixture(scope="module")
def visitor(shop: Scene) -> Iterator[httpx.Client]:
    """One who came by the right address."""
    with httpx.Client(base_url=base_of(shop.page), timeout=30) as client:
        entered = client.get(shop.page.url)
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        yield client


def form_of(client: httpx.Client) -> str:
    found = re.search(r'name="form" value="(\w+)"', client.get("/silences").text)
    assert found
    return found[1]


def test_the_culprit_is_named_first(visitor: httpx.Client) -> None:
    text = re.sub(r"<[^>]*>|\s+", " ", visitor.get("/").text)
    said = " ".join(text.split())
    for part in ("Probable cause postgres", "request latency of", "Impact", "began"):
        assert part in said
    assert said.index("Probable cause postgres") < said.index("Who calls whom")


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/", {"Host": "evil.example"}, 403, "not called 'evil.example'"),
        ("/static/page.js", {"Host": "evil.example:9465"}, 403, "[page] hosts"),
        ("/", {"Host": "192.0.2.1"}, 403, "not called"),
        ("/", {"Host": "127.0.0.1@evil.example"}, 403, "not called"),
        ("/", {"Host": ""}, 403, "not called"),
        ("/", {"Sec-Fetch-Site": "cross-site"}, 403, "comes from another site"),
        ("/", {"Sec-Fetch-Site": "same-site"}, 403, "comes from another site"),
        ("/events?of=/", {"Origin": "http://evil.example"}, 403, "comes from another site"),
        ("/", {"Origin": "null"}, 403, "comes from another site"),
        ("/?token=0123", {}, 401, "not the one of this page"),
        ("/nowhere", {}, 404, "nothing at this address"),
        ("/pair?client=a&server=b&port=x", {}, 404, "nothing at this address"),
        ("/incidents/0123456789abcdef", {}, 404, "nothing at this address"),
        ("/static/..%2fkeys.py", {}, 404, ""),
        ("/static/app.py", {}, 404, "nothing at this address"),
    ],
)
def test_refused(
    visitor: httpx.Client, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    """Even of a visitor who is known."""
    answer = visitor.get(path, headers=headers)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert "postgres" not in answer.text


@pytest.mark.parametrize(
    "cookie", ["", "x", f"{time.time() + 1e6:.0f}.0011223344556677.{'0' * 40}"]
)
def test_strangers_are_told_where_to_get_the_token(shop: Scene, cookie: str) -> None:
    base = base_of(shop.page)
    cookies = {f"tailrace-{urlsplit(base).port}": cookie}
    with httpx.Client(base_url=base, timeout=30, cookies=cookies) as stranger:
        for path in ("/", "/incidents", "/events?of=/", "/nowhere"):
            answer = stranger.get(path)
            assert answer.status_code == 401
            assert "`tailrace page` prints it again" in answer.text
        answer = stranger.post(
            "/silences", data={"matchers": "service=a"}, headers={"Origin": base}
        )
        assert answer.status_code == 401


def test_forms_must_be_ours(shop: Scene, visitor: httpx.Client) -> None:
    base = base_of(shop.page).rstrip("/")
    form = form_of(visitor)
    asked = {"matchers": "service=redis", "length": "1h", "author": "me", "comment": "test"}
    ours = {"Origin": base}
    for data, headers, status, words in (
        (asked | {"form": form}, {}, 403, "Origin or Sec-Fetch-Site"),
        (asked | {"form": form}, {"Origin": "http://127.0.0.1:1"}, 403, "another site"),
        (asked | {"form": form}, ours | {"Sec-Fetch-Site": "same-site"}, 403, "another site"),
        (asked, ours, 403, "not one of this page's"),
        (asked | {"form": "0" * 40}, ours, 403, "not one of this page's"),
        (asked | {"form": form, "comment": "x" * 9000}, ours, 413, "at most 8192 bytes"),
        ({str(n): "" for n in range(30)}, ours, 400, "too many fields"),
    ):
        answer = visitor.post("/silences", data=data, headers=headers)
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
    answer = visitor.post("/silences", json=asked, headers=ours)
    assert (answer.status_code, "urlencoded" in answer.text) == (415, True)
    assert visitor.put("/silences", headers=ours).status_code == 405
    assert silences.stored(shop.state_dir) == []


def test_a_silence_is_made_as_by_the_command_line(shop: Scene, visitor: httpx.Client) -> None:
    headers = {"Origin": base_of(shop.page).rstrip("/")}
    form = {"form": form_of(visitor), "length": "1h", "author": "Ann", "comment": "moving it"}
    for wrong, words in (
        ("", "it would silence everything"),
        ("server=~.*", "it would silence everything"),
        ("serivce=redis", "did you mean &#39;service&#39;?"),
        ("'service=redis", "cannot be read"),
    ):
        answer = visitor.post("/silences", data=form | {"matchers": wrong}, headers=headers)
        assert (answer.status_code, words in answer.text) == (422, True), answer.text
        assert 'value="Ann"' in answer.text  # what was written is not lost
    asked = form | {"matchers": "service=redis 'client=the shop'"}
    answer = visitor.post("/silences", data=asked, headers=headers)
    assert answer.status_code == 303
    [made] = silences.stored(shop.state_dir)
    assert [str(each) for each in made.matchers] == ["service=redis", "client=the shop"]
    assert (made.author, made.comment, made.ends - made.starts) == ("Ann", "moving it", 3600.0)
    listed = visitor.get(answer.headers["location"]).text
    assert "moving it" in listed
    ended = visitor.post(f"/silences/{made.id}/end", data={"form": form["form"]}, headers=headers)
    assert ended.status_code == 303
    assert silences.stored(shop.state_dir, after=time.time()) == []
    again = visitor.post(f"/silences/{made.id}/end", data={"form": form["form"]}, headers=headers)
    assert (again.status_code, "over already" in again.text) == (422, True)


def test_what_every_answer_carries(visitor: httpx.Client) -> None:
    answers = [visitor.get(path) for path in ("/", "/static/page.css", "/static/draw.css")]
    answers.append(visitor.get("/", headers={"Host": "evil.example"}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


def test_the_cookie_is_for_nobody_else(shop: Scene) -> None:
    said = httpx.get(shop.page.url).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in said.split(";")}
    assert shop.page.url.partition("token=")[2] not in said


def test_hostile_names_are_text(visitor: httpx.Client) -> None:
    pair = f"/pair?client={SCRIPT}&server={IMAGE}&port=8080"
    for path in ("/", "/pairs", f"/pairs?q={SCRIPT}", pair, "/pairs?q=alert&sort=requests"):
        text = visitor.get(path).text
        assert "&lt;script&gt;alert(1)" in text, path
        for raw in ("<script>alert", "<img"):
            assert raw not in text, path
    assert visitor.get("/pairs?q=nobody").text.count("<tr") == 1


def events_of(visitor: httpx.Client, path: str) -> str:
    """Return where a view says what changes in it, from what its page already has."""
    found = re.search(r'data-events="([^"]*)"', visitor.get(path).text)
    assert found
    return found[1].replace("&amp;", "&")


@contextlib.contextmanager
def stream(
    visitor: httpx.Client, address: str, headers: dict[str, str] | None = None
) -> Iterator[Iterator[dict[str, Any]]]:
    with visitor.stream("GET", address, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (
            json.loads(line.removeprefix("data: "))
            for line in answer.iter_lines()
            if line.startswith("data: ")
        )


def test_only_what_changed_is_sent(shop: Scene, visitor: httpx.Client) -> None:
    address = events_of(visitor, "/pairs?q=postgres")
    shop.feed()
    with stream(visitor, address) as said:
        # three pairs are found and have other numbers; nothing else is another
        first = next(said)
        assert set(first) == {"lists"}
        shop.feed()
        second = next(said)
    assert set(second) == {"lists"}
    assert set(second["lists"]["pairs"]) == {"cells"}
    assert 1 <= len(second["lists"]["pairs"]["cells"]) <= 3
    # after an interruption nobody knows what the browser has
    with stream(visitor, address, {"Last-Event-ID": "1"}) as said:
        again = next(said)
    assert set(again["parts"]) == {"count", "pages"}
    assert len(again["lists"]["pairs"]["order"]) == len(again["lists"]["pairs"]["rows"]) == 3


def test_what_cannot_be_read_is_said_and_not_taken_for_calm(tmp_path: Path) -> None:
    tmp_path.joinpath("tailrace.db").write_text("not a database, " * 100)
    with Beside(Page(listen="127.0.0.1:0"), tmp_path, warning=pytest.fail) as page:
        shown = httpx.get(page.url, follow_redirects=False, timeout=30)
        shown = httpx.get(page.url.partition("?")[0], cookies=shown.cookies, timeout=30)
    assert shown.status_code == 200
    assert "Not live:" in shown.text
    assert "Whether something is wrong is not known" in shown.text
    assert "Nothing is wrong" not in shown.text


def test_a_pair_before_and_after(visitor: httpx.Client) -> None:
    text = visitor.get("/pair?client=catalogue&server=postgres&port=5432").text
    assert re.search(r"request latency up: 1\.\d ms → \d+\.\d ms", text)
    for part in ("onset", "baseline: 90 % of the hour before", "Time in the server",
                 "seen by the server", "Request latency, 99th percentile"):  # fmt: skip
        assert part in text


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    tasks = Path(f"/proc/{pid}/task").iterdir()
    for task in tasks:
        found += (task / "children").read_text().split()
    return sorted({int(each) for each in found})


def page_process(page: Beside) -> int:
    process = page._process
    assert process is not None
    return process.pid


def wait_until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_the_pages_process_may_do_next_to_nothing(shop: Scene, visitor: httpx.Client) -> None:
    visitor.get("/")
    said = Path(f"/proc/{page_process(shop.page)}/status").read_text()
    assert re.search(r"CapEff:\s+0+\n", said)
    assert re.search(r"CapPrm:\s+0+\n", said)
    assert re.search(r"NoNewPrivs:\s+1\n", said)


def test_what_happens_to_the_page_does_not_happen_to_the_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.page.beside.AGAIN_AFTER_S", 0.0)
    with scene(tmp_path / "state", before_s=100) as made:
        made.feed(2)
        with httpx.Client(base_url=base_of(made.page), timeout=30) as client:
            assert client.get(made.page.url).status_code == 303
            assert client.get("/").status_code == 200
            # more connections than it takes, which say nothing
            address = urlsplit(made.page.url)
            flood = [socket.create_connection((address.hostname, address.port)) for _ in range(200)]
            made.feed()
            for each in flood:
                each.close()
            wait_until(lambda: client.get("/pairs").status_code == 200, "an answer")
        os.kill(page_process(made.page), signal.SIGKILL)
        made.feed()
        # the cookie is still good: it is not the process that knows it
        wait_until(lambda: made.voice.warnings, "a warning")
        assert "ended by itself (signal 9)" in made.voice.warnings[0]
        assert httpx.get(made.page.url, timeout=30).status_code == 303
        made.feed()


def test_the_pages_process_is_there_while_somebody_looks(tmp_path: Path) -> None:
    tmp_path.joinpath("state").mkdir()
    settings, said = Page(listen="127.0.0.1:0"), list[str]()
    with Beside(settings, tmp_path / "state", warning=said.append, idle_s=0.2) as page:
        assert page._process is None
        for _ in range(2):
            answer = httpx.get(page.url, timeout=30, follow_redirects=False)
            assert answer.status_code == 303
            wait_until(lambda: page._process is None, "its end")
    assert said == []  # it ended as it should


def test_the_pages_process_ends_with_the_daemon(tmp_path: Path) -> None:
    daemon = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from tailrace.config_page import Page
        from tailrace.page.beside import Beside
        page = Beside(Page(listen="127.0.0.1:0"), Path({str(tmp_path)!r}), warning=print)
        print(page.url, flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", daemon], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(url, timeout=30).status_code == 303
        [served] = children(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not Path(f"/proc/{served}").exists(), "the end of the page's process")


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TailraceError, match=f"cannot listen at {listen}: Address already in"):
            Beside(Page(listen=listen), tmp_path, warning=pytest.fail)


def test_a_password_in_place_of_the_token(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    settings = Page(listen="127.0.0.1:0", password_file=tmp_path / "password",
                    hosts=("tailrace.example.com",))  # fmt: skip
    with Beside(settings, state_dir, warning=pytest.fail) as page:
        assert "token" not in page.url
        ours = {"Origin": page.url.rstrip("/")}
        with httpx.Client(base_url=page.url, timeout=30) as client:
            assert client.get("/").headers["location"] == "/login"
            assert client.get(f"/?token={'0' * 40}").headers["location"] == "/login"
            wrong = client.post("/login", data={"password": "correct"}, headers=ours)
            assert (wrong.status_code, "not the password" in wrong.text) == (401, True)
            assert client.get("/").status_code == 303
            stolen = client.post("/login", data={"password": "correct horse"},
                                 headers={"Origin": "http://evil.example"})  # fmt: skip
            assert stolen.status_code == 403
            right = client.post("/login", data={"password": "correct horse"}, headers=ours)
            assert (right.status_code, right.headers["location"]) == (303, "/")
            shown = client.get("/")
            assert (shown.status_code, "no daemon is running" in shown.text) == (200, True)
            named = client.get("/login", headers={"Host": "tailrace.example.com"})
            assert named.status_code == 200
