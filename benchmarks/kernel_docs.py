"""docs/overhead.md, made from the results of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.kernel_child import ROOT
from benchmarks.kernel_plots import draw
from benchmarks.kernel_sections import SECTIONS, megabytes, percent

PAGE = ROOT / "docs" / "overhead.md"
PICTURES = ROOT / "docs" / "pictures"

_CAVEATS = """## What these figures do not say

- **One machine.** The ratios carry further than the times, but a host with more cores, real
  network cards or another kernel has ratios of its own.
- **Both ends on one host.** All traffic is on loopback, so every connection is watched at both
  of its ends, and the probes run twice as often for a request as they would at one end only.
  `tcpdump -i any` and `softflowd -i lo` see loopback packets as well.
- **Closed loops.** wrk and redis-benchmark send the next request when the last is answered; when
  the host stalls, they wait with it, so their high percentiles flatter everybody alike. The
  99.9th percentile of redis-benchmark is that of 99.902 %, the nearest that it prints.
- **The tools do different work.** tcpdump and softflowd see packets and not who sent them;
  bpftrace and the BCC tool count what Tailrace counts least of. None of them can replace another.
- **A process's CPU is not all it costs.** The kernel copies packets for tcpdump and softflowd,
  and runs BPF programs, in the context of whoever sends or receives. Requests served, and the
  whole host's busy time, have it all; a process's share of a core has not.
- **The meter costs.** Timing a BPF program takes two readings of the clock, which are in the
  figures per event and in the steady service's; not in the throughput, where it is off.
"""


def _facts(results: dict[str, Any]) -> str:
    host = results["host"]
    tools = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    return (
        f"Measured on {host['date']}: Linux {host['kernel']}, {host['cores']} cores "
        f"({host['cpu']}), {host['memory_gb']:.0f} GB of memory. {tools}."
    )


def _warnings(results: dict[str, Any]) -> list[str]:
    said = []
    if results["quick"]:
        said.append(
            "> **A quick run**, made while developing: too short to say anything about the cost."
        )
    said += [f"> {warning}" for warning in results["warnings"]]
    if results["failed_starts"]:
        reasons = sorted(set(results["failed_starts"]))
        said.append(
            f"> {len(results['failed_starts'])} starts of the observer failed and were made again: "
            + " ".join(reasons)
        )
    return said


def _in_short(parts: dict[str, Any]) -> str:
    """Return the figures most asked for, in sentences."""
    hot = [
        one
        for load in parts["programs"]["loads"].values()
        for name, one in load["programs"].items()
        if name in ("sock_send_length", "sock_recv_length")
    ]
    said = []
    if hot:
        ns = [one["ns"]["median"] for one in hot]
        said.append(
            f"A send or a receive costs {min(ns):.0f} to {max(ns):.0f} ns in the kernel, depending "
            "on the load, the meter included."
        )
    for load, tools in parts["throughput"]["loads"].items():
        ours, peers = tools["tailrace"]["per_s"]["ratio"], dict(tools)
        del peers["tailrace"]
        others = ", ".join(
            f"{peer} {one['per_s']['ratio']['median']:.2f}" for peer, one in peers.items()
        )
        said.append(
            f"{load[0].upper()}{load[1:]}, all cores busy: {ours['median']:.2f} of the requests/s "
            f"that are served unwatched ({ours['least']:.2f} to {ours['most']:.2f}); {others}."
        )
    largest = parts["sweep"]["sizes"][-1]
    said.append(
        f"A sweep over {largest['sockets']:,} sockets takes {1e3 * largest['ours_s']['median']:.0f}"
        f" ms of CPU, {largest['ratio']:.2f} of what `ss` takes."
    )
    steady, many = parts["service"]["steady"], parts["service"]["many_pairs"]
    said += [
        f"{steady['rate']['median']:,.0f} requests/s over {steady['connections']:,} connections: "
        f"{percent(steady['whole']['median'])} of one core, kernel and user space together.",
        f"Memory: {megabytes(steady['pss_bytes'])} with {steady['connections']:,} connections, "
        f"{megabytes(many['pss_bytes'])} with {many['pairs']:,} service pairs.",
        f"An idle host: {percent(parts['idle']['process']['median'])} of a core. The first window "
        f"is out {parts['service']['start']['again']['first_window_s']['median']:.1f} s after the "
        f"start, {parts['service']['start']['first']['first_window_s']['median']:.1f} s when the "
        "programs must be compiled.",
    ]
    return "\n".join(f"- {one}" for one in said)


def page(results: dict[str, Any]) -> str:
    """Return the page's text."""
    parts = [
        "# What watching costs",
        "Everything on this page, pictures and sentences included, is made by `scripts/bench "
        "kernel --write` in one run: each tool that Tailrace is compared with ran beside it, in "
        "turns. Ranges are the least and the most that was seen.",
        _facts(results),
        *_warnings(results),
        "## In short",
        _in_short(results["parts"]),
        *(SECTIONS[name](result) for name, result in results["parts"].items()),
        _CAVEATS.rstrip(),
        "## Do it again",
        "`scripts/bench kernel` measures all of it and prints it, `scripts/bench kernel sweep "
        "idle` only these parts, `--quick` is short and says little. It needs root and an "
        "otherwise idle machine, and installs what it compares with.",
    ]
    return "\n\n".join(parts) + "\n"


def write(results: dict[str, Any]) -> list[Path]:
    """Write the page and its pictures; return the files."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(results))
    return [PAGE, *draw(results["parts"], PICTURES)]
