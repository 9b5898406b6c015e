"""The part of the configuration that says what is told to whom."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from alerts import policy
from alerts.matchers import parse_all
from alerts.mutes import DAY_MIN, DAYS, Mute
from alerts.severity import SEVERITIES, Severity
from tailrace.durations import duration_s, exact_text

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)")


def _texts(given: object) -> tuple[str, ...]:
    """Return a list of text; one alone may stand without its list."""
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list | tuple) or not all(isinstance(each, str) for each in listed):
        raise ValueError('a list of text, like ["…", "…"]')
    return tuple(listed)


def _matchers(given: object) -> tuple[str, ...]:
    return tuple(map(str, parse_all(_texts(given))))


def _days(given: object) -> tuple[str, ...]:
    days = []
    for each in _texts(given):
        day = each.strip().lower()[:3]
        if day not in DAYS:
            raise ValueError(f"{each!r} is no day: there are {', '.join(DAYS)}")
        days.append(day)
    if not days:
        raise ValueError("no day at all: leave it out for every day")
    return tuple(day for day in DAYS if day in days)


def _clock(given: object) -> str:
    found = _CLOCK.fullmatch(given) if isinstance(given, str) else None
    if found is None or int(found[2]) > 59 or _minute(found[0]) > DAY_MIN:
        raise ValueError(f"{given!r} is no time of the day: write it like 02:30, up to 24:00")
    return f"{int(found[1]):02d}:{found[2]}"


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _zone(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError("the name of a time zone, like Europe/Berlin")  # noqa: TRY004
    try:
        zoneinfo.ZoneInfo(given)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        if not known:
            raise ValueError(
                "this host has no time zones: install tzdata (the package of your distribution)"
            ) from None
        near = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
        meant = f", did you mean {near[0]!r}?" if near else ": write it like Europe/Berlin"
        raise ValueError(f"no time zone is called {given!r}{meant}") from None
    return given


def _off_or_s(given: str | float) -> float | None:
    if given == "off":
        return None
    seconds = duration_s(given)
    if seconds < 1.0:
        raise ValueError(f'{given!r} is too often: write "off" for never, or at least 1s')
    return seconds


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Matchers = Annotated[tuple[str, ...], BeforeValidator(_matchers)]
Clock = Annotated[str, BeforeValidator(_clock)]
Seconds = Annotated[float, BeforeValidator(duration_s)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class MuteWindow(_Table):
    """Hours of the week in which certain incidents are told to nobody.

    Attributes:
        name: what it is for.
        match: which incidents; all if there is none.
        days: on which it begins.
        first: when it begins, written `from`.
        last: when it ends, written `to`; on the day after if that is earlier.
        zone: by whose clock.
    """

    name: str = Field(min_length=1, max_length=100)
    match: Matchers = ()
    days: Annotated[tuple[str, ...], BeforeValidator(_days)] = DAYS
    first: Clock = Field(default="00:00", alias="from")
    last: Clock = Field(default="24:00", alias="to")
    zone: Annotated[str, BeforeValidator(_zone)] = "UTC"

    @model_validator(mode="after")
    def _has_a_length(self) -> Self:
        if self.first in (self.last, "24:00"):
            raise ValueError(
                f"from {self.first} to {self.last} is no time at all: a whole day is from 00:00 "
                "to 24:00"
            )
        return self

    def mute(self) -> Mute:
        """Return it as `alerts.mutes` has it."""
        return Mute(
            name=self.name,
            matchers=parse_all(self.match),
            days=frozenset(map(DAYS.index, self.days)),
            first=_minute(self.first),
            last=_minute(self.last),
            zone=zoneinfo.ZoneInfo(self.zone),
        )


class Route(_Table):
    """Who is told of which incidents.

    Attributes:
        match: which incidents; all if there is none.
        severity: and only those at least as severe; by default "warning", or any if `match`
            speaks of the severity.
        receivers: who is told.
        goes_on: whether the routes after it are asked as well, written `continue`.
        wait: from the detection to the first message, seconds.
        update_every: least time between messages about changes, seconds.
        repeat_every: time after which what still fires is told again, seconds; None for never.
    """

    match: Matchers = ()
    severity: Severity | None = None
    receivers: Texts
    goes_on: bool = Field(default=False, alias="continue")
    wait: Seconds = Field(default=0.0, le=86_400.0)
    update_every: Seconds = policy.UPDATE_EVERY_S
    repeat_every: Annotated[float | None, BeforeValidator(_off_or_s)] = Field(
        default="off", validate_default=True
    )

    @model_validator(mode="after")
    def _tells_somebody(self) -> Self:
        if not self.receivers:
            raise ValueError("receivers is empty: name who is told, or use [[alerts.mute]]")
        for name in self.receivers:
            if self.receivers.count(name) > 1:
                raise ValueError(f"receiver `{name}` is there twice")
        if not self._severities():
            raise ValueError(
                f"it takes nothing: no severity is {' and '.join(self._of_severity())} "
                f"and at least {self.least}"
            )
        return self

    @property
    def least(self) -> Severity:
        """The least severity it takes."""
        return self.severity or ("info" if self._of_severity() else policy.DEFAULT_SEVERITY)

    def _of_severity(self) -> list[str]:
        return [text for text in self.match if text.startswith("severity")]

    def _severities(self) -> list[Severity]:
        matchers = parse_all(self._of_severity())
        enough = SEVERITIES[: SEVERITIES.index(self.least) + 1]
        return [each for each in enough if all(m.meets(each) != m.negative for m in matchers)]

    def covers(self, other: Route) -> bool:
        """Return whether it plainly takes all that another route takes."""
        rest = {text for text in self.match if not text.startswith("severity")}
        return rest <= set(other.match) and set(other._severities()) <= set(self._severities())

    def route(self, number: int) -> policy.Route:
        """Return it as `alerts.policy` has it."""
        return policy.Route(
            name=f"route {number}",
            matchers=parse_all(self.match),
            severity=self.least,
            receivers=self.receivers,
            goes_on=self.goes_on,
            wait_s=self.wait,
            update_every_s=self.update_every,
            repeat_every_s=self.repeat_every,
        )


class ObserveOnly(_Table):
    """Pairs that are observed and never told.

    Attributes:
        match: which findings; all of it must hold for a finding.
    """

    match: Matchers = Field(min_length=1)


class Notifications(_Table):
    """What is told to whom: the part of `[alerts]` beside its receivers.

    Attributes:
        routes: who is told of what, in their order.
        mute: hours in which certain incidents are not told.
        observe_only: pairs that are never told.
    """

    routes: tuple[Route, ...] = ()
    mute: tuple[MuteWindow, ...] = ()
    observe_only: tuple[ObserveOnly, ...] = tuple(
        ObserveOnly(match=match) for match in policy.OBSERVE_ONLY
    )

    @model_validator(mode="after")
    def _mutes_are_told_apart(self) -> Self:
        names = [mute.name for mute in self.mute]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two mute windows are named `{name}`: names must be unique")
        return self

    def rules(self, receivers: Mapping[str, float | None]) -> policy.Rules:
        """Return what `alerts.policy` needs to know.

        Args:
            receivers: by name how often each wants to hear of what still fires; None for never.
        """
        return policy.Rules(
            receivers=receivers,
            routes=tuple(route.route(at) for at, route in enumerate(self.routes, start=1)),
            mutes=tuple(mute.mute() for mute in self.mute),
            observe_only=tuple(parse_all(each.match) for each in self.observe_only),
        )

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return all of it as it is written in TOML, defaults included."""
        return {
            "routes": [_written(route) for route in self.routes],
            "mute": [_written(mute) for mute in self.mute],
            "observe_only": [_written(each) for each in self.observe_only],
        }

    def check_routes(self, receivers: Sequence[str]) -> None:
        """Check that routes lead to receivers there are, and that all of them can be reached.

        Raises:
            ValueError: one does not; the message says which.
        """
        for number, route in enumerate(self.routes, start=1):
            for name in route.receivers:
                if name not in receivers:
                    raise ValueError(f"route {number}: {_unknown(name, receivers)}")
            for earlier, before in enumerate(self.routes[: number - 1], start=1):
                if not before.covers(route):
                    continue
                if not before.goes_on:
                    raise ValueError(
                        f"route {number} is never reached: route {earlier} takes all that it "
                        "would; put it before that, or write continue = true there"
                    )
                if set(route.receivers) <= set(before.receivers):
                    raise ValueError(
                        f"route {number} changes nothing: route {earlier} takes all that it would "
                        "and tells the same receivers; put it before that, or leave it out"
                    )


def _unknown(name: str, receivers: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, receivers, n=1, cutoff=0.5)
    known = ", ".join(f"`{each}`" for each in receivers) or "none is configured"
    meant = f", did you mean `{near[0]}`?" if near else f"; there are: {known}"
    return f"no receiver is named `{name}`{meant}"


def _written(of: MuteWindow | Route | ObserveOnly) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for key, value in of.model_dump(by_alias=True).items():
        if isinstance(value, tuple):
            written[key] = list(value)
        elif isinstance(of, Route) and key in ("wait", "update_every", "repeat_every"):
            written[key] = "off" if value is None else exact_text(value)
        elif isinstance(of, Route) and key == "severity":
            written[key] = of.least
        else:
            written[key] = value
    return written
