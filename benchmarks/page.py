"""What the live page costs with many pairs: first paint, updates in CPU time and bytes, memory.

    scripts/bench page [--pairs 2000] [--windows 30] [--no-browser]

A simulated shop whose database becomes slow stands among further pairs; all windows go through the
daemon's real loop. The server's work is timed in this process, by CPU time, as the median of
several; the first paint is what a real browser says of the page's own process.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from probes.window import Pair
from tailrace.page.live import Known, text
from tailrace.page.overview import Overview
from tailrace.page.pair_detail import PairDetail
from tailrace.page.pair_list import PairList
from tailrace.page.source import Source
from tailrace.page.views import View
from tailrace.simulation.scenario import Pairs
from tests.support.browser import browser
from tests.support.page_scene import Scene, scene

CATALOGUE = Pair("catalogue", "postgres", 5432)
SHOP_PAIRS = 11


def views(source: Source) -> dict[str, tuple[str, Callable[[], View]]]:
    """Return what is measured: its address, and what makes its view."""
    pair = "/pair?client=catalogue&server=postgres&port=5432"
    return {
        "overview": ("/", Overview),
        "list of pairs": ("/pairs", PairList),
        "search": ("/pairs?q=service-7", lambda: PairList(search="service-7")),
        "by latency": ("/pairs?sort=latency", lambda: PairList(sort="latency")),
        "one pair": (pair, lambda: PairDetail(source, CATALOGUE)),
    }


def cpu_ms(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return 1000.0 * (time.process_time() - began)


def measured(made: Scene, source: Source, make: Callable[[], View], windows: int) -> str:
    """Return CPU time of the first look, CPU time and bytes of updates, as cells of a table."""
    view, known = make(), Known()
    first = cpu_ms(lambda: known.changed(view.parts(source.current(), time.time())))
    looks, parts, sent = [], [], []
    for _ in range(windows):
        made.feed()
        looks.append(cpu_ms(source.current))
        snapshot = source.current()

        def update(snapshot: Any = snapshot) -> None:
            sent.append(len(text(known.changed(view.parts(snapshot, time.time()))).encode()))

        parts.append(cpu_ms(update))
    return (
        f"{first:.0f} | {statistics.median(looks):.0f} + {statistics.median(parts):.0f} | "
        f"{statistics.median(sent):,.0f}"
    )


def painted(made: Scene, path: str) -> tuple[float, float, int]:
    """Return first byte and first paint, ms, and the bytes of the page."""
    base = made.page.url.partition("?")[0].rstrip("/")
    with httpx.Client(base_url=base, timeout=60) as client:
        client.get(made.page.url)
        html = client.get(path).content
    with browser() as driver:
        driver.get(made.page.url)
        times = []
        for _ in range(5):
            driver.get(base + path)
            driver.execute_async_script("setTimeout(arguments[0], 300)")
            times.append(driver.execute_script(
                "const at = (type, name) => performance.getEntriesByType(type)"
                ".find((e) => !name || e.name == name);"
                "return [at('navigation').responseStart,"
                " at('paint', 'first-contentful-paint').startTime]"
            ))  # fmt: skip
    first, paint = (statistics.median(column) for column in zip(*times, strict=True))
    return first, paint, len(html)


def memory_kib(pid: int) -> int:
    said = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+)", said, re.MULTILINE)
    assert found
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--windows", type=int, default=30)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    rest = Pairs(client="client-{n}", server="service-{n}", number=options.pairs - SHOP_PAIRS,
                 requests=20, views=True)  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as directory,
        scene(Path(directory) / "state", before_s=1200, more=[rest]) as made,
        Source(made.state_dir) as source,
    ):
        made.feed(150)
        made.feed_until(lambda: bool(made.incidents()))
        print(f"{options.pairs} pairs, {len(made.incidents())} incidents\n")
        print("| view | first look, ms of CPU | an update: what changed + this view, ms of CPU "
              "| bytes an update |\n|---|---|---|---|")  # fmt: skip
        for name, (_, make) in views(source).items():
            print(f"| {name} | {measured(made, source, make, options.windows)} |", flush=True)
        if options.no_browser:
            return
        print("\n| view | first byte, ms | first paint, ms | bytes |\n|---|---|---|---|")
        for name, (path, _) in views(source).items():
            first, paint, size = painted(made, path)
            print(f"| {name} | {first:.0f} | {paint:.0f} | {size:,} |", flush=True)
        process = made.page._process
        assert process is not None
        print(f"\nthe page's process: {memory_kib(process.pid) / 1024:.0f} MiB (PSS)")


if __name__ == "__main__":
    main()
