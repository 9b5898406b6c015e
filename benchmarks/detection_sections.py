"""The detection benchmark's results in words and tables; every figure comes from the results."""

from __future__ import annotations

from typing import Any

from benchmarks.detection_curves import FINDINGS, OURS, SETS
from benchmarks.kernel_sections import table

Result = dict[str, Any]
LEAST, MOST = 0.1, 1.0
"""What realised over requested shall be between."""
FEW_ALARMS = 5.0


def notes_of(result: Result) -> str:
    """Return what must be said before the figures of a part."""
    said = []
    if result["quick"]:
        said.append(
            "> **A quick run**, made to see that it works: too short to say anything about how "
            "well it detects."
        )
    said += [f"> {warning}" for warning in result["warnings"]]
    host = result["host"]
    tools = ", ".join(f"{name} {number}" for name, number in host["versions"].items())
    said.append(
        f"Measured on {host['date']}, one core of {host['cores']} ({host['cpu']}); {tools}."
    )
    return "\n\n".join(said)


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


# Curves


def _seconds(value: float | None) -> str:
    if value is None:
        return "none found"
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min"


def _curve_row(name: str, one: Result) -> list[str]:
    low, high = one["recall_interval"]
    least, most = one["realised_interval"]
    return [
        f"**{name}**" if name in (OURS, FINDINGS) else name,
        f"{one['recall']:.2f} ({low:.2f} to {high:.2f})",
        _seconds(one["delay_median_s"]),
        _seconds(one["delay_p90_s"]),
        f"{one['realised']:.2f} ({least:.2f} to {most:.2f})",
    ]


def curves(result: Result) -> str:
    """Return the section on labelled curves."""
    parts = ["## Labelled curves", notes_of(result)]
    for name, one in result["sets"].items():
        rates = list(one["methods"][OURS])
        for rate in rates:
            ranked = sorted(
                ((method, figures[rate]) for method, figures in one["methods"].items()),
                key=lambda row: -row[1]["recall"],
            )
            head = ["", "events found", "delay, median", "90 %", "realised / requested"]
            parts += [
                f"**{SETS[name]}**: {one['curves']} curves, {one['events']} events in the later "
                f"half ({one['stream_weeks']:.0f} stream-weeks), {rate} false alerts per curve "
                "and week:",
                table(head, [_curve_row(method, figures) for method, figures in ranked]),
            ]
    return "\n\n".join(parts)


# Delays


def _windows(one: Result, limit: int) -> str:
    if one["median"] is None:
        return f"> {limit} ({100 * one['found']:.0f} % found)"
    late = f"> {limit}" if one["p90"] is None else str(one["p90"])
    return f"{one['median']} ({late})"


def _against(ours: int | None, notes: int | None) -> str:
    if notes is None:
        return ""
    return f"; {notes}" + ("" if ours is None else f", x{ours / notes:.2g}")


def _best(peers: Result) -> tuple[str, int] | None:
    known = [(one["median"], name) for name, one in peers.items() if one["median"] is not None]
    return (min(known)[1], min(known)[0]) if known else None


def _compare(change: Result, limit: int) -> str:
    ours = change["equal"]["median"]
    cells = [f"> {limit}" if ours is None else str(ours)]
    for which in ("pooled", "peers"):
        best = _best(change[which])
        cells.append("none" if best is None else f"{best[1]} {best[0]}")
    return "; ".join(cells)


def tally(result: Result, which: str) -> dict[str, list[int]]:
    """Return by peer how often ours was quicker, as quick and slower, in the median.

    Args:
        result: of the part on delays.
        which: "pooled" (peers hold the promise) or "peers" (a threshold for each law).
    """
    counts: dict[str, list[int]] = {}
    never = result["limit"] + 1
    for laws in result["kinds"].values():
        for law in laws:
            for change in law["changes"].values():
                ours = change["equal"]["median"] or never
                for name, one in change[which].items():
                    theirs = one["median"] or never
                    place = 0 if ours < theirs else 1 if ours == theirs else 2
                    counts.setdefault(name, [0, 0, 0])[place] += 1
    return counts


