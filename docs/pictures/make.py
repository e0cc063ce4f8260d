"""Makes the pictures of the documents, here: ``make pictures``. What they show is measured while it runs."""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dashboard import drawn
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from scene import ACTORS, scene, what_is_missing

from tests.e2e.prometheus import Prometheus
from tests.top.terminal import Terminal, terminal
from tests.web.browser import Browser, browser

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"
MOST_BYTES = 150_000
SCALE = 1.5
MARGIN = 8
WATCHED = "shop-db"
TERMINAL = (110, 22)
ROW_PIXELS, HEAD_PIXELS = 32, 46
ADDRESS = "127.0.0.1:9164"
URL = f"http://{ADDRESS}"
CONFIG = """\
global: {{scrape_interval: 2s, scrape_timeout: 2s}}
scrape_configs:
- job_name: pymon-agent
  static_configs:
  - targets: ['{address}']
    labels: {{instance: node1}}
"""
ROWS = "[...document.querySelectorAll('#body .row')].filter((row) => !row.hidden)"
TERMINAL_PAGE = """\
<!DOCTYPE html><meta charset="utf-8"><title>pymon top</title>
<body style="margin: 0; background: {background}; color: {foreground}">
<style>pre {{ margin: 0; padding: 12px; display: inline-block; font: 13.3px/15px "DejaVu Sans Mono", monospace; }}
</style>
<pre>{code}</pre>
"""


async def resize(page: Browser, width: int, height: int) -> None:
    """Give the page a size, in pixels of its style sheet."""
    await page.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=SCALE, mobile=False
    )


async def picture(page: Browser, name: str, first: str, last: str) -> None:
    """Write what the page shows from the top of the element `first` to the bottom of `last`."""
    clip = await page.do(
        f"""(() => {{
          const [top, bottom] = ["{first}", "{last}"].map((one) => document.querySelector(one).getBoundingClientRect());
          const height = bottom.bottom - top.top + {MARGIN};
          return {{ x: 0, y: top.top + scrollY, width: top.left + top.right, height }};
        }})()"""
    )
    clip["scale"] = 1
    taken = await page.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    await asyncio.to_thread(keep, name, base64.b64decode(taken["data"]))


def keep(name: str, content: bytes) -> None:
    """Write a picture, with as few bytes as 256 colours need."""
    file = HERE / f"{name}.png"
    file.write_bytes(content)
    subprocess.run(["pngquant", "--force", "--ext=.png", "--strip", str(file)], check=True)
    size = file.stat().st_size
    print(f"{file.name}: {size >> 10} KiB")
    if size > MOST_BYTES:
        raise ValueError(f"{file}: {size} bytes, expected at most {MOST_BYTES}")


async def of_the_page(page: Browser) -> None:
    """One container, then the table, in light and dark."""
    for name, first, last in (("container", "#details", "#charts"), ("page", "header", "#keys")):
        for scheme in ("light", "dark"):
            await page.scheme(scheme)
            answers = await page.do("[...model.containers.values()][0].points")
            await page.until(f"[...model.containers.values()][0].points > {answers} + 1")
            await picture(page, f"{name}-{scheme}", first, last)
        await page.do("details.close()")


async def of_a_terminal(page: Browser, name: str, here: Terminal, folder: Path) -> None:
    """Draw what a terminal shows. folder: for a file of ours."""
    file = folder / f"{name}.html"
    await asyncio.to_thread(draw_screen, here, file)
    await page.open(file.as_uri())
    await picture(page, name, "pre", "pre")


def draw_screen(here: Terminal, file: Path) -> None:
    """Write what the terminal shows to a file that a browser shows alike."""
    console = Console(record=True, width=TERMINAL[0], file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(Text.from_ansi(here.styled().rstrip("\n")), soft_wrap=True)
    file.write_text(console.export_html(theme=MONOKAI, code_format=TERMINAL_PAGE, inline_styles=True))


async def of_a_dashboard(page: Browser, prometheus: Prometheus, seconds: float) -> None:
    """What one of the dashboards shows of the last seconds."""
    values = {"job": "pymon-agent", "instance": ".+"}
    found = drawn("pymon-neighbours", ("CPU", "Disks"), prometheus.url, time.time(), seconds, values)
    await resize(page, 1180, 1200)
    await page.open((HERE / "dashboard.html").as_uri())
    await page.do(f"draw({json.dumps(found)})")
    await picture(page, "dashboard-neighbours", "body", "body")


async def all_of_them(prometheus: Prometheus, folder: Path, seconds: float) -> None:
    """Watch for this time, then make the pictures."""
    words = ("top", "--url", URL, "--interval", "2s")
    width, height = TERMINAL
    with (
        terminal(*words, width=width, height=height) as table,
        terminal(*words, "--filter", WATCHED, width=width, height=height) as one,
    ):
        one.shows(f"1 of {len(ACTORS)} containers")
        one.keys("Enter")
        one.shows("runtime   docker")
        async with browser() as page:
            await page.send("Emulation.setScrollbarsHidden", hidden=True)
            await resize(page, 1340, (HEAD_PIXELS + ROW_PIXELS * len(ACTORS)) * 10 // 6)
            await page.open(f"{URL}/")
            await page.until(f"{ROWS}.length >= {len(ACTORS)}")
            await page.do(f"{ROWS}.find((row) => row.querySelector('bdi').textContent === '{WATCHED}').click()")
            await asyncio.sleep(seconds)
            await of_the_page(page)
            await of_a_terminal(page, "top", table, folder)
            await of_a_terminal(page, "top-container", one, folder)
            await of_a_dashboard(page, prometheus, seconds)
            if page.problems:
                raise ValueError(f"the browser complains: {page.problems}")


def main() -> None:
    """Write the pictures of the page, of top and of a dashboard into the folder of this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240.0, help="how long to watch before (default 240)")
    seconds = parser.parse_args().seconds
    missing = what_is_missing()
    if missing:
        sys.exit(f"pictures: needs {missing}")
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="pictures-") as name:
        folder = Path(name)
        with (
            scene(folder, "--collector.container_latency", f"--web.listen-address={ADDRESS}"),
            Prometheus(CONFIG.format(address=ADDRESS), folder, timeout=60) as prometheus,
        ):
            asyncio.run(all_of_them(prometheus, folder, seconds))


if __name__ == "__main__":
    main()
