"""Block Kit as a page that looks like Slack, and as a picture of it.

`scripts/picture FILE.png` draws what the bot makes of an incident that gets worse: it is told to
the Slack-shaped server, and what is then in the channel is drawn.
"""

from __future__ import annotations

import datetime as dt
import html
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from alerts.receivers.slack import SlackBot
from alerts.settings import SlackSettings
from tests.alerts.examples import written
from tests.alerts.messages import firing, updated
from tests.servers.slack import TOKEN, Posted, SlackServer

WIDTH, HEIGHT, SCALE = 760, 2400, 2

STYLE = """
body { margin: 0; padding: 20px 22px; background: #fff; color: #1d1c1d; width: 700px;
       font: 15px/1.46 Lato, "Liberation Sans", "DejaVu Sans", sans-serif, "Noto Color Emoji"; }
.channel { font-weight: 900; font-size: 18px; border-bottom: 1px solid #ddd; padding-bottom: 10px;
           margin-bottom: 14px; }
.message { display: flex; gap: 10px; margin-bottom: 14px; }
.avatar { width: 36px; height: 36px; border-radius: 6px; background: #1264a3; color: #fff;
          flex: none; font: bold 20px/36px sans-serif; text-align: center; }
.who b { font-weight: 900; }
.app { background: #ddd; border-radius: 2px; font-size: 10px; padding: 1px 3px; color: #616061; }
.time, .edited, .context { color: #616061; font-size: 12px; }
.header { font-weight: 900; font-size: 18px; margin: 4px 0 6px; }
.section { margin: 4px 0 8px; }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 16px; margin: 8px 0; }
.context { margin: 6px 0; font-size: 13px; }
code { font: 12px/1.5 "DejaVu Sans Mono", monospace; color: #c01343; background: #f8f8f8;
       border: 1px solid #ddd; border-radius: 3px; padding: 1px 3px; white-space: pre-wrap; }
.thread { border-left: 2px solid #ddd; margin-left: 46px; padding-left: 14px; }
.replies { color: #1264a3; font-weight: bold; font-size: 13px; margin-bottom: 10px; }
"""


def page(messages: Sequence[Posted]) -> str:
    """Return a channel's page: each message that is in no thread, and its thread below it."""
    body = []
    for message in messages:
        if message.thread_ts is not None:
            continue
        body.append(_message(message))
        thread = [reply for reply in messages if reply.thread_ts == message.ts]
        if thread:
            body.append(f'<div class="thread"><div class="replies">{len(thread)} replies</div>')
            body += [_message(reply) for reply in thread]
            body.append("</div>")
    return (
        f"<!DOCTYPE html><html><head><meta charset=utf-8><style>{STYLE}</style></head><body>"
        f'<div class="channel"># alerts</div>{"".join(body)}</body></html>'
    )


def _message(message: Posted) -> str:
    edited = ' <span class="edited">(edited)</span>' if message.edits else ""
    blocks = "".join(map(_block, message.blocks))
    return (
        '<div class="message"><div class="avatar">T</div><div><div class="who"><b>Tailrace</b> '
        f'<span class="app">APP</span>{edited}</div>{blocks}</div></div>'
    )


def _block(block: Mapping[str, Any]) -> str:
    kind = block["type"]
    if kind == "section" and "fields" in block:
        fields = "".join(f"<div>{_text(each)}</div>" for each in block["fields"])
        return f'<div class="fields">{fields}</div>'
    if kind == "context":
        return f'<div class="context">{"".join(map(_text, block["elements"]))}</div>'
    return f'<div class="{kind}">{_text(block["text"])}</div>'


def _text(text: Mapping[str, Any]) -> str:
    """Return a text object as Slack shows it: its own marks only when it is mrkdwn."""
    shown: str = text["text"]
    if text["type"] == "mrkdwn":
        shown = re.sub(r"<!date\^(\d+)\^[^|>]*\|[^>]*>", lambda found: _date(int(found[1])), shown)
        shown = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", shown)
        shown = re.sub(r"(?m)(^|\s)\*([^*\n]+)\*", r"\1<b>\2</b>", shown)
    return shown.replace("\n", "<br>")


def _date(epoch_s: int) -> str:
    moment = dt.datetime.fromtimestamp(epoch_s, tz=dt.UTC)
    return html.escape(f"{moment:%b} {moment.day}, {moment:%Y %H:%M:%S}")


def example() -> list[Posted]:
    """Return what is in the channel after an incident fired and got worse."""
    with SlackServer(per_message_s=0.0) as server, tempfile.TemporaryDirectory() as directory:
        settings = SlackSettings(
            name="chat",
            url=server.api_url,
            token_file=written(Path(directory) / "token", TOKEN),
            channel="#alerts",
        )
        bot = SlackBot(settings, wait=lambda _: None)
        receipt = bot.send(firing(), now=0.0)
        bot.send(updated(earlier=receipt), now=0.0)
        return server.messages


def draw(
    document: str,
    file: Path,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    scale: float = SCALE,
    colours: int = 32,
    dark: bool = False,
) -> None:
    """Write a page as a PNG, cut to what is on it.

    Args:
        document: the page.
        file: where to.
        width: of the window, in CSS pixels.
        height: likewise; what is below is not in the picture.
        scale: pixels of the picture per CSS pixel.
        colours: how many there are in the picture.
        dark: whether the page is asked to be dark.

    Raises:
        FileNotFoundError: there is no Chromium.
        subprocess.CalledProcessError: it did not draw.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise FileNotFoundError("chromium")
    with tempfile.TemporaryDirectory() as directory:
        source, picture = Path(directory) / "page.html", Path(directory) / "page.png"
        source.write_text(document, encoding="utf-8")
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", f"--user-data-dir={directory}/profile", "--hide-scrollbars",
             f"--force-device-scale-factor={scale}", f"--window-size={width},{height}",
             f"--blink-settings=preferredColorScheme={0 if dark else 1}",
             f"--screenshot={picture}", source.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        drawn = Image.open(picture).convert("RGB")
        empty = Image.new("RGB", drawn.size, "white")
        bounds = ImageChops.difference(drawn, empty).getbbox()
        assert bounds is not None
        bottom = min(drawn.height, bounds[3] + round(16 * scale))
        cut = drawn.crop((0, 0, drawn.width, bottom))
        # Few pixels may have the colour that matters, and dithering would blur text
        few = cut.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(file, optimize=True)


if __name__ == "__main__":
    draw(page(example()), Path(sys.argv[1]))
