"""What is said about mistakes in a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace import config
from tailrace.errors import ConfigError
from tests.program.configuring import HOOK

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


def test_not_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        config.read(file)
