"""What a configuration may say, how it is shown, and where it is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from alerts.settings import ReceiverSettings
from detector.settings import MIN_CHANGE
from tailrace import config
from tailrace.cli.config import SAMPLE
from tailrace.errors import ConfigError
from tests.program.configuring import FULL, HOOK


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
