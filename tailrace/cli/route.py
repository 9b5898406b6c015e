"""`tailrace alert route`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tailrace.cli import options
from tailrace.cli.output import print_table, say
from tailrace.errors import UsageError

if TYPE_CHECKING:
    from alerts.matchers import Subject
    from alerts.policy import Destination, Rules

_SCHEMA = "tailrace.route/1"


@click.command(
    epilog=options.examples(
        "tailrace alert route client=shop server=redis severity=critical",
        "tailrace alert route service=payments side=server signal=request_latency -o json",
    )
)
@click.argument("labels", nargs=-1, metavar="LABEL=VALUE...")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table",
              show_default=True, help="Format on stdout.")  # fmt: skip
@options.state_dir_option
@options.config_option
def route(
    *, labels: Sequence[str], output: str, state_dir: Path | None, config_path: Path | None
) -> None:
    """Show who would be told of an incident with these labels, when, and what keeps it quiet.

    Sends nothing. What is not said has a likely value: severity=critical, service and root are
    the server, and the client is affected.
    """
    from alerts.policy import Policy  # noqa: PLC0415 - slow to import
    from tailrace import config  # noqa: PLC0415

    now = time.time()
    rules = config.load(config_path).notification_rules()
    subject = _subject(labels)
    policy = Policy(rules=rules, silences=tuple(_silences(options.state_dir_of(state_dir), now)))
    destinations = policy.destinations_of(subject)
    quiet = policy.quieted(subject, now)
    if policy.observed(subject):
        quiet.append("observe only")
    if output == "json":
        click.echo(json.dumps(_public(subject, destinations, quiet), ensure_ascii=False, indent=2))
        return
    if destinations:
        _table(destinations)
    else:
        say(_nobody(rules))
    for reason in quiet:
        say(f"not told at the moment: {reason}")


def _nobody(rules: Rules) -> str:
    if not rules.receivers:
        return "nobody is told: no receiver is configured"
    return "nobody is told: no route takes it"


def _subject(labels: Sequence[str]) -> Subject:
    from alerts.matchers import LABELS, OF_INCIDENT, OF_SYMPTOM, Subject, parse  # noqa: PLC0415

    given: dict[str, list[str]] = {}
    for text in labels:
        try:
            matcher = parse(text)
        except ValueError as error:
            raise UsageError(str(error), remedy=f"the labels are {', '.join(LABELS)}") from None
        if matcher.operator != "=":
            raise UsageError(
                f"{text!r} asks, and here labels have values", remedy=f"write {matcher.label}=VALUE"
            )
        given.setdefault(matcher.label, []).append(matcher.value)
    if repeated := [name for name in OF_SYMPTOM if len(given.get(name, ())) > 1]:
        raise UsageError(f"{repeated[0]} is there twice", remedy="give it one value")
    server = given.get("server", [])
    services = given.get("service", server)
    likely = {
        "service": services,
        "root": services[:1],
        "severity": ["critical"],
        "affected": given.get("client", []),
    }
    shared = {name: given.get(name, likely.get(name, [])) for name in OF_INCIDENT}
    return Subject(
        shared=shared, symptoms=[{n: values[0] for n in OF_SYMPTOM if (values := given.get(n))}]
    )


def _silences(state_dir: Path, now: float) -> Sequence[Any]:
    from alerts import silences  # noqa: PLC0415 - slow to import
    from alerts.errors import StoreError  # noqa: PLC0415

    try:
        return silences.stored(state_dir, after=now)
    except StoreError as error:
        say(f"silences are not known: {error}")
        return ()


def _public(
    subject: Subject, destinations: Sequence[Destination], quiet: Sequence[str]
) -> dict[str, Any]:
    known = {name: list(values) for name, values in subject.shared.items() if values}
    return {
        "schema": _SCHEMA,
        "labels": known | dict(subject.symptoms[0]),
        "destinations": [
            {
                "receiver": each.receiver,
                "route": each.route,
                "wait_s": each.wait_s,
                "update_every_s": each.update_every_s,
                "repeat_every_s": each.repeat_every_s,
                "resend_s": each.resend_s,
            }
            for each in destinations
        ],
        "suppressed": list(quiet),
    }


def _table(destinations: Sequence[Destination]) -> None:
    from alerts.words import duration  # noqa: PLC0415 - slow to import

    print_table(
        ("receiver", "by", "first", "changes", "again"),
        (
            (
                each.receiver,
                each.route,
                f"after {duration(each.wait_s)}" if each.wait_s else "at once",
                f"at most every {duration(each.update_every_s)}",
                _again(each),
            )
            for each in destinations
        ),
    )


def _again(destination: Destination) -> str:
    from alerts.words import duration  # noqa: PLC0415 - slow to import

    every = [s for s in (destination.repeat_every_s, destination.resend_s) if s is not None]
    return f"every {duration(min(every))}" if every else "never"
