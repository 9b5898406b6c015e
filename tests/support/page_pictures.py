"""Pictures of the live page for the documentation: `scripts/picture page`.

A simulated shop goes through the daemon's real loop; a quarter of an hour in, its database is
deployed anew and becomes slow. What a browser shows four minutes later is drawn.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome

from alerts.incident import Trigger
from tests.support.browser import browser, resize
from tests.support.page_scene import Scene, scene

PICTURES = Path(__file__).parents[2] / "docs/pictures"
BEFORE_S, LATER_S = 900.0, 510.0
DEPLOY = Trigger(
    kind="deploy",
    service="postgres",
    at=0.0,
    detail="image postgres:17.1 in place of postgres:17.0",
)


def draw(driver: Chrome, file: Path, *, width: int, most: int, scale: float = 1.0) -> None:
    """Draw the page as it is in a window of this width, down to `most` CSS pixels."""
    resize(driver, width, 900, scale=scale)
    driver.refresh()
    driver.execute_async_script("setTimeout(arguments[0], 1500)")
    height = min(most, driver.execute_script("return document.documentElement.scrollHeight"))
    resize(driver, width, height, scale=scale)
    driver.save_screenshot(str(file))
    Image.open(file).convert("RGB").save(file, optimize=True)
    print(f"{file}: {file.stat().st_size // 1000} kB")


def pictures(made: Scene, to: Path) -> None:
    base = made.page.url.partition("?")[0]
    with browser() as driver:
        driver.get(made.page.url)
        draw(driver, to / "page.png", width=1180, most=1130)
        driver.get(base + "pair?client=catalogue&server=postgres&port=5432")
        draw(driver, to / "page-pair.png", width=1180, most=1080)
        driver.get(base)
        draw(driver, to / "page-phone.png", width=360, most=1080, scale=2.0)
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
        draw(driver, to / "page-dark.png", width=1180, most=1130)


def main() -> None:
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    with (
        tempfile.TemporaryDirectory() as directory,
        scene(
            Path(directory) / "state", before_s=BEFORE_S, later_s=LATER_S, trigger=DEPLOY
        ) as made,
    ):
        began = time.time()
        made.feed(round(BEFORE_S))
        made.feed(round(time.time() - began))  # up to now
        with made.live():
            pictures(made, to)


if __name__ == "__main__":
    main()
