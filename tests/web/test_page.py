"""The page in a real browser: with a real agent, with a real proxy, with many containers and with hostile names."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import pytest

import pymon
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.cli.agent import serve_agent
from pymon.service.answer import Reply
from pymon.service.routes import only_reads
from pymon.service.serve import serve
from pymon.service.server import Request, Server
from pymon.summary_document import COLUMNS
from pymon.web.page import Page
from tests.agent.fixture_host import copy_host
from tests.proxy.running import A, FakeNode, Site, container, running
from tests.proxy.test_summary import row, tells
from tests.web.browser import Browser, browser

FIRST_LOAD_BYTES = 80_000
FIRST_VIEW_SECONDS = 1.0
UPDATE_SECONDS = 0.05
ROWS = "[...document.querySelectorAll('#body .row')].filter((row) => !row.hidden)"
NAMES = f"{ROWS}.map((row) => row.querySelector('bdi').textContent)"
HOSTILE = (
    "<img src=x onerror=alert(1)>", "'\"><script>alert(1)</script>", "a\u202egnp.exe", "zero\u200bwidth", "line\nbreak",
    "\u05e9\u05dc\u05d5\u05dd", "{{7*7}}", "x" * 256,
)  # fmt: skip


class Summaries:
    """A server of the page with a summary of the test's own. CPU time of container N grows by N / 1000 a second."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.status = 200
        self.page = Page("agent", {"/metrics": "/metrics"})

    def document(self) -> bytes:
        now = time.time()
        rows = []
        for number, name in enumerate(self.names):
            numbers = {"start_seconds": 1.7e9, "cpu_seconds": number * now / 1000, "memory_bytes": number << 20}
            items = {"uuid": f"{number:032x}", "name": name, "image": "image", "runtime": "docker", "owner": ""}
            items |= {"state": "running", "health": ""} | numbers
            rows.append([items.get(column) for column in COLUMNS])
        node = {"uuid": "n", "hostname": "node\u202e1", "time": now, "containers": rows, "collectors": {"zfs": False}}
        return json.dumps({"columns": COLUMNS, "nodes": [node]}).encode()

    async def handle(self, request: Request) -> Reply:
        only_reads(request)
        if request.path == "/v1/summary":
            return Reply(
                self.status, b"Content-Type: application/json\r\n", self.document() if self.status == 200 else b""
            )
        return self.page.reply(request, request.path)


@contextlib.asynccontextmanager
async def served(summaries: Summaries) -> AsyncIterator[str]:
    options = load_agent_options(["--web.listen-address=127.0.0.1:0"], {}, ())
    stop = asyncio.Event()
    bound = asyncio.get_running_loop().create_future()
    server = Server(summaries.handle, lambda _: None, None)
    task = asyncio.create_task(serve(server, options.listen_addresses, stop=stop, started=bound.set_result))
    try:
        yield f"http://127.0.0.1:{(await bound)[0].port}/"
    finally:
        stop.set()
        await task


async def first_rows(page: Browser, url: str, rows: int) -> None:
    await page.open(url)
    await page.until(f"{ROWS}.length >= {rows}")


async def test_the_containers_of_an_agent(tmp_path: Path) -> None:
    host = copy_host("v2", tmp_path / "host")
    argv = ["--web.listen-address=127.0.0.1:0", f"--data-dir={tmp_path}", *host.flags()]
    options = load_agent_options(argv, {}, COLLECTORS, version=pymon.__version__)
    stop, bound = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve_agent(options, None, stop, lambda _, addresses: bound.set_result(addresses), lambda: options)
    )
    try:
        url = f"http://127.0.0.1:{(await bound)[0].port}/"
        async with browser() as page:
            await page.size(1280, 900)
            await first_rows(page, url, 5)
            told = await page.do("fetch('/v1/containers').then((answer) => answer.json())")
            names = {one["name"] or one["id"] for one in told["containers"]}
            assert set(await page.do(NAMES)) == names
            assert "job_name: pymon" in await page.do("document.getElementById('config').textContent")
            await page.picture(tmp_path / "agent.png")
            assert page.problems == []
    finally:
        stop.set()
        await task


async def test_five_thousand_containers_by_keyboard_and_search(tmp_path: Path) -> None:
    async with served(Summaries([f"app-{number}" for number in range(5000)])) as url, browser() as page:
        await page.size(1280, 900)
        await first_rows(page, url, 5)
        await page.until(f"{NAMES}[0] === 'app-4999'")  # sorted by CPU once there are rates
        assert await page.do("document.querySelectorAll('#body .row').length") < 60
        assert await page.do("document.getElementById('grid').getAttribute('aria-rowcount')") == "5001"
        await page.do("document.getElementById('grid').focus()")
        await page.key("End")
        await page.until(f"{NAMES}.includes('app-0')")
        await page.key("Home")
        await page.key("ArrowDown")
        await page.key("Enter")
        await page.until("document.getElementById('details-name').textContent === 'app-4998'")
        assert await page.do("document.querySelectorAll('#charts canvas').length") == 5
        assert "CPU cores: in use 5.00" in await page.do("document.getElementById('charts').textContent")
        await page.picture(tmp_path / "details.png")
        await page.key("Escape")
        await page.until("document.getElementById('details').hidden")
        await page.do(
            "const box = document.getElementById('search'); box.value = 'APP-123';box.dispatchEvent(new Event('input'))"
        )
        assert sorted(await page.do(NAMES)) == ["app-123", *(f"app-123{digit}" for digit in range(10))]
        await page.do("document.querySelector('#head button').click()")
        assert (await page.do(NAMES))[0] == "app-123"
        assert page.problems == []