def _delay_tables(kind: str, laws: list[Result], limit: int) -> list[str]:
    names = list(laws[0]["changes"])
    fleet, equal = [], []
    every: dict[str, list[list[str]]] = {"pooled": [], "peers": []}
    for law in laws:
        changes = law["changes"]
        for run, label in (("fleet", ""), ("fine", ", `min_change` 0.001")):
            if run in changes[names[0]]:
                cells = [
                    _windows(changes[name][run], limit)
                    + _against(changes[name][run]["median"], changes[name]["notes"])
                    for name in names
                ]
                fleet.append([law["law"] + label, *cells])
        equal.append([law["law"]] + [_compare(changes[name], limit) for name in names])
        for which, rows in every.items():
            own = [_windows(changes[name]["equal"], limit) for name in names]
            rows.append([law["law"], "**Tailrace**", *own])
            for peer in changes[names[0]][which]:
                cells = [_windows(changes[name][which][peer], limit) for name in names]
                rows.append([law["law"], peer, *cells])
    head = [kind, "", *names]
    return [
        f"**{kind.capitalize()}, at the threshold of a fleet**: windows until found, median (90 %)"
        "; the first experiments' median where there is one, and ours over it.",
        table([kind, *names], fleet),
        f"**{kind.capitalize()}, at the peers' false alerts**: our median; the quickest peer's "
        "that holds the same promise; the quickest peer's with a threshold for each law.",
        table([kind, *names], equal),
        _details(f"{kind}: every peer, holding the promise", table(head, every["pooled"])),
        _details(f"{kind}: every peer, a threshold for each law", table(head, every["peers"])),
    ]


def delays(result: Result) -> str:
    """Return the section on changes of known size."""
    parts = ["## Changes of known size", notes_of(result)]
    parts.append(
        f"Windows of {result['width_s']:g} s, each stream learned from "
        f"{result['history_windows']:,} of them. Equal false alerts: {result['rate']:g} per stream "
        f"and window, the peers' thresholds from {result['null_stream_windows']:.0e} windows of "
        "streams of each law in which nothing changes (FOCuS half of it, BOCPD a quarter, ADWIN a "
        "twentieth). "
        "A peer gets, first, one threshold that holds what ours promises: for all laws of a kind, "
        "with means anywhere within `min_change` (half of the streams at its edges). Second, one "
        "for each law with the mean exactly as it was learned, as if somebody had tuned it stream "
        "by stream and nothing ever wandered. Ours has its budget and nothing else."
    )
    for kind, laws in result["kinds"].items():
        parts += _delay_tables(kind, laws, result["limit"])
    pooled, own = tally(result, "pooled"), tally(result, "peers")
    rows = [[name, *map(str, pooled[name]), *map(str, own[name])] for name in sorted(pooled)]
    parts += [
        "Over all laws and changes, our median against each peer's at equal false alerts: holding "
        "the promise, then with a threshold for each law:",
        table(["", "quicker", "same", "slower", "each law: quicker", "same", "slower"], rows),
    ]
    return "\n\n".join(parts)


# Nulls


def _figure(one: Result) -> str:
    doubt = "?" if 0.0 < one["alarms"] < FEW_ALARMS else ""
    return f"{one['ratio']:.2g}{doubt}"


def _interval(one: Result) -> str:
    return f"{_figure(one)} ({one['low']:.1g} to {one['high']:.1g})"


def worst(places: Result) -> Result:
    """Return the place within the band with the most false alerts."""
    found: Result = max(places.values(), key=lambda one: one["ratio"])
    return found


def outside(result: Result) -> dict[str, list[str]]:
    """Return the cells above and below what was promised, by the worst place of each."""
    found: dict[str, list[str]] = {"above": [], "perhaps above": [], "below": [], "within": []}
    for law in result["laws"]:
        for budget, places in law["cells"].items():
            one = worst(places)
            name = f"{law['law']}, mean {law['mean']:g}, {budget}: {_interval(one)}"
            if one["ratio"] > MOST:
                found["above" if one["low"] > MOST else "perhaps above"].append(name)
            else:
                found["within" if one["ratio"] >= LEAST else "below"].append(name)
    return found


def _null_table(result: Result) -> str:
    budgets = list(result["laws"][0]["cells"])
    rows = [
        [f"{law['mean']:g}", law["law"]]
        + [
            f"{_figure(law['cells'][one]['centre'])} / {_figure(worst(law['cells'][one]))}"
            for one in budgets
        ]
        for law in result["laws"]
    ]
    return table(["events per window", "law", *budgets], rows)


