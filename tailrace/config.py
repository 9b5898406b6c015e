"""The configuration: a TOML file in, settings of every part out.

Looked for at --config, $TAILRACE_CONFIG and /etc/tailrace/tailrace.toml, in this order; without
any of them the defaults hold.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    model_validator,
)

from alerts.policy import Rules
from alerts.settings import ReceiverSettings
from detector import engines
from detector.settings import MIN_CHANGE, DetectorSettings
from probes.hooks import Hooks
from probes.identity.docker import SOCKETS
from probes.identity.kubernetes import KubernetesSettings
from probes.identity.rules import Rule
from probes.identity.sources import NamingSettings
from tailrace.config_alerts import Notifications
from tailrace.config_errors import explain
from tailrace.config_export import Metrics, Otlp, tables
from tailrace.config_history import History
from tailrace.config_page import Page
from tailrace.config_receivers import check_secret, files_of, receiver_table, with_files_at
from tailrace.durations import (
    duration_s,
    duration_text,
    exact_text,
    per_week,
    share,
    share_text,
)
from tailrace.errors import ConfigError, at_line
from tailrace.least_change import by_name

SYSTEM_PATH = Path("/etc/tailrace/tailrace.toml")
VARIABLE = "TAILRACE_CONFIG"
SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 0.1, 60.0


def check_window(seconds: float) -> float:
    """Return the length of a window if it is allowed.

    Raises:
        ValueError: it is not within 100 ms and 60 s.
    """
    if not SHORTEST_WINDOW_S <= seconds <= LONGEST_WINDOW_S:
        raise ValueError(f"a window is from 100ms to 60s long, not {duration_text(seconds)}")
    return seconds


Seconds = Annotated[float, BeforeValidator(duration_s)]
Rate = Annotated[float, BeforeValidator(per_week)]
Share = Annotated[float | None, BeforeValidator(share)]


def _kubeconfig(asked: str) -> str:
    if asked not in ("auto", "off") and not asked.startswith("/"):
        raise ValueError(f'"auto", "off" or the whole path of a kubeconfig, not {asked!r}')
    return asked


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Probes(_Section):
    """What is observed, how, how often it is read, and what that may cost.

    Attributes:
        window: length of a window, seconds.
        hooks: "auto", or the one family of hooks that may be used.
        overhead_budget: share of one core that the daemon and its programs may use before they
            measure less; None for no limit.
        container_sockets: of engines that speak Docker's API, to name containers.
        netns: network namespaces to look at, by name or path; all if there is none.
        dns_names: whether peers elsewhere are named by the DNS answers of clients here.
        reverse_dns: whether DNS is asked for the names of addresses that have none so far.
        max_pairs: so many pairs have rows of their own; the rest counts under `other`.
        kubernetes: "auto", "off" or the path of a kubeconfig, to name pods and Services.
        kubernetes_context: of that kubeconfig; None for its current one.
    """

    window: Annotated[float, BeforeValidator(lambda v: check_window(duration_s(v)))] = 1.0
    hooks: Hooks = "auto"
    overhead_budget: Share = Field(default="0.5%", validate_default=True)
    container_sockets: tuple[Path, ...] = SOCKETS
    netns: tuple[str, ...] = ()
    dns_names: bool = True
    reverse_dns: bool = False
    max_pairs: int = Field(default=10_000, ge=10, le=100_000)
    kubernetes: Annotated[str, AfterValidator(_kubeconfig)] = "auto"
    kubernetes_context: str | None = Field(default=None, min_length=1)


class Detector(_Section):
    """What is worth a finding.

    Attributes:
        false_alerts: how many alerts without a real cause are acceptable, per week.
        warmup: shortest history before a pair is judged, seconds.
        min_change: by signal or kind of signal, the least change that is news, a fraction.
        model: which engine judges, as `detector.engines` says.
    """

    false_alerts: Rate = Field(default="1/week", validate_default=True)
    warmup: Seconds = 45.0
    min_change: Annotated[dict[str, float], BeforeValidator(by_name)] = {}
    model: Annotated[str, AfterValidator(engines.check)] = engines.DEFAULT

    @property
    def false_alerts_text(self) -> str:
        """The budget as it is written, e.g. "1/week"."""
        return _rate_text(self.false_alerts)


Receiver = Annotated[ReceiverSettings, Field(discriminator="type")]


class Alerts(Notifications):
    """Where alerts go."""

    receivers: tuple[Receiver, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [receiver.name for receiver in self.receivers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two receivers are named `{name}`: names must be unique")
        self.check_routes(names)
        return self


class Service(_Section):
    """A name of the user's own, and who gets it: whoever meets all that is given.

    Attributes:
        name: of the service.
        executable: pattern (as of a shell) of the path or name of the file that runs.
        command: pattern of the command line.
        cgroup: pattern of the path of one of its cgroups.
        labels: patterns of labels of its container.
        port: where it listens.
        address: address or network of a peer that is not on this host.
    """

    name: str = Field(min_length=1, max_length=200)
    executable: str = ""
    command: str = ""
    cgroup: str = ""
    labels: dict[str, str] = {}
    port: int | None = Field(default=None, ge=1, le=65535)
    address: IPvAnyNetwork | None = None

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        of_process = [self.executable, self.command, self.cgroup, self.labels]
        if self.address is not None and any(of_process):
            raise ValueError("an address is of a peer elsewhere: only a port can go with it")
        if self.address is None and self.port is None and not any(of_process):
            raise ValueError("say who it is: executable, command, cgroup, labels, port or address")
        return self


class Config(_Section):
    """The whole configuration, checked."""

    probes: Probes = Probes()
    detector: Detector = Detector()
    alerts: Alerts = Alerts()
    history: History = History()
    page: Page = Page()
    metrics: Metrics = Metrics()
    otlp: Otlp = Otlp()
    services: tuple[Service, ...] = ()

    def naming_settings(self) -> NamingSettings:
        """Return what naming needs to know."""
        return NamingSettings(
            rules=tuple(Rule(**service.model_dump()) for service in self.services),
            container_sockets=self.probes.container_sockets,
            dns_names=self.probes.dns_names,
            reverse_dns=self.probes.reverse_dns,
            most_pairs=self.probes.max_pairs,
            kubernetes=KubernetesSettings(
                config=self.probes.kubernetes, context=self.probes.kubernetes_context
            ),
        )

    def detector_settings(self) -> DetectorSettings:
        """Return what the detector needs to know."""
        return DetectorSettings(
            false_alerts_per_week=self.detector.false_alerts,
            warmup_s=self.detector.warmup,
            min_change=self.detector.min_change,
            model=self.detector.model,
        )

    def receiver_settings(self) -> tuple[ReceiverSettings, ...]:
        """Return what the delivery needs to know, receiver by receiver."""
        return self.alerts.receivers

    def notification_rules(self, resend_s: Mapping[str, float | None] | None = None) -> Rules:
        """Return what is told to whom.

        Args:
            resend_s: by receiver, how often it wants to hear of what still fires.
        """
        names = [receiver.name for receiver in self.alerts.receivers]
        return self.alerts.rules(dict.fromkeys(names) | dict(resend_s or {}))

    def to_dict(self) -> dict[str, Any]:
        """Return the effective configuration as it is written in TOML; no secret is in it."""
        receivers = [receiver_table(receiver) for receiver in self.alerts.receivers]
        services = [
            {
                key: str(value) if key == "address" else value
                for key, value in service.model_dump(exclude_defaults=True).items()
            }
            for service in self.services
        ]
        return {
            "services": services,
            "probes": {
                "window": exact_text(self.probes.window),
                "hooks": self.probes.hooks,
                "overhead_budget": share_text(self.probes.overhead_budget),
                "container_sockets": [str(path) for path in self.probes.container_sockets],
                "netns": list(self.probes.netns),
                "dns_names": self.probes.dns_names,
                "reverse_dns": self.probes.reverse_dns,
                "max_pairs": self.probes.max_pairs,
                **self.probes.model_dump(
                    include={"kubernetes", "kubernetes_context"}, exclude_none=True
                ),
            },
            "detector": {
                "false_alerts": self.detector.false_alerts_text,
                "warmup": exact_text(self.detector.warmup),
                "model": self.detector.model,
                "min_change": {
                    name: share_text(value)
                    for name, value in {**MIN_CHANGE, **self.detector.min_change}.items()
                },
            },
            "history": self.history.table(),
            "page": self.page.table(),
            "alerts": {"receivers": receivers, **self.alerts.tables()},
            **tables(self.metrics, self.otlp),
        }


def find(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file that counts, or None when there is none.

    Raises:
        ConfigError: the file that was asked for does not exist.
    """
    asked = [(given, "--config"), (environment.get(VARIABLE), f"${VARIABLE}")]
    for path, by in asked:
        if path:
            if not Path(path).is_file():
                raise ConfigError(
                    "no such file",
                    where=f"{path} (from {by})",
                    remedy="correct the path, or write a sample with `tailrace config init FILE`",
                )
            return Path(path)
    return SYSTEM_PATH if SYSTEM_PATH.is_file() else None


