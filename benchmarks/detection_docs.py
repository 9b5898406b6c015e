"""docs/detection.md, made from the results of the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.detection_curves import FINDINGS, OURS
from benchmarks.detection_plots import draw
from benchmarks.detection_sections import SECTIONS, outside, tally

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "detection.md"
PICTURES = ROOT / "docs" / "pictures"
TEMPLATE = Path(__file__).with_name("detection_page.md")


def _in_short(parts: dict[str, Any]) -> str:
    said = []
    for name, one in parts.get("curves", {}).get("sets", {}).items():
        for rate in one["methods"][OURS]:
            ranked = sorted(
                (
                    (figures[rate]["recall"], method)
                    for method, figures in one["methods"].items()
                    if method not in (OURS, FINDINGS)
                ),
                reverse=True,
            )
            ours, found = one["methods"][OURS][rate], one["methods"][FINDINGS][rate]
            said.append(
                f"{name.upper()}, {rate} a week and curve: {100 * ours['recall']:.0f} % of the "
                f"events by our scores (realised / requested {ours['realised']:.2f}), "
                f"{100 * found['recall']:.0f} % by findings ({found['realised']:.2f}); the best "
                f"peer, {ranked[0][1]}, {100 * ranked[0][0]:.0f} %."
            )
    if "delays" in parts:
        for which, threshold in (
            ("pooled", "thresholds that hold the same promise"),
            ("peers", "a threshold for each law and a mean that never moves"),
        ):
            counts = tally(parts["delays"], which).values()
            quicker, same, slower = (sum(row[i] for row in counts) for i in range(3))
            said.append(
                f"Changes of known size, at equal false alerts, against peers with {threshold}: of "
                f"{quicker + same + slower} comparisons ours is quicker in {quicker}, as quick in "
                f"{same}, slower in {slower}."
            )
    if "nulls" in parts:
        found = outside(parts["nulls"])
        total = sum(map(len, found.values()))
        said.append(
            f"The budget where nothing changes, in the worst place within the band: of {total} "
            f"cells {len(found['within'])} are between 0.1 and 1.0, {len(found['below'])} below, "
            f"{len(found['above'])} above and {len(found['perhaps above'])} perhaps above."
        )
    if "cost" in parts:
        last = parts["cost"]["kinds"]["mixed"][-1]
        said.append(
            f"A mixed fleet of {last['streams']:,} streams: {last['ms']:.0f} ms per window on one "
            f"core, {last['ns'] / parts['cost']['adwin_ns']:.2f} of what river's ADWIN takes per "
            f"stream, {last['state_bytes']:.0f} bytes of state per stream."
        )
    return "\n".join(f"- {one}" for one in said) or "*Not measured yet.*"


_TITLES = {
    "curves": "Labelled curves",
    "delays": "Changes of known size",
    "nulls": "The budget where nothing changes",
    "cost": "Cost",
}
_PICTURES = {
    "curves": "Events found by each method, with 95 % intervals",
    "delays": "Median delay of ours and of each peer for one law of each kind",
    "nulls": "Realised over requested false alerts by law; good is the shaded range",
    "cost": "Time per window against streams",
}


def _section(name: str, parts: dict[str, Any]) -> str:
    if name not in parts:
        return (
            f"## {_TITLES[name]}\n\n*Not measured yet: `scripts/bench detection {name} "
            "--write` fills this in.*"
        )
    text = SECTIONS[name](parts[name])
    if not parts[name].get("sets", True):
        return text
    title, _, rest = text.partition("\n\n")
    picture = f"![{_PICTURES[name]}](pictures/detection-{name}.svg)"
    return f"{title}\n\n{picture}\n\n{rest}"


def page(results: dict[str, Any]) -> str:
    """Return the page's text."""
    parts, text = results["parts"], TEMPLATE.read_text(encoding="utf-8")
    filled = {"in_short": _in_short(parts)} | {name: _section(name, parts) for name in SECTIONS}
    for name, body in filled.items():
        text = text.replace(f"{{{name}}}", body)
    return text


def write(results: dict[str, Any]) -> list[Path]:
    """Write the page and its pictures; return the files."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(results))
    return [PAGE, *draw(results["parts"], PICTURES)]
