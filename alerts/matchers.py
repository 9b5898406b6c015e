"""Matchers, as Alertmanager has them: which incidents a silence, a mute, a route is about.

In: text such as `service=redis`, `severity!=info`, `server=~pay.*`, `client!~cron|backup`.
Out: whether they match a `Subject`, what an incident is known by.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Self, cast, get_args

from alerts.incident import Incident, TriggerKind
from alerts.patterns import Pattern
from alerts.severity import SEVERITIES
from detector.finding import Finding

OF_INCIDENT: Final = ("service", "root", "side", "severity", "affected", "trigger")
OF_SYMPTOM: Final = ("client", "server", "port", "transport", "signal", "direction", "cause")
"""Of one finding: several matchers of these must all be met by the same one."""
LABELS: Final = (*OF_INCIDENT, *OF_SYMPTOM)

KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "side": ("client", "network", "server", ""),
    "severity": SEVERITIES,
    "trigger": (*get_args(TriggerKind), ""),
    "direction": ("up", "down", "new", "gone"),
}
"""The values of labels that have no others."""

_FORM: Final = re.compile(r"\s*([^=!~\s]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
Operator = Literal["=", "!=", "=~", "!~"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What matchers look at.

    Attributes:
        shared: values of the labels `OF_INCIDENT`; a missing label has the value "".
        symptoms: values of the labels `OF_SYMPTOM`, finding by finding.
    """

    shared: Mapping[str, Sequence[str]]
    symptoms: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, incident: Incident) -> Self:
        """Return an incident as matchers see it."""
        trigger = "" if incident.trigger is None else incident.trigger.kind
        return cls(
            shared={
                "service": [root.service for root in incident.roots],
                "root": [incident.root.service],
                "side": [incident.root.side],
                "severity": [incident.severity],
                "affected": incident.affected,
                "trigger": [trigger],
            },
            symptoms=[_labels(finding) for finding in incident.symptoms],
        )

    @classmethod
    def each_of(cls, incident: Incident) -> list[Self]:
        """Return an incident's symptoms one by one, each as if it were alone."""
        shared = cls.of(incident).shared
        return [
            cls(shared={**shared, "side": [finding.side]}, symptoms=[_labels(finding)])
            for finding in incident.symptoms
        ]


def _labels(finding: Finding) -> dict[str, str]:
    client, server, port, transport = finding.pair
    return {
        "client": client,
        "server": server,
        "port": str(port),
        "transport": transport,
        "signal": finding.signal,
        "direction": finding.direction,
        "cause": finding.cause,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """One condition on one label.

    Attributes:
        label: one of `LABELS`.
        operator: "=", "!=", and with a regular expression that matches the whole "=~", "!~".
        value: what the label is compared with.
        pattern: `value` as a regular expression; None when it is plain.
    """

    label: str
    operator: Operator
    value: str
    pattern: Pattern | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """Return it as `parse` reads it."""
        value = self.value
        if value != value.strip() or value.startswith("~") or _is_quoted(value):
            value = f'"{value}"'
        return f"{self.label}{self.operator}{value}"

    @property
    def negative(self) -> bool:
        """Whether it says what must not be there."""
        return self.operator.startswith("!")

    def meets(self, value: str) -> bool:
        """Return whether one value is what a positive matcher asks for, a negative one forbids."""
        return value == self.value if self.pattern is None else self.pattern.fullmatch(value)


def parse(text: str) -> Matcher:
    """Return the matcher that a text says.

    Args:
        text: label, operator, value; the value may stand in double quotes.

    Raises:
        ValueError: it says none; the message says what is wrong and what to write.

    >>> str(parse('server =~ "pay.*"'))
    'server=~pay.*'
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(
            f"{text!r} is no matcher: write it like service=redis, severity!=info, "
            "server=~pay.* or client!~cron|backup"
        )
    label, value = form[1], form[3]
    operator = cast(Operator, form[2])
    if label not in LABELS:
        near = difflib.get_close_matches(label, LABELS, n=1, cutoff=0.5)
        meant = f", did you mean {near[0]!r}?" if near else ";"
        raise ValueError(
            f"{text!r}: no label is called {label!r}{meant} known labels: {', '.join(LABELS)}"
        )
    if _is_quoted(value):
        value = value[1:-1]
    if operator in ("=~", "!~"):
        try:
            pattern = Pattern(value)
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from None
        return Matcher(label=label, operator=operator, value=value, pattern=pattern)
    known = KNOWN.get(label)
    if known is not None and value not in known:
        near = difflib.get_close_matches(value, [each for each in known if each], n=1, cutoff=0.5)
        meant = f", did you mean {near[0]!r}?" if near else ";"
        names = ", ".join(repr(each) for each in known)
        raise ValueError(f"{text!r}: no {label} is called {value!r}{meant} there are {names}")
    return Matcher(label=label, operator=operator, value=value)


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"'


def parse_all(texts: Iterable[str]) -> tuple[Matcher, ...]:
    """Return the matchers that texts say, each once.

    Raises:
        ValueError: as for `parse`.
    """
    return tuple(dict.fromkeys(parse(text) for text in texts))


def match(matchers: Sequence[Matcher], subject: Subject) -> bool:
    """Return whether a subject meets all matchers; none at all are always met.

    Where a label has several values, "=" and "=~" hold if one of them matches, "!=" and "!~" if
    none does. Positive matchers of `OF_SYMPTOM` must all hold for one and the same symptom.
    """
    about_symptoms = []
    for matcher in matchers:
        if matcher.label in OF_SYMPTOM and not matcher.negative:
            about_symptoms.append(matcher)
        elif any(map(matcher.meets, _values(subject, matcher.label))) == matcher.negative:
            return False
    return not about_symptoms or any(
        all(matcher.meets(symptom.get(matcher.label, "")) for matcher in about_symptoms)
        for symptom in subject.symptoms or ({},)
    )


def _values(subject: Subject, label: str) -> Sequence[str]:
    if label in OF_SYMPTOM:
        return [symptom.get(label, "") for symptom in subject.symptoms] or [""]
    return subject.shared.get(label) or [""]


def takes_everything(matchers: Sequence[Matcher]) -> bool:
    """Return whether matchers say nothing: there is none, or all are like `service=~.*`."""
    return all(matcher.operator == "=~" and matcher.meets("") for matcher in matchers)
