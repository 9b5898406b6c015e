"""The kernel benchmark's results in words and tables; every figure comes from the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Result = dict[str, Any]

TOOLS = {
    "tailrace": "**Tailrace**",
    "bpftrace": "bpftrace",
    "bcc": "BCC tool",
    "softflowd": "softflowd",
    "tcpdump": "tcpdump",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float) -> str:
    """A share in percent, with as many digits as it deserves."""
    value = 100 * share
    if value == 0:
        return "0 %"
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 1 else 2
    return f"{value:.{digits}f} %"


def _core(spread: Result) -> str:
    return f"{percent(spread['median'])} ({percent(spread['least'])} to {percent(spread['most'])})"


def _ratio(spread: Result, digits: int = 3) -> str:
    low, middle, high = (f"{spread[key]:.{digits}f}" for key in ("least", "median", "most"))
    return f"{middle} ({low} to {high})"


def _seconds(spread: Result, scale: float = 1.0, digits: int = 2) -> str:
    low, middle, high = (f"{spread[key] * scale:.{digits}f}" for key in ("least", "median", "most"))
    return f"{middle} ({low} to {high})"


def megabytes(number: float) -> str:
    return f"{number / 1e6:.0f} MB"


def _us(microseconds: float) -> str:
    return f"{microseconds / 1000:.2f} ms"


def programs(result: Result) -> str:
    """Return the section on ns per event."""
    loads = result["loads"]
    names = sorted({name for load in loads.values() for name in load["programs"]})
    rows = []
    for name in names:
        cells = [f"`{name}`"]
        for load in loads.values():
            one = load["programs"].get(name)
            if one is None:
                cells.append("-")
            else:
                ratio = f" = {one['ratio']['median']:.1f} x" if one["ratio"] else ""
                cells.append(f"{one['ns']['median']:.0f} ns{ratio}")
        rows.append(cells)
    rows.append(
        [
            "all of them, a request",
            *(f"{load['ns_per_request']:,.0f} ns" for load in loads.values()),
        ]
    )
    empty = [
        one["empty_ns"]["median"]
        for load in loads.values()
        for one in load["programs"].values()
        if one["empty_ns"]
    ]
    nothing = f"{min(empty):.0f} to {max(empty):.0f} ns" if empty else "not measured"
    return "\n\n".join(
        [
            "## One event in the kernel",
            "The kernel's own meter (`kernel.bpf_stats_enabled`) says how long each program ran "
            "and how often. Beside each, a program that does nothing is attached to the same "
            "tracepoint and sees the same events; which of the two comes first changes from round "
            f"to round ({result['rounds']} rounds, medians). The programs that do nothing took "
            f"{nothing}: that is the meter's own two readings of the clock and the way in and out, "
            "and it is in every figure of this table.",
            table(["program, and how many times an empty one", *loads], rows),
            "A program that ran less than a hundred times under a load is left out there.",
            "![Bars: ns per event of each program under each load](pictures/overhead-programs.svg)",
        ]
    )


def _said(one: Result) -> str:
    said = one["said"]
    if "lost" in said:
        return f"{said['lost']:.0f} lost"
    if "dropped" in said:
        whole = said["captured"] + said["dropped"]
        return f"{percent(said['dropped'] / whole)} of packets dropped"
    return "does not say"


def throughput(result: Result) -> str:
    """Return the section on requests served with and without each tool."""
    seconds = result["seconds"]
    parts = [
        "## A host that does all it can",
        f"Every run with a tool has a run of {seconds:g} s without any beside it, "
        f"{result['pairs']} pairs each, and which of the two comes first changes from pair to "
        "pair. 50 connections. A ratio is with / without of one pair; the table has the median of "
        "the ratios and their range. The load generator, the server and the tool share the same "
        "cores, so what a tool takes is taken from the service: this is the worst case.",
        "bpftrace and the BCC tool count bytes and calls per connection and nothing else, which is "
        "about the least that can be counted. The BCC tool uses the raw tracepoints that Tailrace "
        "uses. Not every bpftrace knows raw tracepoints (Debian 12's does not), so it is attached "
        "to the same ones the ordinary way. `softflowd -i lo`; `tcpdump -i any -s 96 -w "
        "/dev/null`.",
    ]
    for load, tools in result["loads"].items():
        plain = tools["tailrace"]
        rows = [
            [
                TOOLS[tool],
                _ratio(one["per_s"]["ratio"]),
                _ratio(one["p50_us"]["ratio"], 2),
                _ratio(one["p99_us"]["ratio"], 2),
                _ratio(one["p999_us"]["ratio"], 2),
                percent(one["cpu"]["median"]),
                _said(one),
            ]
            for tool, one in tools.items()
        ]
        parts += [
            f"### {load}",
            f"Without any: {plain['per_s']['without']['median']:,.0f} requests/s; latency "
            f"{_us(plain['p50_us']['without']['median'])} (median), "
            f"{_us(plain['p99_us']['without']['median'])} (p99), "
            f"{_us(plain['p999_us']['without']['median'])} (p99.9).",
            table(
                ["with", "requests/s", "p50", "p99", "p99.9", "its process, of a core", "it says"],
                rows,
            ),
        ]
    return "\n\n".join(
        [
            *parts,
            "![Ranges of requests per second with each tool, relative to without]"
            "(pictures/overhead-throughput.svg)",
        ]
    )


def sweep(result: Result) -> str:
    """Return the section on reading many sockets."""
    rows = [
        [
            f"{size['sockets']:,}",
            f"{size['followed']:,}" if size["followed"] >= 0 else "not said",
            _seconds(size["ours_s"], 1e3, 1) + " ms",
            _seconds(size["ss_s"], 1e3, 1) + " ms",
            f"{size['ratio']:.2f}",
            megabytes(size["pss_bytes"]),
        ]
        for size in result["sizes"]
    ]
    rooms = [f"{size['sockets']:,}" for size in result["sizes"] if size["room"]]
    room = (
        f" With {' and '.join(rooms)} sockets the observer was given room for twice as many, "
        "otherwise it had its default."
        if rooms
        else ""
    )
    return "\n\n".join(
        [
            "## A sweep over many connections",
            "Once a window the observer reads what the kernel has gathered. Its user and system "
            "CPU from one window to the next, beside that of `ss -tinH > /dev/null`, which asks "
            "the kernel about the same sockets, in turns. Both ends of each connection are on this "
            "host: a connection is two sockets. One connection in a hundred moves data each "
            f"second.{room}",
            table(
                ["sockets", "followed", "a sweep", "`ss`", "ratio of the medians", "PSS"],
                rows,
            ),
            "![Lines: CPU of a sweep and of ss over the number of sockets]"
            "(pictures/overhead-sweep.svg)",
        ]
    )


def service(result: Result) -> str:
    """Return the section on a steady load, memory and start-up."""
    steady, host, many = result["steady"], result["host"], result["many_pairs"]
    daemon, start = result["daemon"], result["start"]
    more = [
        [TOOLS[name], _core(spread), f"{host['rates'][name]['median']:,.0f}"]
        for name, spread in sorted(host["more"].items(), key=lambda item: item[1]["median"])
    ]
    return "\n\n".join(
        [
            "## A service at a steady pace",
            f"A paced client asks nginx over {steady['connections']:,} connections; "
            f"{steady['rate']['median']:,.0f} requests/s were answered. In shares of one core:",
            table(
                ["what", "median (range)"],
                [
                    ["programs in the kernel (the kernel's meter)", _core(steady["kernel"])],
                    ["observing process, user and system", _core(steady["process"])],
                    ["**both**", _core(steady["whole"])],
                    ["`tailrace run`, which also detects and stores", _core(daemon["process"])],
                ],
            ),
            f"Lost samples: {steady['lost']}. The meter itself costs some 30 ns an event and is in "
            "the first line.",
            "### The whole host",
            "What a tool makes others do (copying packets, emptied caches) is in no process of its "
            "own. So: how much busier is the whole host at the same pace, in shares of one core, "
            f"with the tool than without it, {host['pairs']} pairs of {host['seconds']:g} s. "
            f"Without any, {host['rate']['median']:,.0f} requests/s were answered and "
            f"{host['without']['median']:.2f} cores were busy "
            f"({host['without']['least']:.2f} to {host['without']['most']:.2f}); a difference "
            "smaller than that range is noise.",
            table(["with", "more, of one core", "requests/s answered"], more),
            "### Memory and start",
            table(
                ["what", "PSS"],
                [
                    [
                        f"observing process, {steady['connections']:,} connections",
                        megabytes(steady["pss_bytes"]),
                    ],
                    [
                        f"observing process, {many['pairs']:,} service pairs",
                        megabytes(many["pss_bytes"]),
                    ],
                    ["`tailrace run`", megabytes(daemon["pss_bytes"])],
                ],
            ),
            f"With {many['pairs']:,} pairs that are all active ({many['rate']:,} requests/s) the "
            f"observing process took {percent(many['process'])} of a core and lost "
            f"{many['lost']} samples.",
            "From the start of the process. The first window ends with a second of the clock, a "
            "quarter to one and a quarter of a second after the probes are ready.",
            table(
                ["", "probes attached and checked", "CPU until then", "first window out"],
                [
                    [
                        what,
                        f"{_seconds(start[kind]['ready_s'])} s",
                        f"{_seconds(start[kind]['cpu_s'])} s",
                        f"{_seconds(start[kind]['first_window_s'])} s",
                    ]
                    for what, kind in (
                        ("the first time, or after an update", "first"),
                        ("compiled before", "again"),
                    )
                ],
            ),
        ]
    )


def idle(result: Result) -> str:
    """Return the section on an idle host."""
    return "\n\n".join(
        [
            "## An idle host",
            f"The observing process takes {_core(result['process'])} of a core, with a window of "
            "one second.",
        ]
    )


SECTIONS = {
    "programs": programs,
    "throughput": throughput,
    "sweep": sweep,
    "service": service,
    "idle": idle,
}