def load(given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that counts; the defaults when there is no file.

    Raises:
        ConfigError: it is wrong; the message says where and what to do.
    """
    path = find(given, environment)
    return Config() if path is None else read(path)


def read(path: Path) -> Config:
    """Return the configuration in a file.

    Raises:
        ConfigError: it is wrong; the message says where and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read it: {reason}", where=str(path),
                          remedy="make it a readable TOML file") from error  # fmt: skip
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"not TOML: {error}",
            where=at_line(path, getattr(error, "lineno", None)),
            remedy="correct that line; `tailrace config init` writes a sample to compare with",
        ) from error
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise explain(error, path=path, text=text, model=Config, raw=raw) from error
    return _with_absolute_paths(config, path.absolute().parent)


def check_files(config: Config, *, only: str | None = None) -> None:
    """Check that the files with secrets can be read; their content is never shown.

    Args:
        config: what names them.
        only: the one receiver to look at; None for all, and the page.

    Raises:
        ConfigError: one cannot.
    """
    if only is None:
        config.otlp.secret_headers()
    for receiver in config.alerts.receivers:
        if only is not None and receiver.name != only:
            continue
        for key, file in files_of(receiver).items():
            check_secret(file, where=f"receiver `{receiver.name}`, key `{key}`")
    if only is None and config.page.enabled and config.page.password_file is not None:
        check_secret(config.page.password_file, where="[page], key `password_file`")


def _with_absolute_paths(config: Config, base: Path) -> Config:
    receivers = tuple(with_files_at(base, receiver) for receiver in config.alerts.receivers)
    alerts = config.alerts.model_copy(update={"receivers": receivers})
    page, otlp = config.page.relative_to(base), config.otlp.at(base)
    return config.model_copy(update={"alerts": alerts, "page": page, "otlp": otlp})


def _rate_text(per_week_value: float) -> str:
    for unit, factor in (("week", 1.0), ("day", 7.0), ("month", 7.0 / 30.0)):
        number = per_week_value / factor
        if abs(number - round(number)) < 1e-9:
            return f"{round(number)}/{unit}"
    return f"{per_week_value!r}/week"
