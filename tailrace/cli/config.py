"""`tailrace config`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tailrace.cli import options
from tailrace.cli.output import say
from tailrace.errors import UsageError

SAMPLE = """\
# Tailrace's configuration. What is commented out shows the default, or an example.

[probes]
# How often this host's traffic is read: 100ms to 60s. Shorter sees faster, and costs more.
# window = "1s"
# Which kernel hooks may be used: "auto" takes the best this kernel has for each event;
# "tracepoint", "fentry" or "kprobe" allow one family only. `tailrace doctor` shows them.
# hooks = "auto"
# How much of one core watching may cost. Above it, Tailrace times fewer round trips, then fewer
# requests; what is counted (requests, bytes, errors) stays exact. "off" for no limit.
# overhead_budget = "0.5%"
# Where engines that speak Docker's API listen; they name containers, if tailrace[docker] is there.
# container_sockets = ["/run/docker.sock", "/run/podman/podman.sock"]
# Network namespaces to look at, by name (`ip netns`) or path; all if there is none.
# netns = []
# Call peers elsewhere by the names under which clients here found them: the DNS answers that they
# were given are read. It is the only payload that ever is.
# dns_names = true
# Ask DNS for the names of addresses that have none so far.
# reverse_dns = false
# So many service pairs have rows of their own; those that do least count under `other`.
# max_pairs = 10000
# Where pods and Services get their names, if tailrace[kubernetes] is there: "auto" takes this pod's
# service account, $KUBECONFIG, or what k3s, RKE2, k0s, MicroK8s or kubeadm leave on a node; or the
# path of a kubeconfig, whose current context holds unless kubernetes_context names one; or "off".
# kubernetes = "auto"

# Names of your own, before any other; the first whose conditions are all met counts.

# [[services]]
# name = "billing"
# command = "*-m billing.*"            # patterns: executable, command, cgroup, labels
# port = 8080                          # where it listens
# [[services]]
# name = "payment provider"
# address = "203.0.113.0/24"           # a peer that is not on this host

[detector]
# How many alerts without a real cause are acceptable, for the whole host: "1/week", "2/day",
# "1/month". Beyond it, what does not prove real goes into a digest; hard failures are always told.
# false_alerts = "1/week"
# A pair is judged once it was seen for this long.
# warmup = "45s"
# What judges: "tailrace"; or "river-adwin", "river-page-hinkley" or "river-holt-winters"; or any
# drift or anomaly detector with river's interface, such as "river:drift.KSWIN". Of
# these, false_alerts holds for "tailrace" only.
# model = "tailrace"
# What is too small to be news, however sure: of rates and latencies a relative change, of ratios
# a change of the share itself ("2%": from 1 % to 3 %). By signal, or for all signals of a kind:
# count (requests, connections), sum (bytes), latency, ratio (errors; where nothing is said, 5% of
# resets and 0.75% of retransmits), gauge (any other).
# [detector.min_change]
# count = "20%"
# sum = "30%"
# latency = "20%"
# ratio = "2%"
# gauge = "0%"

# What is kept of the past, for pictures of it: how finely, for how long, and in how much room. When
# there is no more room, the oldest goes first.

[history]
# enabled = true
# tiers = ["1s for 1h", "10s for 1d", "1m for 30d"]
# max_size = "1.5GB"

[page]
# The live page: map, incidents, pairs and their history, for a browser on this host. `tailrace
# page` prints its address, with the token that it asks for.
# enabled = true
# Beyond this host it wants a password, and a proxy before it that speaks TLS.
# listen = "127.0.0.1:9465"
# password_file = "page.password"
# Names under which it is reached beside its addresses, e.g. through that proxy.
# hosts = []