WORK = "(async () => { await poll(); for (let n = 0; n < 2; n += 1) await new Promise(requestAnimationFrame); })()"
"""A reading, and what is drawn of it."""


async def test_five_thousand_containers_cost_the_main_thread_little() -> None:
    """In CPU time, as other processes may hold up the wall clock, and the median, as they take the caches."""
    async with served(Summaries([f"app-{number}" for number in range(5000)])) as url, browser() as page:
        await page.size(1280, 900)
        await page.send("Performance.enable", timeDomain="threadTicks")

        async def spent() -> float:
            found = await page.send("Performance.getMetrics")
            return next(one["value"] for one in found["metrics"] if one["name"] == "TaskDuration")

        await first_rows(page, url, 5)
        assert await spent() < FIRST_VIEW_SECONDS
        readings = []
        for _ in range(6):
            before = await spent()
            await page.do(WORK)
            readings.append(await spent() - before)
        assert await page.do("[...model.containers.values()].every((one) => one.points >= 7 && one.cpu !== null)")
        assert median(readings) < UPDATE_SECONDS, readings


async def test_hostile_names_are_text() -> None:
    async with served(Summaries(list(HOSTILE))) as url, browser() as page:
        await first_rows(page, url, len(HOSTILE))
        expected = {
            name.replace("\u202e", "\\u202e").replace("\u200b", "\\u200b").replace("\n", "\\u000a") for name in HOSTILE
        }
        assert set(await page.do(NAMES)) == expected
        assert await page.do("document.querySelectorAll('#containers img, #containers script').length") == 0
        assert await page.do("document.getElementById('where').textContent") == "node\\u202e1"
        await page.do(f"{ROWS}.forEach((row) => row.click())")
        assert page.problems == []


async def test_a_server_that_fails_is_told_of_and_numbers_stay() -> None:
    summaries = Summaries(["app"])
    async with served(summaries) as url, browser() as page:
        await first_rows(page, url, 1)
        summaries.status = 503
        await page.until("document.getElementById('status').textContent.startsWith('No new numbers')")
        assert await page.do(NAMES) == ["app"]
        summaries.status = 200
        await page.until("document.getElementById('status').textContent === '1 container.'")


async def test_a_tenant_logs_in_with_a_token_and_out(tmp_path: Path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice"), scrape=tells(row(A, name="shop"))) as node:
        site.node("n1", node)
        async with running(site) as proxy, browser() as page:
            await page.open(f"https://127.0.0.1:{proxy.port}/")
            await page.until("!document.getElementById('login').hidden")
            submit = "document.getElementById('token').value = {}; document.querySelector('#login button').click()"
            await page.do(submit.format("'pymon_wrong'"))
            await page.until("document.getElementById('login-error').textContent.startsWith('No account')")
            await page.do(submit.format(json.dumps(alice.token)))
            await page.until(f"{ROWS}.length === 1")
            assert await page.do(NAMES) == ["shop"]
            assert await page.do("document.getElementById('where').textContent") == "account alice, 1 node"
            assert "pymon_" not in await page.do("document.cookie")
            await page.do("document.getElementById('logout').click()")
            await page.until("!document.getElementById('login').hidden")
            assert [text for text in page.problems if "401" not in text] == []


CONTRAST = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found.slice(0, 3);
    }
    return channels(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3);
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(channels(getComputedStyle(element).color)), light(back(element))].sort().reverse();
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push([element.tagName, element.textContent.slice(0, 30), ratio]);
  }
  return poor;
})()
"""
NAMELESS = """
[...document.querySelectorAll('button, input, [tabindex="0"]')].filter((one) => one.checkVisibility()
  && !one.getAttribute('aria-label') && !one.textContent.trim() && !one.closest('label')).map((one) => one.outerHTML)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_in_light_and_dark_and_on_a_phone(scheme: str, tmp_path: Path) -> None:
    async with served(Summaries([f"app-{number}" for number in range(50)])) as url, browser() as page:
        await page.scheme(scheme)
        await page.size(390, 800, phone=True)
        await first_rows(page, url, 5)
        await page.do(f"{ROWS}[0].click()")
        assert await page.do(CONTRAST) == []
        assert await page.do(NAMELESS) == []
        assert await page.do("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        await page.do("window.scrollTo(0, 0)")
        await page.picture(tmp_path / f"phone-{scheme}.png")


def test_the_first_load_is_small_and_asks_nobody_else() -> None:
    static = Path(pymon.__file__).parent / "web" / "static"
    index = (static / "index.html").read_text()
    loaded = [file for file in static.iterdir() if file.name == "index.html" or f"/static/{file.name}" in index]
    assert len(loaded) == 11
    assert sum(len(gzip.compress(file.read_bytes())) for file in loaded) < FIRST_LOAD_BYTES
    own = [file for file in static.iterdir() if not file.name.startswith("uPlot")]
    assert [file.name for file in own if "://" in file.read_text()] == []
