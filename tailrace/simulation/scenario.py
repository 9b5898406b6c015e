"""Scenarios: which service pairs there are, how they talk, and what happens to them.

A scenario is a TOML file, or one that comes with Tailrace; `docs/simulation.md` explains its keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from probes.window import Pair
from tailrace.config import check_window
from tailrace.config_errors import explain
from tailrace.durations import duration_s, epoch_s
from tailrace.errors import ConfigError, at_line

Seconds = Annotated[float, BeforeValidator(duration_s)]
Positive = Annotated[float, BeforeValidator(duration_s), Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
FaultKind = Literal[
    "rate", "silence", "errors", "resets", "loss", "stalls", "drops", "latency", "tail", "leak",
    "deploy", "scale-out", "lost", "pause", "gap",
]  # fmt: skip
CAUSES = ("refused", "timed_out", "unreachable", "reset", "aborted", "no_port")
_LIST = "`tailrace simulate --list` names those that come with Tailrace"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Bursts(_Section):
    """Moments at random at which traffic is a multiple; `every` and `lasts` on average."""

    every: Positive
    lasts: Positive
    factor: float = Field(gt=0)


class Jobs(_Section):
    """Periodic jobs: further requests a second, `lasts` long, `every` so often.

    Attributes:
        every: period, seconds.
        lasts: how long each run is, seconds.
        requests: per second while it runs.
        offset: when in the period it begins, seconds after midnight UTC or a multiple of `every`.
    """

    every: Positive
    lasts: Positive
    requests: float = Field(gt=0)
    offset: Seconds = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lasts > self.every:
            raise ValueError("a job must end before it begins again: lasts is above every")
        return self


class Pairs(_Section):
    """Some service pairs with the same law; each has a fate of its own.

    Rates are per second, of one pair. `docs/simulation.md` has the law of each signal.
    """

    client: str = Field(min_length=1)
    server: str = Field(min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)
    transport: Literal["tcp", "udp", "unix"] = "tcp"
    number: int = Field(default=1, ge=1, le=100_000)
    dns: bool = False
    views: bool = False

    requests: float = Field(default=20.0, ge=0, le=1e7)
    connections: float = Field(default=1.0, ge=0, le=1e7)
    waits: float = Field(default=0.0, ge=0, le=1e6)
    pooled: bool = True
    spread_rates: float = Field(default=0.0, ge=0, le=3)
    dispersion: float | None = Field(default=None, gt=0)
    wobble: float = Field(default=0.1, ge=0, le=2)
    correlation: Positive = 20.0
    shared: Share = 0.0
    wander: float = Field(default=0.0, ge=0, le=2)
    daily: float = Field(default=0.0, ge=0, lt=1)
    peak: float = Field(default=14.0, ge=0, lt=24)
    weekend: float = Field(default=1.0, gt=0, le=10)
    drift: float = Field(default=0.0, gt=-0.5, le=1)
    bursts: Bursts | None = None
    jobs: Jobs | None = None

    request_bytes: float = Field(default=300.0, ge=1)
    answer_bytes: float = Field(default=3000.0, ge=1)
    size_variation: float = Field(default=1.0, gt=0, le=10)

    latency: Positive = 0.002
    spread: float = Field(default=0.4, ge=0, le=3)
    slow_share: Share = 0.01
    slow_factor: float = Field(default=10.0, ge=1)
    latency_wobble: float = Field(default=0.05, ge=0, le=1)
    queueing: float = Field(default=0.0, ge=0, le=2)
    rtt: Positive = 0.0001

    errors: Share = 0.0005
    resets: Share = 0.0005
    retransmits: Share = 0.0002
    drops: Share = 0.0
    stalls: Share = 0.0
    retries: int = Field(default=0, ge=0, le=10)
    cause: str = "refused"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.cause not in CAUSES:
            raise ValueError(f"cause must be one of {', '.join(CAUSES)}, not {self.cause!r}")
        if self.number > 1 and "{n}" not in self.client and "{n}" not in self.server:
            raise ValueError(f"{self.number} pairs need a {{n}} in client or server to differ")
        if self.dns and self.transport != "udp":
            raise ValueError('dns needs transport = "udp"')
        if not self.pooled and self.requests < self.connections:
            raise ValueError("without pooled each connection asks: requests below connections")
        return self

    def names(self) -> list[Pair]:
        """Return each of these pairs."""
        return [
            Pair(
                self.client.replace("{n}", str(n)),
                self.server.replace("{n}", str(n)),
                self.port,
                self.transport,
            )
            for n in range(1, self.number + 1)
        ]


class Fault(_Section):
    """Something that happens, to whom, and when.

    Attributes:
        kind: what it is.
        client, server: patterns (as of a shell) of the names of the pairs it happens to.
        port: of those pairs; any if None.
        only: so many of them, the first by name; all if None.
        at: when it begins, seconds after the start.
        lasts: for how long, seconds; for good if None.
        every: it comes again so often, seconds; once if None.
        size: how large; what it means depends on the kind.
        share: of the requests, the slowest, that `tail` is about.
        cause: of failed connects.
    """

    kind: FaultKind
    client: str = "*"
    server: str = "*"
    port: int | None = None
    only: int | None = Field(default=None, ge=1)
    at: Seconds
    lasts: Positive | None = None
    every: Positive | None = None
    size: float | None = Field(default=None, ge=0)
    share: float = Field(default=0.1, gt=0, lt=1)
    cause: str = "refused"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.cause not in CAUSES:
            raise ValueError(f"cause must be one of {', '.join(CAUSES)}, not {self.cause!r}")
        sized = self.kind not in ("silence", "deploy", "pause", "gap", "leak")
        if self.size is None and sized:
            raise ValueError(f"how large is it? {self.kind} needs a size")
        shares = ("errors", "resets", "loss", "stalls", "drops", "lost")
        if self.kind in shares and not 0 <= (self.size or 0) <= 1:
            raise ValueError(f"the size of {self.kind} is a share from 0 to 1, not {self.size:g}")
        if self.kind in ("latency", "tail", "deploy") and self.size == 0:
            raise ValueError(f"the size of {self.kind} is a factor above 0")
        if self.kind in ("pause", "gap", "lost") and self.lasts is None:
            raise ValueError(f"a {self.kind} needs lasts")
        if self.every is not None and (self.lasts is None or self.lasts >= self.every):
            raise ValueError("what comes again must end before: lasts below every")
        return self


def _names_are_unique(every: tuple[Pairs, ...]) -> tuple[Pairs, ...]:
    seen: set[Pair] = set()
    for pair in (pair for pairs in every for pair in pairs.names()):
        if pair in seen:
            raise ValueError(f"{pair} is there twice: pairs differ in a name or in the port")
        seen.add(pair)
    return every


class Scenario(_Section):
    """A whole scenario.

    Attributes:
        about: in one line.
        window: length of a window, seconds, unless told otherwise.
        lasts: how long it runs, seconds, unless told otherwise.
        begin: start of the first window, epoch seconds.
        pairs: who talks.
        faults: what happens.
    """

    about: str = ""
    window: Annotated[float, BeforeValidator(lambda v: check_window(duration_s(v)))] = 1.0
    lasts: Positive = 3600.0
    begin: Annotated[float, BeforeValidator(lambda v: epoch_s(str(v)))] = 1_700_006_400.0
    pairs: Annotated[tuple[Pairs, ...], AfterValidator(_names_are_unique)] = Field(min_length=1)
    faults: tuple[Fault, ...] = ()

    def resized(self, number: int) -> Scenario:
        """Return the scenario with `number` pairs in all, in the same proportions.

        Raises:
            ValueError: it is fewer than there are kinds of pairs.
        """
        if number < len(self.pairs):
            raise ValueError(f"this scenario has {len(self.pairs)} kinds of pairs: ask for as many")
        total = sum(pairs.number for pairs in self.pairs)
        upto, sizes = 0, []
        before = 0
        for pairs in self.pairs:
            upto += pairs.number
            after = max(round(number * upto / total), before + 1)
            sizes.append(after - before)
            before = after
        sizes[sizes.index(max(sizes))] += number - before
        resized = tuple(
            p.model_copy(update={"number": size, "client": _numbered(p, size)})
            for p, size in zip(self.pairs, sizes, strict=True)
        )
        return self.model_copy(update={"pairs": resized})


def _numbered(pairs: Pairs, number: int) -> str:
    named = "{n}" in pairs.client or "{n}" in pairs.server or number == 1
    return pairs.client if named else pairs.client + "-{n}"


def built_in() -> dict[str, Scenario]:
    """Return the scenarios that come with Tailrace, by name."""
    found = {}
    for file in resources.files(__package__).joinpath("scenarios").iterdir():
        if file.name.endswith(".toml"):
            raw = tomllib.loads(file.read_text(encoding="utf-8"))
            found[file.name.removesuffix(".toml")] = Scenario.model_validate(raw)
    return dict(sorted(found.items()))


def load(name: str) -> Scenario:
    """Return a scenario by its name or its file.

    Raises:
        ConfigError: there is none, or it is wrong; the message says where and what to do.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return read(path)
    known = built_in()
    if name in known:
        return known[name]
    raise ConfigError(
        f"no scenario `{name}`, and no file of that name",
        remedy=f"{_LIST}: {', '.join(known)}; a file of your own is named .toml",
    )


def read(path: Path) -> Scenario:
    """Return the scenario in a file.

    Raises:
        ConfigError: it is wrong; the message says where and what to do.
    """
    remedy = "correct it; docs/simulation.md explains the keys of a scenario"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read it: {reason}", where=str(path), remedy=_LIST) from error
    try:
        raw: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = at_line(path, getattr(error, "lineno", None))
        raise ConfigError(f"not TOML: {error}", where=where, remedy=remedy) from error
    try:
        return Scenario.model_validate(raw)
    except ValidationError as error:
        raise explain(
            error, path=path, text=text, model=Scenario, raw=raw, remedy=remedy
        ) from error
