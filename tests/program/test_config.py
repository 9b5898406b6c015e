"""What a configuration may say, and what is said about mistakes in it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from alerts.settings import ReceiverSettings
from detector.settings import MIN_CHANGE
from tailrace import config
from tailrace.cli.config import SAMPLE
from tailrace.errors import ConfigError

FULL = """\
[probes]
window = "500ms"
hooks = "tracepoint"
overhead_budget = "1.25 %"
reverse_dns = true
max_pairs = 500
[detector]
false_alerts = "2/day"
warmup = 90
[detector.min_change]
requests = "50 %"
ratio = "2%"
[[alerts.receivers]]
name = "on-call"
type = "webhook"
url = "https://user:word@example.com/hooks/T0P?key=s3cret"
secret_file = "webhook.secret"
[[alerts.receivers]]
name = "team"
type = "slack"
token_file = "/etc/tailrace/slack.token"
channel = "#alerts"
[[services]]
name = "billing"
command = "*-m billing.*"
labels = { app = "b*" }
port = 8080
[[services]]
name = "provider"
address = "203.0.113.0/24"
"""

HOOK = '[[alerts.receivers]]\nname = "a"\ntype = "webhook"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tailrace.toml"


def test_all_of_it(file: Path) -> None:
    file.write_text(FULL)
    read = config.read(file)
    assert read.probes.window == 0.5
    assert read.probes.hooks == "tracepoint"
    billing, provider = read.naming_settings().rules
    assert (billing.name, billing.command, billing.port) == ("billing", "*-m billing.*", 8080)
    assert str(provider.address) == "203.0.113.0/24"
    assert read.probes.overhead_budget == 0.0125
    assert read.detector_settings().false_alerts_per_week == 14
    assert read.detector_settings().warmup_s == 90
    least = read.detector_settings().least_change
    assert (least("requests"), least("connections"), least("resets")) == (0.5, 0.2, 0.02)
    assert least("any gauge") == least("new_pair") == 0.0
    assert hash(read.detector_settings()) == hash(read.detector_settings())
    hook, slack = read.receiver_settings()
    assert (hook.name, hook.type) == ("on-call", "webhook")
    assert hook.secret_file == file.parent / "webhook.secret"
    assert slack.token_file == Path("/etc/tailrace/slack.token")
    assert slack.channel == "#alerts"


def test_defaults() -> None:
    read = config.Config()
    assert read.probes.window == 1.0
    assert read.probes.hooks == "auto"
    assert read.probes.overhead_budget == 0.005
    assert read.detector_settings().false_alerts_per_week == 1.0
    assert read.detector_settings().warmup_s == 45.0
    assert read.receiver_settings() == ()


def test_the_sample_is_right_with_and_without_its_comments(file: Path) -> None:
    file.write_text(SAMPLE)
    assert config.read(file) == config.Config()
    lines = [
        line.removeprefix("# ")
        for line in SAMPLE.splitlines()
        if "=" in line or line.startswith(("[", "# ["))
    ]
    file.write_text("\n".join(lines))
    read = config.read(file)
    assert read.probes == config.Config().probes
    assert read.detector.model_copy(update={"min_change": {}}) == config.Config().detector
    assert dict(read.detector.min_change) == MIN_CHANGE
    types = [receiver.type for receiver in read.receiver_settings()]
    assert len(types) == len(set(types)) + 1  # Slack is there twice
    assert set(types) == {
        get_args(get_type_hints(each)["type"])[0] for each in get_args(ReceiverSettings)
    }


MISTAKES = {
    "kubeconfig": (
        '[probes]\nkubernetes = "on"\n',
        "{file}:2: key `kubernetes` in [probes]: \"auto\", \"off\" or the whole path of a "
        "kubeconfig, not 'on'",
    ),
    "key": (
        '[probes]\n\nwindw = "1s"\n',
        "{file}:3: unknown key `windw` in [probes], did you mean `window`?\n"
        "  remedy: known keys in [probes]: window, hooks, overhead_budget, container_sockets, "
        "netns, dns_names, reverse_dns, max_pairs, kubernetes, kubernetes_context",
    ),
    "section": (
        "[detecter]\n",
        "{file}:1: unknown section `detecter`, did you mean `detector`?\n"
        "  remedy: known sections: probes, detector, alerts, history, page, metrics, otlp, "
        "services",
    ),
    "key far from all": (
        "[detector]\nzzz = 1\n",
        "{file}:2: unknown key `zzz` in [detector]\n"
        "  remedy: known keys in [detector]: false_alerts, warmup, min_change, model",
    ),
    "receiver's key": (
        HOOK + 'url = "http://x"\n\n' + HOOK.replace('"a"', '"b"') + 'urll = "http://x"\n',
        "{file}:9: unknown key `urll` in [[alerts.receivers]] number 2, did you mean `url`?\n"
        "  remedy: known keys in [[alerts.receivers]] number 2: "
        "name, timeout_s, type, url, url_file, secret_file, format",
    ),
    "syntax": ("[probes]\nwindow = \n", "not TOML: Invalid value (at line 2, column 10)"),
    "model": (
        '[detector]\nmodel = "river-adwinn"\n',
        "{file}:2: key `model` in [detector]: no model 'river-adwinn', did you mean "
        "'river-adwin'? known models are tailrace, river-adwin, river-page-hinkley, "
        "river-holt-winters, "
        'and "river:drift.KSWIN" or any such class',
    ),
    "model's class": (
        '[detector]\nmodel = "river:drift.Nothing"\n',
        "no class 'drift.Nothing', in river or elsewhere; known models: tailrace, river-adwin",
    ),
    "model of another kind": (
        '[detector]\nmodel = "river:stats.Mean"\n',
        "river:stats.Mean is neither a river.base.DriftDetector nor a river.base.AnomalyDetector",
    ),
    "model's options": (
        '[detector]\nmodel = "river-adwin(alpha=1)"\n',
        "river-adwin does not take its options: ",
    ),
    "model's options in words": (
        '[detector]\nmodel = "river-adwin(delta is 1)"\n',
        'cannot read the options of \'river-adwin(delta is 1)\', write them like "river-adwin',
    ),
    "window": (
        '[probes]\nwindow = "2m"\n',
        "{file}:2: key `window` in [probes]: a window is from 100ms to 60s long, not 2m",
    ),
    "short window": ("[probes]\nwindow = 0.05\n", "from 100ms to 60s long, not 50ms"),
    "hooks": (
        '[probes]\nhooks = "ebpf"\n',
        "{file}:2: key `hooks` in [probes]: must be 'auto', 'tracepoint', 'fentry' or 'kprobe'",
    ),
    "nobody's name": (
        '[[services]]\nname = "a"\n',
        "say who it is: executable, command, cgroup, labels, port or address",
    ),
    "an address and a program": (
        '[[services]]\nname = "a"\naddress = "10.0.0.1"\nexecutable = "b"\n',
        "an address is of a peer elsewhere: only a port can go with it",
    ),
    "no address": (
        '[[services]]\nname = "a"\naddress = "10.0.0.0/33"\n',
        "{file}:3: key `address` in [[services]]",
    ),
    "budget": (
        '[probes]\nwindow = "1s"\noverhead_budget = 0.5\n',
        "{file}:3: key `overhead_budget` in [probes]: 0.5 is not a share of one core: "
        'write it like "0.5%", or "off"',
    ),
    "budget of nothing": (
        '[probes]\noverhead_budget = "0%"\n',
        "'0%' is not above 0% and at most 100%: write \"off\" for no limit",
    ),
    "budget of many cores": ('[probes]\noverhead_budget = "250%"\n', "at most 100%"),
    "duration": (
        '[detector]\nwarmup = "soon"\n',
        "{file}:2: key `warmup` in [detector]: 'soon' is not a duration: "
        "write it like 100ms, 1s, 45s, 10m, 1h or 2d",
    ),
    "rate": (
        '[detector]\nfalse_alerts = "often"\n',
        "{file}:2: key `false_alerts` in [detector]: 'often' is not a rate: "
        "write it like 1/week, 2/day or 1/month",
    ),
    "least change": (
        '[detector]\nmin_change = { requests = "a lot" }\n',
        "{file}:2: key `min_change` in [detector]: `requests`: 'a lot' is not a change: "
        'write it like "20%"',
    ),
    "least change of what": (
        '[detector]\n[detector.min_change]\nrequest_latencies = "20%"\n',
        "{file}:2: key `min_change` in [detector]: `request_latencies` is neither a signal that is "
        "judged nor a kind of signals (count, sum, ratio, latency, gauge), "
        "did you mean `request_latency`?",
    ),
    "least change of a view": (
        '[detector.min_change]\nserver_latency = "20%"\n', "is neither a signal that is judged"
    ),
    "least change of a share": (
        '[detector.min_change]\nresets = "120%"\n', "`resets`: a share is at most 100%"
    ),
    "least change of all": ('[detector]\nmin_change = "20%"\n', "a table, written like {"),
    "more than any change": ('[detector.min_change]\nsum = "2000%"\n', "more than any change"),
    "table": ("probes = 1\n", "{file}:1: key `probes`: must be a table, written [probes]"),
    "receivers": ("[alerts]\nreceivers = 3\n", "must be a table, written [[alerts.receivers]]"),
    "type": (
        '[[alerts.receivers]]\nname = "a"\ntype = "pager"\n',
        "{file}:3: key `type` in [[alerts.receivers]] number 1: must be one of 'webhook', 'slack', "
        "'alertmanager', 'pagerduty', 'teams', 'email', 'syslog', 'journal', 'stdout', 'apprise'",
    ),
    "missing": (
        '[[alerts.receivers]]\ntype = "slack"\nurl = "http://x"\n',
        "{file}:1: key `name` in [[alerts.receivers]] number 1 is missing\n"
        "  remedy: add a line `name = …`",
    ),
    "no url": (HOOK, '[[alerts.receivers]] number 1: a webhook needs url = "https://…"'),
    "url": (HOOK + 'url = "example.com"\n', "{file}:4: key `url` in [[alerts.receivers]] number 1: "
            "not a URL, write it like https://host/path"),
    "token of webhook": (
        HOOK + 'url = "http://x"\ntoken_file = "x"\n',
        "{file}:5: unknown key `token_file` in [[alerts.receivers]] number 1, "
        "did you mean `secret_file`?",
    ),
    "slack without anything": (
        '[[alerts.receivers]]\nname = "a"\ntype = "slack"\n',
        "slack needs url (incoming webhook), or token_file and channel",
    ),
    "no type": (
        '[[alerts.receivers]]\nname = "a"\n',
        "{file}:1: key `type` in [[alerts.receivers]] number 1 is missing",
    ),
    "url twice": (
        HOOK + 'url = "http://x"\nurl_file = "x"\n',
        'a webhook needs url = "https://…", or else url_file',
    ),
    "format": (
        HOOK + 'url = "http://x"\nformat = "xml"\n',
        "{file}:5: key `format` in [[alerts.receivers]] number 1: "
        "must be 'native', 'alertmanager' or 'cloudevents'",
    ),
    "timeout": (
        HOOK + 'url = "http://x"\ntimeout_s = 0\n',
        "{file}:5: key `timeout_s` in [[alerts.receivers]] number 1: above 0, and at most 60 s",
    ),
    "mail to nobody": (
        '[[alerts.receivers]]\nname = "a"\ntype = "email"\nserver = "mail"\n'
        'sender = "a@b"\nrecipients = []\n',
        "{file}:6: key `recipients` in [[alerts.receivers]] number 1: at least one address",
    ),
    "no server": (
        '[[alerts.receivers]]\nname = "a"\ntype = "email"\nsender = "a@b"\nrecipients = ["a@b"]\n',
        "{file}:1: key `server` in [[alerts.receivers]] number 1 is missing",
    ),
    "syslog's address": (
        '[[alerts.receivers]]\nname = "a"\ntype = "syslog"\naddress = "loghost"\n',
        "{file}:4: key `address` in [[alerts.receivers]] number 1: a socket's path, or",
    ),
    "slack without channel": (
        '[[alerts.receivers]]\nname = "a"\ntype = "slack"\ntoken_file = "x"\n',
        "a token_file needs channel",
    ),
    "names": (
        2 * (HOOK + 'url = "http://x"\n'), "two receivers are named `a`: names must be unique"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.read(file)
    said = str(caught.value)
    assert message.replace("{file}", str(file)) in said
    assert str(file) in said
    assert "\n  remedy: " in said
    assert caught.value.exit_code == 2


def test_no_secret_in_what_is_shown_or_said(file: Path) -> None:
    file.write_text(FULL)
    shown = str(config.read(file).to_dict())
    assert "https://example.com/…" in shown
    assert str(file.parent / "webhook.secret") in shown
    for secret in ("s3cret", "word", "T0P", "user"):
        assert secret not in shown
    file.write_text(HOOK + 'url = "hooks.example.com/s3cret"\n')
    with pytest.raises(ConfigError) as caught:
        config.read(file)
    assert "s3cret" not in str(caught.value)


def test_what_is_shown_reads_back(file: Path) -> None:
    file.write_text(FULL)
    shown = config.read(file).to_dict()
    assert shown["probes"] == {
        "window": "500ms",
        "hooks": "tracepoint",
        "overhead_budget": "1.25%",
        "container_sockets": ["/run/docker.sock", "/run/podman/podman.sock"],
        "netns": [],
        "dns_names": True,
        "reverse_dns": True,
        "max_pairs": 500,
        "kubernetes": "auto",
    }
    assert shown["services"] == [
        {"name": "billing", "command": "*-m billing.*", "labels": {"app": "b*"}, "port": 8080},
        {"name": "provider", "address": "203.0.113.0/24"},
    ]
    file.write_text('[probes]\noverhead_budget = "off"\n')
    assert config.read(file).probes.overhead_budget is None
    assert config.read(file).to_dict()["probes"]["overhead_budget"] == "off"
    assert shown["detector"] == {
        "false_alerts": "14/week",
        "warmup": "90s",
        "model": "tailrace",
        "min_change": {
            "count": "20%",
            "sum": "30%",
            "ratio": "2%",
            "latency": "20%",
            "gauge": "0%",
            "requests": "50%",
        },
    }


def test_receivers_are_shown_as_they_are_written(file: Path) -> None:
    file.write_text(
        '[[alerts.receivers]]\nname = "mail"\ntype = "email"\nserver = "mail:587"\ntimeout_s = 20\n'
        'sender = "a@b"\nrecipients = ["c@d"]\nusername = "x"\npassword_file = "word"\n'
        '[[alerts.receivers]]\nname = "teams"\ntype = "teams"\nurl_file = "/teams.url"\n'
    )
    mail, teams = config.read(file).to_dict()["alerts"]["receivers"]
    assert mail == {
        "name": "mail",
        "type": "email",
        "timeout_s": 20.0,
        "server": "mail:587",
        "encryption": "starttls",
        "sender": "a@b",
        "recipients": ("c@d",),
        "username": "x",
        "password_file": str(file.parent / "word"),
    }
    assert teams == {"name": "teams", "type": "teams", "url_file": "/teams.url"}


def test_where_it_is_looked_for(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SYSTEM_PATH", tmp_path / "system.toml")
    assert config.find(None, {}) is None
    assert config.load(None, {}) == config.Config()
    (tmp_path / "system.toml").write_text("[probes]\nwindow = 3\n")
    assert config.load(None, {}).probes.window == 3
    file.write_text("[probes]\nwindow = 4\n")
    assert config.load(None, {config.VARIABLE: str(file)}).probes.window == 4
    given = tmp_path / "given.toml"
    given.write_text("[probes]\nwindow = 5\n")
    assert config.load(given, {config.VARIABLE: str(file)}).probes.window == 5
    with pytest.raises(ConfigError, match=r"nothing\.toml \(from --config\): no such file"):
        config.load(tmp_path / "nothing.toml", {})
    with pytest.raises(ConfigError, match=r"\(from \$TAILRACE_CONFIG\): no such file"):
        config.load(None, {config.VARIABLE: str(tmp_path / "nothing.toml")})


def test_files_are_checked_when_they_are_used(file: Path) -> None:
    file.write_text(FULL)
    read = config.read(file)
    with pytest.raises(ConfigError, match="receiver `on-call`, key `secret_file`: cannot read"):
        config.check_files(read)
    secret = file.parent / "webhook.secret"
    secret.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        config.check_files(read, only="on-call")
    secret.write_text("whsec_abc\n")
    config.check_files(read, only="on-call")


def test_not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        config.read(file)
