"""What is configured about the live page, and what `tailrace run` and `page` make of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from probes.window import Window
from tailrace import config
from tailrace.cli import main
from tailrace.config_page import DEFAULT_LISTEN, address_of, is_loopback
from tailrace.errors import ConfigError
from tailrace.page.keys import FILE, Keys
from tests.program.test_run_injected import play  # noqa: F401 - a fixture
from tests.program.windows import traffic


def test_by_default_this_host_only() -> None:
    page = config.Config().page
    assert (page.enabled, page.listen, page.password_file) == (True, DEFAULT_LISTEN, None)
    assert is_loopback(page.listen)


@pytest.mark.parametrize(
    ("listen", "address", "loopback"),
    [
        ("127.0.0.1:9465", ("127.0.0.1", 9465), True),
        ("localhost:0", ("127.0.0.1", 0), True),
        ("127.1.2.3:80", ("127.1.2.3", 80), True),
        ("[::1]:9465", ("::1", 9465), True),
        ("0.0.0.0:9465", ("0.0.0.0", 9465), False),
        ("[::]:9465", ("::", 9465), False),
        ("192.0.2.7:9465", ("192.0.2.7", 9465), False),
    ],
)
def test_where_it_listens(listen: str, address: tuple[str, int], loopback: bool) -> None:
    assert address_of(listen) == address
    assert is_loopback(listen) is loopback


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('listen = "0.0.0.0:9465"', "open to other hosts on 0.0.0.0:9465 without a password"),
        ('listen = "[::]:9465"', "without a password: name a file with one as password_file"),
        ('listen = "192.0.2.7:9465"', "without a password"),
        ('listen = "9465"', "'9465' is no address and port: write it like"),
        ("listen = 9465", "an address and port as text"),
        ('listen = "example.com:80"', "'example.com' is not an address"),
        ('listen = "127.0.0.1:99999"', "99999 is no port"),
        ('hosts = ["http://tailrace.example.com"]', "without scheme and port"),
        ('pasword_file = "x"', "did you mean `password_file`?"),
    ],
)
def test_mistakes(file: Path, written: str, said: str) -> None:
    file.write_text(f"[page]\n{written}\n")
    with pytest.raises(ConfigError) as caught:
        config.read(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_password_is_needed_only_by_a_page_that_is_served(file: Path) -> None:
    file.write_text('[page]\nenabled = false\nlisten = "0.0.0.0:9465"\n')
    assert config.read(file).page.enabled is False


def test_the_passwords_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('[page]\nlisten = "0.0.0.0:9465"\npassword_file = "page.password"\n')
    password = file.parent / "page.password"
    read = config.read(file)
    assert read.page.password_file == password
    for content, said in ((None, "cannot read"), ("\n", "is empty")):
        if content is not None:
            password.write_text(content)
        with pytest.raises(ConfigError) as caught:
            config.check_files(read)
        assert f"[page], key `password_file`: {said}" in str(caught.value).replace(
            f"{password} ", ""
        )
    password.write_text("correct horse\n")
    config.check_files(read)
    assert main(["config", "show", "--config", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "correct horse" not in shown
    file.write_text(shown)
    assert config.read(file).page == read.page


def test_the_daemon_says_where_the_page_is(
    file: Path,
    play: Callable[[Iterable[Window]], None],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    state_dir = file.parent / "state"
    file.write_text('[page]\nlisten = "127.0.0.1:0"\n')
    options = ["--config", str(file), "--state-dir", str(state_dir)]
    play(traffic(5))
    assert main(["page", *options]) == 2
    assert "no live page was ever served from it" in capsys.readouterr().err
    assert main(["run", *options]) == 0
    token = Keys.of(state_dir).token
    said = capsys.readouterr().err
    assert "live page: http://127.0.0.1:" in said
    assert f"/?token={token}" in said
    assert (state_dir / FILE).stat().st_mode & 0o077 == 0
    assert main(["page", *options]) == 0
    assert capsys.readouterr().out == f"http://127.0.0.1:0/?token={token}\n"


def test_the_daemon_goes_on_without_the_page(
    file: Path,
    play: Callable[[Iterable[Window]], None],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file.write_text(f'[page]\nlisten = "127.0.0.1:{taken.getsockname()[1]}"\n')
        play(traffic(5))
        options = ["--config", str(file), "--state-dir", str(file.parent / "state")]
        assert main(["run", *options]) == 0
    said = capsys.readouterr().err
    assert "no live page" in said
    assert "Address already in use" in said
    assert "stopped; what was learned is kept" in said


def test_no_page_is_served_when_none_is_wanted(
    file: Path,
    play: Callable[[Iterable[Window]], None],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    file.write_text("[page]\nenabled = false\n")
    play(traffic(5))
    options = ["--config", str(file), "--state-dir", str(file.parent / "state")]
    assert main(["run", *options]) == 0
    assert "live page" not in capsys.readouterr().err
    assert not (file.parent / "state" / FILE).exists()
    assert main(["page", *options]) == 2
    assert "remedy: set enabled = true" in capsys.readouterr().err


def test_keys(tmp_path: Path) -> None:
    keys, same = Keys.of(tmp_path), Keys.of(tmp_path)
    session = keys.session(1000.0)
    assert same.token == keys.token
    assert same.is_session(session, 1001.0)
    assert not same.is_session(session, 1000.0 + 8 * 86_400)  # it ends
    assert not same.is_session(session[:-1] + ("0" if session[-1] != "0" else "1"), 1001.0)
    assert not same.is_session("9" + session, 1001.0)  # nobody may lengthen it
    assert same.is_form(keys.form(session), session)
    assert not same.is_form(keys.form(session), keys.session(1000.0))
    guarded = Keys.of(tmp_path, "word")
    assert guarded.is_password("word")
    assert not guarded.is_password("")
    assert not guarded.is_session(session, 1001.0)  # another password, other sessions
    assert not keys.is_password("")
    (tmp_path / FILE).unlink()
    assert Keys.of(tmp_path).token != keys.token