[metrics]
# Where Prometheus finds /metrics: an address and port, or "off". Nothing in it can be changed by
# who reads it; beyond this host (0.0.0.0:9470, [::]:9470) whoever reaches it can read it.
# listen = "off"
# What service pairs' metrics are called: "tailrace", or "opentelemetry" for the names of Flowmill
# and OpenTelemetry's eBPF collector (tcp.bytes by source and destination). OTLP's, too.
# names = "tailrace"
# So many service pairs have series of their own; the rest is one, `other`. OTLP's, too.
# max_pairs = 1000

[otlp]
# Where metrics, findings and incidents are sent by OTLP (protobuf over HTTP), if tailrace[otlp] is
# there: the base URL of a collector, or "off"; /v1/metrics and /v1/logs are put behind it.
# endpoint = "off"
# interval = "1m"
# timeout = "10s"
# For what needs a login; headers_file has a line `name: value` each.
# headers = {}
# attributes = {}                      # of the resource: { "deployment.environment.name" = "prod" }

# Receivers: as many as you like, each with its own name. Paths of files with secrets are
# relative to this file. `tailrace alert test NAME` tries one out. All take timeout_s, the longest
# wait for an answer in seconds.

# [[alerts.receivers]]
# name = "team"
# type = "slack"                       # one message per incident, updated as it goes on
# token_file = "slack.token"           # xoxb-..., needs the scope chat:write
# channel = "#alerts"

# [[alerts.receivers]]
# name = "team-simple"
# type = "slack"                       # an incoming webhook: one message per change
# url_file = "slack.url"               # https://hooks.slack.com/services/...

# [[alerts.receivers]]
# name = "on-call"
# type = "pagerduty"
# routing_key_file = "pagerduty.key"   # of an integration "Events API v2"

# [[alerts.receivers]]
# name = "alertmanager"
# type = "alertmanager"                # also token_file, or username and password_file
# url = "http://127.0.0.1:9093"

# [[alerts.receivers]]
# name = "hook"
# type = "webhook"                     # JSON, signed as by Standard Webhooks
# url = "https://example.com/hooks/tailrace"
# secret_file = "webhook.secret"       # whsec_..., optional
# format = "native"                    # or "alertmanager", "cloudevents"

# [[alerts.receivers]]
# name = "office"
# type = "teams"
# url_file = "teams.url"               # of a workflow that posts cards to a channel

# [[alerts.receivers]]
# name = "mail"
# type = "email"
# server = "mail.example.com:587"
# encryption = "starttls"              # or "tls", "none"
# sender = "Tailrace <tailrace@example.com>"
# recipients = ["on-call@example.com"]
# username = "tailrace"                # with password_file; optional
# password_file = "mail.password"

# [[alerts.receivers]]
# name = "journal"
# type = "journal"                     # the systemd journal, with fields

# [[alerts.receivers]]
# name = "syslog"
# type = "syslog"
# address = "/dev/log"                 # or "udp://loghost:514", "tcp://loghost:601"

# [[alerts.receivers]]
# name = "collector"
# type = "stdout"
# format = "text"                      # or "json"

# [[alerts.receivers]]
# name = "phone"
# type = "apprise"                     # a hundred other services, if tailrace[apprise] is there
# url_file = "apprise.url"             # ntfy://..., tgram://..., see Apprise's documentation

# Who is told of what. The first route that takes an incident counts; those that no route takes, of
# severity warning or critical, go to the receivers that no route names: without routes, to all.
# `tailrace alert route` tells who would be told.

# [[alerts.routes]]
# match = ["severity=critical", "service=~pay.*|checkout"]
# severity = "info"                    # the least it takes; "warning" if match has no severity
# receivers = ["on-call"]
# continue = true                      # and ask the routes after it
# wait = "30s"                         # what is over by then is not told
# update_every = "5m"                  # what changes is told no more often
# repeat_every = "4h"                  # what still fires is told again, "off" for never

# Hours in which incidents are not told: recurring maintenance. `tailrace silence add` is for once.

# [[alerts.mute]]
# name = "weekly maintenance"
# match = ["service=postgresql"]
# days = ["sat", "sun"]                # on which it begins
# from = "23:00"
# to = "01:30"                         # of the day after
# zone = "Europe/Berlin"

