"""Engines: what judges windows, chosen by name.

`[detector] model` is a name of `KNOWN`, or `river:` and the class of a drift detector or of an
anomaly detector; either may be followed by options in parentheses, as in a call:

    tailrace
    river-adwin(delta=1e-9)
    river:drift.KSWIN(alpha=1e-6, window_size=120)
    river:mypackage.mymodule.MyDetector
"""

from __future__ import annotations

import ast
import difflib
import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:  # engines are slow to import, and the configuration only asks for their names
    import numpy as np
    from numpy.typing import NDArray

    from detector.calibration import Calibration, Change
    from detector.finding import Finding
    from detector.settings import DetectorSettings
    from probes.window import Window

DEFAULT: Final = "tailrace"
RIVER: Final = ("river-adwin", "river-page-hinkley", "river-holt-winters")
KNOWN: Final = (DEFAULT, *RIVER)
ANY_RIVER: Final = "river:"
"""What the name of a class begins with: below the package river if it is there, else anywhere."""
MAGIC: Final = b"TAILRACE-ENGINE "
"""What the state of any engine but the default begins with; the model and a newline follow."""

Option = bool | int | float | str | None


class Engine(Protocol):
    """What an engine must offer; it is pure, as `detector` is.

    The same windows give the same findings and the same state, byte for byte, whatever the order
    of their rows, and across a restart from `to_bytes` at any window.
    """

    def update(self, window: Window) -> list[Finding]:
        """Take the next window; return findings that began ("firing") or ended in it.

        A window that is not later than the last, lost samples or was stretched by a pause, and
        rows with numbers that their signal cannot have, neither alarm nor teach.
        """

    def scores(self) -> NDArray[np.float64]:
        """Return the last window's anomaly scores, float64[rows] in [0, 1], in its row order."""

    def firing(self) -> list[Finding]:
        """Return the findings that have not ended, in order."""

    def learning(self) -> tuple[int, int]:
        """Return how many streams are still learning, and how many are judged."""

    def calibration(self) -> list[Calibration]:
        """Return, per kind of signal, whether the promise holds."""

    def changes(self) -> list[Change]:
        """Return what has changed without being worth a page."""

    def to_bytes(self) -> bytes:
        """Return the whole state; `restore` continues from it as if never stopped."""


class Spec(NamedTuple):
    """A model by name, with what was said about it.

    Attributes:
        name: as in `KNOWN`, or `river:` and a class.
        options: keyword arguments of the model.
    """

    name: str
    options: dict[str, Option]

    def __str__(self) -> str:
        told = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({told})" if told else self.name


def parse(model: str) -> Spec:
    """Return the model that a text names; classes are not looked for.

    Raises:
        ValueError: no such model, or options that are not of the form `key=number`.
    """
    match = re.fullmatch(r"\s*([\w:.\-]+)\s*(\(.*\))?\s*", model, re.DOTALL)
    if match is None:
        raise ValueError(f"{model!r} is not a model; {_known()}")
    name, options = match[1], match[2]
    if name.startswith(ANY_RIVER):
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name.removeprefix(ANY_RIVER)):
            raise ValueError(f'{name!r} names no class, write it like "river:drift.KSWIN"')
    elif name not in KNOWN:
        near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.6)
        meant = f", did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"no model {name!r}{meant} {_known()}")
    spec = Spec(name, {} if options is None else _options(model, options))
    if name == DEFAULT and spec.options:
        raise ValueError("the model 'tailrace' takes no options: its knobs are keys of [detector]")
    return spec


def check(model: str) -> str:
    """Return the model if there is such a one and it takes its options.

    Raises:
        ValueError: there is none; the message says what there is.
    """
    spec = parse(model)
    if spec.name.startswith(ANY_RIVER) or spec.options:
        from detector.river_models import factory  # noqa: PLC0415 - river takes a second

        factory(spec)()
    return str(spec)


def new(settings: DetectorSettings) -> Engine:
    """Return the engine that `settings.model` names, without a memory.

    Raises:
        ValueError: there is no such model.
    """
    if parse(settings.model).name == DEFAULT:
        from detector.engine import Detector  # noqa: PLC0415

        return Detector(settings)
    from detector.river_engine import RiverEngine  # noqa: PLC0415

    return RiverEngine(settings)


def restore(data: bytes, settings: DetectorSettings) -> Engine:
    """Return the engine that `settings.model` names, whose `to_bytes` gave `data`.

    Raises:
        ValueError: `data` is another engine's, is damaged, or is of a newer version.
    """
    wrote, spec = model_of(data), parse(settings.model)
    if wrote != (asked := str(spec)):
        raise ValueError(
            f'it is the state of the model "{wrote}", and [detector] model is "{asked}"'
        )
    if spec.name == DEFAULT:
        from detector.engine import Detector  # noqa: PLC0415

        return Detector.from_bytes(data, settings)
    from detector.river_engine import RiverEngine  # noqa: PLC0415

    return RiverEngine.from_bytes(data, settings)


def caution(model: str) -> str:
    """Return what a user must know who has chosen this model, "" for the default."""
    if parse(model).name == DEFAULT:
        return ""
    return (
        f"judged by {model}: false_alerts does not hold for it, and it tells of no new or silent "
        "pairs"
    )


def model_of(data: bytes) -> str:
    """Return the model whose state `data` is.

    Raises:
        ValueError: it is no engine's.
    """
    from detector import state  # noqa: PLC0415

    if data.startswith(state.MAGIC):
        return DEFAULT
    if not data.startswith(MAGIC):
        raise ValueError("not the state of a Tailrace detector; remove it to start afresh")
    return data[len(MAGIC) :].split(b"\n", 1)[0].decode("utf-8", "replace")


def _known() -> str:
    return f'known models are {", ".join(KNOWN)}, and "river:drift.KSWIN" or any such class'


def _options(model: str, text: str) -> dict[str, Option]:
    advice = f'cannot read the options of {model!r}, write them like "river-adwin(delta=1e-9)"'
    try:
        call = ast.parse(f"model{text}", mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ValueError(advice) from error
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise ValueError(advice)
    options: dict[str, Option] = {}
    for keyword in call.keywords:
        try:
            value = ast.literal_eval(keyword.value)
        except (TypeError, ValueError) as error:
            raise ValueError(advice) from error
        if keyword.arg is None or not isinstance(value, Option):
            raise ValueError(advice)
        options[keyword.arg] = value
    return options
