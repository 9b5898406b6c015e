"""What the configuration may say of routes, mute windows and observe-only pairs."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from alerts.matchers import parse_all
from alerts.policy import OBSERVE_ONLY
from tailrace import config
from tailrace.cli import main
from tailrace.errors import ConfigError

HOOKS = """\
[[alerts.receivers]]
name = "on-call"
type = "webhook"
url = "http://127.0.0.1/"
[[alerts.receivers]]
name = "team"
type = "webhook"
url = "http://127.0.0.1/"
"""
FULL = (
    HOOKS
    + """\
[[alerts.routes]]
match = ["severity=critical", 'server =~ "pay.*"']
receivers = ["on-call"]
continue = true
wait = "30s"
update_every = "10m"
repeat_every = "4h"
[[alerts.routes]]
receivers = "team"
[[alerts.mute]]
name = "weekly"
match = "service=db"
days = ["Saturday", "sun"]
from = "23:00"
to = "1:30"
zone = "Europe/Berlin"
[[alerts.observe_only]]
match = ["client=prober"]
"""
)

GUIDE = (Path(__file__).parents[2] / "docs" / "alerting.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("alone")


def test_all_of_it(file: Path) -> None:
    file.write_text(FULL)
    rules = config.read(file).notification_rules()
    assert dict(rules.receivers) == {"on-call": None, "team": None}
    first, second = rules.routes
    assert first.matchers == parse_all(["severity=critical", "server=~pay.*"])
    assert (first.name, first.receivers, first.goes_on) == ("route 1", ("on-call",), True)
    assert (first.wait_s, first.update_every_s, first.repeat_every_s) == (30.0, 600.0, 14_400.0)
    assert first.severity == "info"  # the match says which
    assert (second.name, second.receivers, second.goes_on) == ("route 2", ("team",), False)
    assert (second.wait_s, second.update_every_s, second.repeat_every_s) == (0.0, 300.0, None)
    assert (second.severity, second.matchers) == ("warning", ())
    [mute] = rules.mutes
    assert (mute.name, mute.matchers) == ("weekly", parse_all(["service=db"]))
    assert (mute.days, mute.first, mute.last) == (frozenset({5, 6}), 23 * 60, 90)
    assert mute.zone.key == "Europe/Berlin"
    assert rules.observe_only == (parse_all(["client=prober"]),)
    assert rules.unrouted == ()


def test_paths_become_absolute_and_nothing_else_is_lost(file: Path) -> None:
    file.write_text(FULL.replace('url = "http://127.0.0.1/"', 'url = "http://x/"\n'
                                 'secret_file = "s"', 1))  # fmt: skip
    read = config.read(file)
    assert read.receiver_settings()[0].secret_file == file.parent / "s"
    assert len(read.alerts.routes) == 2


def test_defaults(file: Path) -> None:
    rules = config.Config().notification_rules()
    assert (rules.routes, rules.mutes) == ((), ())
    assert rules.observe_only == tuple(map(parse_all, OBSERVE_ONLY))
    file.write_text("[alerts]\nobserve_only = []\n")
    assert config.read(file).notification_rules().observe_only == ()


@pytest.mark.parametrize("text", [FULL, HOOKS, HOOKS + "[alerts]\nobserve_only = []\n"])
def test_what_is_shown_reads_back(
    text: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "[alerts]" in text:  # a table comes before the tables in it
        text = text[len(HOOKS) :] + HOOKS
    file.write_text(text)
    rules = config.read(file).notification_rules()
    assert main(["config", "show", "--config", str(file)]) == 0
    shown = capsys.readouterr().out
    assert main(["config", "show", "--config", str(file), "-o", "json"]) == 0
    public = json.loads(capsys.readouterr().out)
    assert tomllib.loads(shown)["alerts"].get("routes", []) == public["alerts"]["routes"]
    file.write_text(shown.replace("/…", "/"))
    assert config.read(file).notification_rules() == rules


ROUTE = HOOKS + '[[alerts.routes]]\nreceivers = ["team"]\n'
MUTE = '[[alerts.mute]]\nname = "a"\n'
MISTAKES = {
    "unknown receiver": (
        HOOKS + '[[alerts.routes]]\nreceivers = ["tema"]\n',
        "route 1: no receiver is named `tema`, did you mean `team`?",
    ),
    "receiver like none": (
        HOOKS + '[[alerts.routes]]\nreceivers = ["x"]\n',
        "route 1: no receiver is named `x`; there are: `on-call`, `team`",
    ),
    "no receiver at all": (
        '[[alerts.routes]]\nreceivers = ["x"]\n',
        "no receiver is named `x`; there are: none is configured",
    ),
    "no receivers": (
        HOOKS + "[[alerts.routes]]\nreceivers = []\n",
        "{file}:9: [[alerts.routes]] number 1: receivers is empty: name who is told",
    ),
    "missing receivers": (
        HOOKS + "[[alerts.routes]]\n",
        "{file}:9: key `receivers` in [[alerts.routes]] number 1 is missing",
    ),
    "receiver twice": (
        HOOKS + '[[alerts.routes]]\nreceivers = ["team", "team"]\n',
        "receiver `team` is there twice",
    ),
    "unreachable": (
        ROUTE + '[[alerts.routes]]\nmatch = ["service=a"]\nreceivers = ["on-call"]\n',
        "route 2 is never reached: route 1 takes all that it would; put it before that, or",
    ),
    "unreachable by severity": (
        HOOKS
        + '[[alerts.routes]]\nmatch = ["service=a"]\nreceivers = ["team"]\n'
        + '[[alerts.routes]]\nmatch = ["service=a", "severity=critical", "root=b"]\n'
        + 'receivers = ["on-call"]\n',
        "route 2 is never reached: route 1 takes all",
    ),
    "duplicate": (
        ROUTE
        + "continue = true\n"
        + '[[alerts.routes]]\nmatch = ["service=a"]\nreceivers = ["team"]\n',
        "route 2 changes nothing: route 1 takes all that it would and tells the same receivers",
    ),
    "takes nothing": (
        ROUTE + 'match = ["severity=info"]\nseverity = "warning"\n',
        "it takes nothing: no severity is severity=info and at least warning",
    ),
    "matcher": (
        ROUTE + 'match = ["sevice=a"]\n',
        "{file}:11: key `match` in [[alerts.routes]] number 1: 'sevice=a': no label is called "
        "'sevice', did you mean 'service'?",
    ),
    "match is a number": (
        ROUTE + "match = 7\n",
        '{file}:11: key `match` in [[alerts.routes]] number 1: a list of text, like ["…", "…"]',
    ),
    "key": (
        ROUTE + "contniue = true\n",
        "{file}:11: unknown key `contniue` in [[alerts.routes]] number 1, "
        "did you mean `continue`?\n  remedy: known keys in [[alerts.routes]] number 1: match, "
        "severity, receivers, continue, wait, update_every, repeat_every",
    ),
    "our own name of a key": (ROUTE + "goes_on = true\n", "unknown key `goes_on`"),
    "severity": (ROUTE + 'severity = "high"\n', "must be 'critical', 'warning' or 'info'"),
    "repeat": (ROUTE + 'repeat_every = "10ms"\n', "'10ms' is too often: write \"off\""),
    "wait": (ROUTE + 'wait = "2d"\n', "key `wait` in [[alerts.routes]] number 1"),
    "day": (MUTE + 'days = ["someday"]\n', "'someday' is no day: there are mon, tue"),
    "no day": (MUTE + "days = []\n", "no day at all: leave it out for every day"),
    "clock": (
        MUTE + 'from = "25:00"\n',
        "{file}:3: key `from` in [[alerts.mute]] number 1: '25:00' is no time of the day",
    ),
    "clock's minutes": (MUTE + 'to = "01:60"\n', "'01:60' is no time of the day"),
    "clock's type": (MUTE + "to = 13:00:00\n", "is no time of the day: write it like 02:30"),
    "no length": (MUTE + 'from = "02:00"\nto = "02:00"\n', "from 02:00 to 02:00 is no time at all"),
    "zone": (
        MUTE + 'zone = "Europe/Berlinn"\n',
        "no time zone is called 'Europe/Berlinn', did you mean 'Europe/Berlin'?",
    ),
    "zone that is a path": (MUTE + 'zone = "../../etc/passwd"\n', "no time zone is called"),
    "zone's type": (MUTE + "zone = 1\n", "the name of a time zone, like Europe/Berlin"),
    "two mutes": (MUTE + MUTE, "two mute windows are named `a`: names must be unique"),
    "mute without a name": ("[[alerts.mute]]\n", "key `name` in [[alerts.mute]] number 1"),
    "observes everything": (
        "[[alerts.observe_only]]\nmatch = []\n",
        "key `match` in [[alerts.observe_only]] number 1",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, file: Path) -> None:
    text, expected = MISTAKES[mistake]
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.read(file)
    assert expected.replace("{file}", str(file)) in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # another service, a less severe one, one that goes on to others, or by another severity
        ('match = ["service=a"]', 'match = ["service=b"]'),
        ('severity = "critical"', ""),
        ("continue = true", 'receivers = ["on-call"]'),
        ('match = ["severity=critical"]', 'match = ["severity!=critical"]'),
        ("", 'severity = "info"'),
    ],
)
def test_routes_that_all_can_be_reached(first: str, second: str, file: Path) -> None:
    routes = [
        f"[[alerts.routes]]\n{text}\n" + ("" if "receivers" in text else 'receivers = ["team"]\n')
        for text in (first, second)
    ]
    file.write_text(HOOKS + "".join(routes))
    assert len(config.read(file).notification_rules().routes) == 2


def test_check_says_when_some_are_told_to_nobody(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everybody = (
        HOOKS + '[[alerts.routes]]\nmatch = ["service=a"]\nreceivers = ["team", "on-call"]\n'
    )
    for text, said in (
        (FULL, False),
        (HOOKS, False),
        (HOOKS + '[[alerts.routes]]\nmatch = "root=a"\nreceivers = ["team"]\n', False),
        (everybody, True),
    ):
        file.write_text(text)
        assert main(["config", "check", str(file)]) == 0
        assert ("told to nobody" in capsys.readouterr().err) == said


def test_what_the_guide_shows_is_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    hooks = HOOKS.replace('"team"', '"archive"')
    file.write_text(hooks + "".join(blocks))
    rules = config.read(file).notification_rules()
    assert (len(rules.routes), len(rules.mutes)) == (2, 1)
    assert rules.observe_only == tuple(map(parse_all, OBSERVE_ONLY))
    [command] = re.findall(r"\$ (tailrace alert route .*)", GUIDE)
    assert main(["--config", str(file), *shlex.split(command)[1:]]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert line.rstrip() in GUIDE