# What is observed and in the report, and never told. Yours replace these; an empty list of
# observe_only in [alerts] leaves them out.

# [[alerts.observe_only]]
# match = ["client=~external( .*)?", "side=~client|network"]
# [[alerts.observe_only]]
# match = ["client=unknown"]
# [[alerts.observe_only]]
# match = ["server=unknown"]
"""


@click.group(
    epilog=options.examples(
        "tailrace config init tailrace.toml",
        "tailrace config check --config tailrace.toml",
        "tailrace config show -o json",
    )
)
def config() -> None:
    """Write, check and show the configuration."""


@config.command(epilog=options.examples("tailrace config init /etc/tailrace/tailrace.toml"))
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
                default=Path("tailrace.toml"))  # fmt: skip
@options.ignores_config
@options.ignores_state_dir
def init(file: Path) -> None:
    """Write a commented sample to FILE, or to stdout for `-`."""
    if str(file) == "-":
        click.echo(SAMPLE, nl=False)
        return
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(SAMPLE)
    except FileExistsError:
        raise UsageError(
            "it is there already, and stays as it is",
            where=str(file),
            remedy="name another file, or `-` for stdout",
        ) from None
    except OSError as error:
        raise UsageError(
            f"cannot write it: {error.strerror}", where=str(file), remedy="check the directory"
        ) from error
    say(f"wrote {file}")


@config.command(epilog=options.examples("tailrace config check tailrace.toml"))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.config_option
@options.ignores_state_dir
def check(file: Path | None, config_path: Path | None) -> None:
    """Check the configuration and the files it names; exit 2 when something is wrong."""
    from tailrace import config as configuration  # noqa: PLC0415 - pydantic is slow to import

    path = configuration.find(file or config_path)
    if path is None:
        say(f"no configuration file ({configuration.SYSTEM_PATH}): the defaults hold")
        return
    loaded = configuration.read(path)
    configuration.check_files(loaded)
    rules = loaded.notification_rules()
    if rules.leave_out:
        say("note: what no route takes is told to nobody, and is in the report only")
    say(f"{path}: fine, {len(rules.receivers)} receivers, {len(rules.routes)} routes")


@config.command(epilog=options.examples("tailrace config show --config tailrace.toml"))
@click.option("-o", "--output", type=click.Choice(["toml", "json"]), default="toml",
              show_default=True, help="Format on stdout.")  # fmt: skip
@options.config_option
@options.ignores_state_dir
def show(output: str, config_path: Path | None) -> None:
    """Show the configuration as it is in effect, defaults included and secrets left out."""
    from tailrace import config as configuration  # noqa: PLC0415 - pydantic is slow to import

    effective = configuration.load(config_path).to_dict()
    if output == "json":
        public = {"schema": "tailrace.config/1", **effective}
        click.echo(json.dumps(public, ensure_ascii=False, indent=2))
    else:
        click.echo(_toml(effective), nl=False)


def _toml(config_dict: Mapping[str, Any]) -> str:
    """Return the configuration as TOML: what our values are is written as in JSON."""
    blocks = []
    for name in ("probes", "detector", "history", "page", "metrics", "otlp"):
        plain = {k: v for k, v in config_dict[name].items() if not isinstance(v, Mapping)}
        blocks.append("\n".join([f"[{name}]", *_lines(plain)]))
        blocks += [
            "\n".join([f"[{name}.{key}]", *_lines(inner)])
            for key, inner in config_dict[name].items()
            if key not in plain and inner
        ]
    if not config_dict["alerts"]["observe_only"]:
        blocks.append("[alerts]\nobserve_only = []")  # without a table the defaults hold
    blocks += [
        "\n".join([f"[[alerts.{name}]]", *_lines(table)])
        for name, tables in config_dict["alerts"].items()
        for table in tables
    ]
    return "\n\n".join(blocks) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [
        f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()
    ]


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)