def nulls(result: Result) -> str:
    """Return the section on the budget."""
    parts = ["## The budget where nothing changes", notes_of(result)]
    parts += [
        "Realised over requested false alerts: where the mean is what was learned / where it is "
        f"worst within the band ({100 * result['edge']:.0f} % up or down at once and for good). "
        "`?`: fewer than five effective alarms stand behind it.",
        _null_table(result),
    ]
    found = outside(result)
    total = sum(map(len, found.values()))
    parts.append(
        f"Of {total} cells, by the worst place: {len(found['within'])} between {LEAST:g} and "
        f"{MOST:g}; {len(found['below'])} below, which is safe and costs delay; "
        f"{len(found['above'])} above for certain, and {len(found['perhaps above'])} above within "
        "the error of this measurement."
    )
    for name in ("above", "perhaps above"):
        if found[name]:
            parts.append(
                _details(f"cells {name} {MOST:g}", "\n".join(f"- {x}" for x in found[name]))
            )
    rows = [
        [
            f"{law['mean']:g}",
            law["law"],
            _interval(law["counted"]["plain"]),
            _interval(law["counted"]["tilted"]),
        ]
        for law in result["laws"]
        if "counted" in law
    ]
    check = table(["events per window", "law", "counted", "importance sampling"], rows)
    parts.append(
        _details("a check: a budget of 40 in one run, at the upper edge, measured both ways", check)
    )
    kinds = [
        [
            one["kind"],
            f"{one['expected']:g}",
            f"{one['realised']}",
            f"{one['realised'] / one['expected']:.2g}",
        ]
        for one in result["kinds"]
    ]
    parts += [
        "Other kinds of signal, counted plainly at a budget large enough for it (dispersion 20; "
        "traffic wanders by 15 %, AR(1) 0.9, where there are 20 events):",
        table(["", "requested", "realised", "ratio"], kinds),
    ]
    return "\n\n".join(parts)


# Cost


def _bytes(number: float) -> str:
    return f"{number / 1e6:.1f} MB" if number < 1e9 else f"{number / 1e9:.2f} GB"


def cost(result: Result) -> str:
    """Return the section on time and memory."""
    sizes = sorted({one["streams"] for kind in result["kinds"].values() for one in kind})
    rows = []
    for kind, figures in result["kinds"].items():
        by_size = {one["streams"]: one for one in figures}
        known = [by_size.get(size) for size in sizes]
        cells = ["" if one is None else f"{one['ms']:.3g} ({one['worst_ms']:.3g})" for one in known]
        last = figures[-1]
        rows.append(
            [
                kind,
                *cells,
                f"{last['ns']:.0f}",
                f"{last['ns'] / result['adwin_ns']:.2f}",
                f"{last['state_bytes']:.0f}",
                f"{last['resident_bytes']:.0f}",
            ]
        )
    head = [
        "",
        *(f"{size:,}" for size in sizes),
        "ns each",
        "of ADWIN's",
        "state, B",
        "resident, B",
    ]
    parts = [
        "## Cost",
        notes_of(result),
        "Milliseconds of CPU for one window, mean (worst), by the number of streams; then, of the "
        "largest number: ns per stream and window, that over river's ADWIN in the same run "
        f"({result['adwin_ns']:.0f} ns per update), bytes of the engine's arrays per stream (spare "
        "room of growing tables included), and what the process grew by, names included.",
        table(head, rows),
    ]
    parts += [
        f"Not measured: {one['streams']:,} streams of {one['kind']}, for want of {one['why']}."
        for one in result["skipped"]
    ]
    shots = [
        [
            f"{one['streams']:,}",
            _bytes(one["bytes"]),
            f"{one['save_s']:.2f}",
            f"{one['load_s']:.2f}",
        ]
        for one in result["snapshots"]
    ]
    parts += [
        "Snapshots of a mixed fleet, seconds of CPU:",
        table(["streams", "size", "save, s", "load, s"], shots),
    ]
    return "\n\n".join(parts)


SECTIONS = {"curves": curves, "delays": delays, "nulls": nulls, "cost": cost}
