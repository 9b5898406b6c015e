"""Preflight: is everything there that Tailrace takes, and if not, what to do."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailrace import config, pairs, promise, state
from tailrace.check import Check
from tailrace.errors import ConfigError, TailraceError
from tailrace.export.checks import export_checks
from tailrace.history.doctor import history_check

BTF = Path("/sys/kernel/btf/vmlinux")
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_LITTLE_BYTES = 200 * 2**20
_ENGINE_S = 12.0


def examine(state_dir: Path, config_path: Path | None, *, now: float) -> Iterator[Check]:
    """Yield every check, the cheap ones first."""
    yield _python()
    yield _bcc()
    yield _btf()
    yield _capabilities(Path("/proc/self/status"))
    yield from _probes(_hooks(config_path))
    yield _config(config_path)
    yield _state_dir(state_dir)
    yield _disk(state_dir)
    yield history_check(state_dir, config_path, now=now)
    yield _containers(config_path)
    yield _conntrack()
    yield _elsewhere(config_path)
    yield _kubernetes(config_path)
    yield _daemon(state_dir, now)
    yield from promise.calibration_checks(state_dir, now=now)
    yield from promise.budget_checks(state_dir, now=now)
    yield from export_checks(state_dir, config_path, now=now)
    yield _pyarrow()


def _python() -> Check:
    where = "" if sys.prefix == sys.base_prefix else f" in {sys.prefix}"
    return Check(name="python", state="ok", detail=platform.python_version() + where)


def _bcc() -> Check:
    try:
        module: Any = importlib.import_module("bcc")
    except Exception as error:  # a broken libbpf raises anything from OSError up
        return Check(
            name="bcc",
            state="fail",
            detail=f"cannot be imported: {error}",
            remedy="apt-get install python3-bpfcc, and use the system's Python "
            "(python3 -m venv --system-site-packages)",
        )
    if not hasattr(module, "BPF"):
        return Check(
            name="bcc",
            state="fail",
            detail=f"{module.__file__} is another package of the same name",
            remedy="pip uninstall bcc; apt-get install python3-bpfcc",
        )
    return Check(name="bcc", state="ok", detail=str(getattr(module, "__version__", "found")))


def _btf() -> Check:
    kernel = platform.release()
    if BTF.is_file():
        return Check(name="btf", state="ok", detail=f"{BTF}, kernel {kernel}")
    return Check(
        name="btf",
        state="fail",
        detail=f"{BTF} is missing, kernel {kernel}",
        remedy="boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (distributions' own have it)",
    )


def _capabilities(status: Path) -> Check:
    text = next(
        line
        for line in status.read_text(encoding="ascii").splitlines()
        if line.startswith("CapEff")
    )
    held = int(text.split()[1], 16)
    has = {name for name, bit in _CAPABILITIES.items() if held >> bit & 1}
    if "CAP_SYS_ADMIN" in has or {"CAP_BPF", "CAP_PERFMON"} <= has:
        return Check(name="capabilities", state="ok", detail=", ".join(sorted(has)))
    missing = ", ".join(name for name in ("CAP_BPF", "CAP_PERFMON") if name not in has)
    return Check(
        name="capabilities",
        state="fail",
        detail=f"without {missing}",
        remedy="run as root, or give the service AmbientCapabilities=CAP_BPF CAP_PERFMON",
    )


def _hooks(path: Path | None) -> str:
    """Return the hooks that the configuration asks for; what is wrong in it is said elsewhere."""
    with contextlib.suppress(ConfigError):
        return config.load(path).probes.hooks
    return config.Config().probes.hooks


def _probes(hooks: str) -> Iterator[Check]:
    """Yield what the kernel side itself looks at."""
    try:
        from probes.doctor import checks  # noqa: PLC0415 - it needs BCC

        found = checks(hooks)
    except Exception as error:  # the doctor reports what breaks, it does not break
        yield Check(name="probes", state="fail", detail=f"{type(error).__name__}: {error}")
        return
    for check in found:
        yield Check(
            name=check.name,
            state=check.state,
            detail=check.detail,
            remedy=check.remedy,
            hook=check.hook,
        )


def _config(path: Path | None) -> Check:
    try:
        found = config.find(path)
        loaded = config.Config() if found is None else config.read(found)
        config.check_files(loaded)
    except ConfigError as error:
        where = f"{error.where}: " if error.where else ""
        return Check(
            name="configuration", state="fail", detail=where + error.what, remedy=error.remedy
        )
    receivers = len(loaded.alerts.receivers)
    detail = f"{found or 'none, the defaults hold'}; {receivers} receivers"
    if not receivers:
        return Check(
            name="configuration",
            state="warn",
            detail=detail,
            remedy="nobody is told of alerts: add [[alerts.receivers]], `tailrace config init -`",
        )
    return Check(
        name="configuration",
        state="ok",
        detail=detail,
        remedy="try them with `tailrace alert test NAME`",
    )


def _containers(path: Path | None) -> Check:
    """Whether containers can be named."""
    from probes.identity.docker import DockerContainers  # noqa: PLC0415 - slow to import

    sockets = config.Config().probes.container_sockets
    with contextlib.suppress(ConfigError):
        sockets = config.load(path).probes.container_sockets
    there = [socket for socket in sockets if socket.exists()]
    problems = []
    for socket in there:
        engine = DockerContainers(socket)
        if problem := engine.first_problem(_ENGINE_S):
            problems.append(f"{socket}: {problem}")
        engine.close()
    if problems:
        return Check(
            name="container names",
            state="warn",
            detail="; ".join(problems),
            remedy="containers are named by their ids; for names, let Tailrace reach the engine "
            "and install tailrace[docker]",
        )
    names = ", ".join(map(str, there)) or "no engine listens here"
    return Check(name="container names", state="ok", detail=names)


def _elsewhere(path: Path | None) -> Check:
    """How peers that are not on this host are named."""
    settings = config.Config().probes
    with contextlib.suppress(ConfigError):
        settings = config.load(path).probes
    reverse = "; reverse lookup is on" if settings.reverse_dns else ""
    if not settings.dns_names:
        return Check(
            name="names elsewhere",
            state="ok",
            detail=f"by network: [probes] dns_names is off{reverse}",
        )
    with contextlib.suppress(Exception):  # told above, and the doctor does not break
        from probes.doctor import reads_calls  # noqa: PLC0415 - it needs BCC

        if reads_calls():
            return Check(
                name="names elsewhere",
                state="ok",
                detail=f"by the DNS answers of clients here{reverse}",
            )
    return Check(
        name="names elsewhere",
        state="warn",
        detail=f"by network: DNS answers cannot be read on {platform.machine()}{reverse}",
        remedy="name peers by [[services]] with an address",
    )


def _conntrack() -> Check:
    """Whether it is known how addresses are translated."""
    from probes.conntrack.follower import Conntrack  # noqa: PLC0415 - slow to import

    conntrack = Conntrack()
    try:
        whole = conntrack.wait(_ENGINE_S)
        problems, number, kept = conntrack.problems, conntrack.namespaces, conntrack.kept
    finally:
        conntrack.close()
    if not whole:
        problems.append(f"not all was told within {_ENGINE_S:.0f} s")
    if problems:
        return Check(
            name="translations",
            state="warn",
            detail="; ".join(problems),
            remedy="connections through NAT may be named by addresses; TCP's whose two ends are "
            "on this host are not",
        )
    detail = "this kernel does not track connections now, so nothing is translated by it"
    if number:
        detail = f"conntrack of {number} network namespaces, {kept} translated connections"
    return Check(name="translations", state="ok", detail=detail)


def _kubernetes(path: Path | None) -> Check:
    """Whether pods and Services can be named."""
    from probes.identity.kubernetes import KubernetesNames  # noqa: PLC0415 - slow to import

    settings = config.Config().naming_settings().kubernetes
    with contextlib.suppress(ConfigError):
        settings = config.load(path).naming_settings().kubernetes
    if settings.config == "off":
        return Check(name="kubernetes names", state="ok", detail="switched off")
    names = KubernetesNames(settings)
    try:
        problems = names.first_problems(_ENGINE_S)
        where, counts = names.where, names.counts
    finally:
        names.close()
    if not where:
        return Check(
            name="kubernetes names", state="ok", detail="this host is no node of a cluster we know"
        )
    known = f"{counts['Pod']} pods and {counts['Service']} Services, by {where}"
    if not problems:
        return Check(name="kubernetes names", state="ok", detail=known)
    return Check(
        name="kubernetes names",
        state="warn",
        detail=f"{known}; {'; '.join(problems)}",
        remedy=_kubernetes_remedy(problems),
    )


def _kubernetes_remedy(problems: list[str]) -> str:
    text = " ".join(problems)
    if "pip install" in text:
        return "pip install 'tailrace[kubernetes]', or set [probes] kubernetes = \"off\""
    if "not allowed" in text:
        return (
            "give its account the verbs list and watch on pods, services, "
            "endpointslices.discovery.k8s.io, replicasets.apps and jobs.batch: docs/kubernetes.md"
        )
    if "credentials" in text or "configuration" in text:
        return 'correct the kubeconfig or name another, [probes] kubernetes = "PATH"'
    return 'let this host reach the API server, or set [probes] kubernetes = "off"'


def _state_dir(path: Path) -> Check:
    from alerts.errors import StoreError  # noqa: PLC0415 - slow to import
    from alerts.store import Store  # noqa: PLC0415

    at = _existing(path)
    if not os.access(at, os.W_OK | os.X_OK):
        return Check(
            name="state directory",
            state="fail",
            detail=f"{path} cannot be written",
            remedy="run as the user who owns it, or name another with --state-dir",
        )
    try:
        Store.open(path, read_only=True).close()
    except StoreError as error:
        if error.reason == "missing":
            return Check(name="state directory", state="ok", detail=f"{path}, nothing stored yet")
        return Check(name="state directory", state="fail", detail=str(error))
    return Check(name="state directory", state="ok", detail=str(path))


def _disk(path: Path) -> Check:
    free = shutil.disk_usage(_existing(path)).free
    detail = f"{free / 2**20:,.0f} MiB free for {path}"
    if free < _LITTLE_BYTES:
        return Check(name="disk", state="warn", detail=detail, remedy="free some space")
    return Check(name="disk", state="ok", detail=detail)


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _daemon(state_dir: Path, now: float) -> Check:
    try:
        found = pairs.published_by(state_dir / state.PAIRS, now=now)
    except TailraceError as error:
        return Check(name="daemon", state="warn", detail=error.what, remedy="restart it")
    if found is None:
        return Check(name="daemon", state="ok", detail="none is running with this state directory")
    condition = found.condition
    lost = condition.lost_text()
    unknown = f"; {condition.reason}" if condition.reason else ""
    remedies = []
    if condition.folded:
        unknown += f"; {condition.folded_text()}"
        remedies.append("to have rows for more pairs raise [probes] max_pairs")
    if not condition.full:
        remedies.append("counts stay exact; for more samples raise [probes] overhead_budget")
    if lost:
        remedies.append("the rest stays right; windows that lost much are not judged")
    if condition.naming:
        remedies.append("who has no name is shown by a container's id or an address until then")
    return Check(
        name="daemon",
        state="warn" if remedies else "ok",
        detail=f"running, {len(found.rows)} pairs, at {condition.cost_text()}; "
        f"{condition.measure_text()}; lost since its start: {lost or 'nothing'}{unknown}"
        + "".join(f"; {problem}" for problem in condition.naming),
        remedy="; ".join(remedies),
    )


def _pyarrow() -> Check:
    if importlib.util.find_spec("pyarrow") is not None:
        return Check(name="parquet", state="ok", detail="pyarrow is installed")
    return Check(
        name="parquet",
        state="warn",
        detail="pyarrow is not installed: recordings are CSV only",
        remedy="pip install 'tailrace[parquet]' if you want Parquet",
    )
