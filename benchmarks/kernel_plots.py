"""The pictures of docs/overhead.md: small SVG files that are readable on light and on dark.

Its style serves other benchmarks, too: INK, TAILRACE, PALETTE, save().
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Middling tones on no background: enough contrast (at least 3:1) with white and with near-black
INK = "#7d8590"
TAILRACE = "#d9730d"
_OTHERS = {"bpftrace": "#3b82c4", "bcc": "#5b9f5b", "softflowd": "#9a6fc4", "tcpdump": "#8a8f98"}
_COLOURS = {"tailrace": TAILRACE, **_OTHERS}
PALETTE = ("#d9730d", "#3b82c4", "#5b9f5b", "#9a6fc4")

mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # text as text: small, and can be searched
        "svg.hashsalt": "tailrace",  # the same results give the same file
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "legend.frameon": False,
        **dict.fromkeys(
            (
                "text.color",
                "axes.labelcolor",
                "axes.edgecolor",
                "axes.titlecolor",
                "xtick.color",
                "ytick.color",
                "grid.color",
            ),
            INK,
        ),
    }
)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure that is the same for the same results; return its path."""
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    # matplotlib ends lines with blanks, which git complains about
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path


def _error(spreads: list[dict[str, float]]) -> list[list[float]]:
    return [
        [one["median"] - one["least"] for one in spreads],
        [one["most"] - one["median"] for one in spreads],
    ]


def _programs(result: dict[str, Any], path: Path) -> Path:
    loads = result["loads"]
    names = sorted({name for load in loads.values() for name in load["programs"]})
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.62 * len(names)))
    thick = 0.8 / len(loads)
    for number, (load, one) in enumerate(loads.items()):
        known = [name for name in names if name in one["programs"]]
        spreads = [one["programs"][name]["ns"] for name in known]
        axes.barh(
            [names.index(name) + (number - (len(loads) - 1) / 2) * thick for name in known],
            [spread["median"] for spread in spreads],
            thick * 0.9,
            xerr=_error(spreads),
            ecolor=INK,
            color=PALETTE[number % len(PALETTE)],
            label=load,
        )
    empty = [
        program["empty_ns"]["median"]
        for load in loads.values()
        for program in load["programs"].values()
        if program["empty_ns"]
    ]
    if empty:
        axes.axvline(sum(empty) / len(empty), color=INK, linestyle="--", label="an empty program")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("ns per event, the meter included")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3, fontsize=8)
    return save(figure, path)


def _one_load(axes: Axes, load: str, tools: dict[str, Any]) -> None:
    for row, (tool, one) in enumerate(tools.items()):
        spread, ratios = one["per_s"]["ratio"], one["per_s"]["ratios"]
        colour = _COLOURS[tool]
        axes.plot([spread["least"], spread["most"]], [row, row], color=colour, linewidth=1.2)
        axes.plot(ratios, [row] * len(ratios), "|", color=colour, markersize=7)
        axes.plot([spread["median"]], [row], "o", color=colour, markersize=6)
    axes.axvline(1.0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(tools)), ["Tailrace" if t == "tailrace" else t for t in tools])
    axes.set_ylim(len(tools) - 0.5, -0.5)
    axes.set_title(load, fontsize=9)


def _throughput(result: dict[str, Any], path: Path) -> Path:
    loads = result["loads"]
    rows = (len(loads) + 1) // 2
    figure, grid = plt.subplots(
        rows, 2, figsize=(7.5, 0.6 + 1.75 * rows), sharex=True, sharey=True, squeeze=False
    )
    flat = list(grid.flat)
    for axes, (load, tools) in zip(flat, loads.items(), strict=False):
        _one_load(axes, load, tools)
    for axes in grid[-1]:
        axes.set_xlabel("requests/s, with / without")
    figure.tight_layout()
    return save(figure, path)


def _sweep(result: dict[str, Any], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(5.5, 3.2))
    sockets = [size["sockets"] for size in result["sizes"]]
    for key, label, colour in (
        ("ss_s", "ss -tinH", _OTHERS["bpftrace"]),
        ("ours_s", "a sweep of Tailrace", TAILRACE),
    ):
        spreads = [size[key] for size in result["sizes"]]
        errors = [[1e3 * one for one in side] for side in _error(spreads)]
        axes.errorbar(
            sockets,
            [1e3 * spread["median"] for spread in spreads],
            yerr=errors,
            marker="o",
            capsize=3,
            color=colour,
            label=label,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.set_xlabel("open TCP sockets")
    axes.set_ylabel("CPU, ms")
    axes.legend()
    return save(figure, path)


_DRAWINGS = {
    "programs": (_programs, "overhead-programs.svg"),
    "throughput": (_throughput, "overhead-throughput.svg"),
    "sweep": (_sweep, "overhead-sweep.svg"),
}


def draw(parts: dict[str, Any], directory: Path) -> list[Path]:
    """Draw what there are results of; return the files."""
    return [
        drawing(parts[part], directory / name)
        for part, (drawing, name) in _DRAWINGS.items()
        if part in parts
    ]
