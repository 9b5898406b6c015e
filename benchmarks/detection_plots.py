"""The pictures of docs/detection.md, in the style of docs/overhead.md's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.lines import Line2D

from benchmarks.detection_curves import FINDINGS, OURS, SETS
from benchmarks.detection_sections import LEAST, MOST
from benchmarks.kernel_plots import INK, PALETTE, TAILRACE, save


def _colour(name: str) -> str:
    return TAILRACE if name in (OURS, FINDINGS) else INK


def _curves(result: dict[str, Any], path: Path) -> Path:
    sets = result["sets"]
    rates = list(next(iter(sets.values()))["methods"][OURS])
    figure, grid = plt.subplots(
        len(sets), len(rates), figsize=(7.5, 2.9 * len(sets)), sharex=True, squeeze=False
    )
    for axes_row, (name, one) in zip(grid, sets.items(), strict=True):
        order = sorted(one["methods"], key=lambda m: one["methods"][m][rates[0]]["recall"])
        for axes, rate in zip(axes_row, rates, strict=True):
            for place, method in enumerate(order):
                figures = one["methods"][method][rate]
                axes.plot(
                    figures["recall_interval"], [place, place], color=_colour(method), linewidth=1.2
                )
                axes.plot([figures["recall"]], [place], "o", color=_colour(method), markersize=5)
            axes.set_title(f"{SETS[name].split(',')[0]}, {rate} a week", fontsize=9)
            axes.set_yticks(range(len(order)), order if axes is axes_row[0] else [""] * len(order))
            axes.set_xlim(0, 1)
    for axes in grid[-1]:
        axes.set_xlabel("events found")
    figure.tight_layout()
    return save(figure, path)


def _delays(result: dict[str, Any], path: Path) -> Path:
    kinds = result["kinds"]
    figure, row = plt.subplots(1, len(kinds), figsize=(7.5, 3.4), sharey=True, squeeze=False)
    for axes, (kind, laws) in zip(row[0], kinds.items(), strict=True):
        law = laws[min(len(laws) // 2, len(laws) - 1)]
        names = list(law["changes"])
        never = result["limit"] * 1.6
        for method in ["ours", *law["changes"][names[0]]["pooled"]]:
            cells = [law["changes"][name] for name in names]
            found = [
                (one["equal"] if method == "ours" else one["pooled"][method])["median"]
                for one in cells
            ]
            heights = [never if one is None else one for one in found]
            ours = method == "ours"
            axes.plot(
                range(len(names)),
                heights,
                marker="o" if ours else ".",
                color=TAILRACE if ours else INK,
                linewidth=2.0 if ours else 0.8,
                alpha=1.0 if ours else 0.6,
                zorder=3 if ours else 2,
            )
        axes.axhline(never, color=INK, linestyle=":", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set_title(f"{kind}: {law['law']}", fontsize=9)
    row[0][0].set_ylabel("windows until found, median\n(dotted: not found)")
    row[0][-1].legend(
        handles=[
            Line2D([], [], color=TAILRACE, marker="o", label="Tailrace"),
            Line2D([], [], color=INK, marker=".", label="each peer"),
        ],
        fontsize=8,
    )
    figure.tight_layout()
    return save(figure, path)


def _nulls(result: dict[str, Any], path: Path) -> Path:
    places = {"centre": PALETTE[1], "lower edge": PALETTE[2], "upper edge": TAILRACE}
    laws = result["laws"]
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.17 * len(laws)))
    axes.axvspan(LEAST, MOST, color=INK, alpha=0.15, linewidth=0)
    for row, law in enumerate(laws):
        for cells in law["cells"].values():
            for place, colour in places.items():
                ratio = max(cells[place]["ratio"], 1e-4)
                axes.plot([ratio], [row], ".", color=colour, markersize=5, alpha=0.8)
    axes.set_xscale("log")
    axes.set_yticks(
        range(len(laws)), [f"{law['mean']:g}, {law['law']}" for law in laws], fontsize=6
    )
    axes.invert_yaxis()
    axes.set_xlabel("realised / requested false alerts (0.0001 and less at the left)")
    axes.legend(
        handles=[
            Line2D([], [], color=colour, marker=".", linestyle="", label=place)
            for place, colour in places.items()
        ],
        loc="lower center",
        bbox_to_anchor=(0.4, 1.0),
        ncols=3,
        fontsize=8,
    )
    return save(figure, path)


def _cost(result: dict[str, Any], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(5.5, 3.4))
    sizes: list[float] = []
    for number, (kind, figures) in enumerate(result["kinds"].items()):
        sizes = [one["streams"] for one in figures] if len(figures) > len(sizes) else sizes
        axes.plot(
            [one["streams"] for one in figures],
            [one["ms"] for one in figures],
            marker="o" if kind == "mixed" else ".",
            linewidth=2.0 if kind == "mixed" else 1.0,
            color=TAILRACE if kind == "mixed" else PALETTE[number % len(PALETTE)],
            label=kind,
        )
    axes.plot(
        sizes,
        [result["adwin_ns"] * size / 1e6 for size in sizes],
        color=INK,
        linestyle="--",
        label="ADWIN (river), one each",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("streams")
    axes.set_ylabel("CPU per window, ms")
    axes.legend(fontsize=8)
    return save(figure, path)


_DRAWINGS = {"curves": _curves, "delays": _delays, "nulls": _nulls, "cost": _cost}


def draw(parts: dict[str, Any], directory: Path) -> list[Path]:
    """Draw what there are results of; return the files."""
    return [
        drawing(parts[part], directory / f"detection-{part}.svg")
        for part, drawing in _DRAWINGS.items()
        if part in parts and parts[part].get("sets", True)
    ]
