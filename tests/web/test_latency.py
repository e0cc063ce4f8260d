"""Heat maps of one container's waiting times, from the histograms of its metrics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pymon.catalogue.latency import bounds_seconds
from pymon.service.answer import TEXT, Reply, text_reply
from pymon.service.server import Request
from tests.proxy.running import A, FakeNode, Site, answer, container, running
from tests.proxy.test_summary import row, tells
from tests.web.browser import Browser, browser
from tests.web.test_page import ROWS, Summaries, first_rows, served

CPU, BLOCK = "container_cpu_run_delay_seconds", "container_io_latency_seconds"
BOUNDS = bounds_seconds()
CAPTIONS = "[...document.querySelectorAll('#charts .heat figcaption')].map((one) => one.textContent)"
NOTE = "document.querySelector('#charts > p')?.textContent"


def histogram(family: str, labels: str, *below: int) -> str:
    """below: counts by bucket; that of the last one is also that of all further ones."""
    counts = (*below, *below[-1:] * (len(BOUNDS) - len(below)))
    return "".join(
        f'{family}_bucket{{{labels},le="{bound}"}} {count}\n' for bound, count in zip(BOUNDS, counts, strict=True)
    )


def both(number: int) -> str:
    """What the container with a hostile name has after this many answers: 10 short waits more each time, and 2 long."""
    name = r'name="a\",le=\"1e-05\"} 7\n"'
    text = f"# HELP {CPU} Time.\n# TYPE {CPU} histogram\n"
    text += histogram(CPU, name, 10 * number, 10 * number, 12 * number)
    text += f"{CPU}_sum{{{name}}} 1.5\n{CPU}_count{{{name}}} {12 * number}\n"
    text += f"# TYPE {BLOCK} histogram\n"
    for device in ("/dev/a", "/dev/b"):
        text += histogram(BLOCK, f'{name},device="{device}",operation="read"', *[0] * 5, number)
    return text


class Waiting(Summaries):
    """One container, with metrics of the test's own. asked: the queries for them."""

    def __init__(self, reply: Callable[[int], Reply], *, collector: bool | None = True) -> None:
        super().__init__(["app"])
        self.reply = reply
        self.collector = collector
        self.asked: list[str] = []

    def document(self) -> bytes:
        document = json.loads(super().document())
        document["nodes"][0]["collectors"] = {} if self.collector is None else {"container_latency": self.collector}
        return json.dumps(document).encode()

    async def handle(self, request: Request) -> Reply:
        if request.path != f"/v1/{0:032x}/metrics":
            return await super().handle(request)
        self.asked.append(request.query)
        return self.reply(len(self.asked))


async def opened(page: Browser, url: str) -> None:
    await first_rows(page, url, 1)
    await page.do(f"{ROWS}[0].click()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_waits_of_both_kinds_are_drawn(scheme: str, tmp_path: Path) -> None:
    waiting = Waiting(lambda number: Reply(200, TEXT, both(number).encode()))
    async with served(waiting) as url, browser() as page:
        await page.scheme(scheme)
        await page.size(1280, 1400)
        await opened(page, url)
        await page.until(f"{CAPTIONS}.length === 2 && {CAPTIONS}.every((text) => text.includes('half within'))")
        cpu, block = await page.do(CAPTIONS)
        assert cpu.startswith("Waits for a CPU: half within 1\u00a0µs, 99\u00a0% within 15\u00a0µs, ")
        assert block.startswith("Requests to block devices: half within 977\u00a0µs, 99\u00a0% within 977\u00a0µs, ")
        assert waiting.asked[0] == f"name[]={CPU}&name[]={BLOCK}"
        # The middle of a column's cells: as much colour as waits, and none where none were.
        ink = await page.do(
            f"""(() => {{
              const {{ plot, columns }} = details.latency.maps.get("{CPU}");
              const {{ from, to }} = columns[0];
              const x = plot.valToPos((from + to) / 2, "x", true);
              const at = (row) => plot.ctx.getImageData(x, plot.valToPos(row + 0.5, "y", true), 1, 1).data[3];
              return [at(0), at(2), at(4)];
            }})()"""
        )
        assert ink[0] == 255 > ink[1] > 2 * ink[2]
        await page.do("document.querySelector('.heat').scrollIntoView({ block: 'center' })")
        await page.picture(tmp_path / f"latency-{scheme}.png")
        await page.do("document.getElementById('close').click()")
        assert await page.do("details.latency.maps.size") == 0
        assert page.problems == []


async def test_a_counter_that_falls_or_an_answer_that_fails_leaves_a_gap() -> None:
    numbers = {1: 5, 2: 6, 3: 1, 4: 2}
    waiting = Waiting(lambda number: Reply(200, TEXT, both(numbers.get(number, number)).encode()))
    columns = f"details.latency.maps.get('{CPU}').columns"
    async with served(waiting) as url, browser() as page:
        await opened(page, url)
        await page.until(f"{columns}.length === 2")
        assert await page.do(f"{columns}[1].from - {columns}[0].to > 0")
        waiting.reply = lambda _: text_reply(429, "over its quota", b"Retry-After: 600\r\n")
        await page.until(f"{CAPTIONS}.every((text) => text.endsWith(': no numbers: over its quota'))")
        asked, points = len(waiting.asked), await page.do("details.one.points")
        await page.until(f"details.one.points >= {points} + 2")
        assert len(waiting.asked) == asked
        assert await page.do(f"{columns}.length") >= 2


@pytest.mark.parametrize(("collector", "most"), [(None, 0), (False, 0), (True, 1)])
async def test_nothing_is_shown_or_asked_where_nothing_counts(collector: bool | None, most: int) -> None:
    waiting = Waiting(lambda _: Reply(200, TEXT, b""), collector=collector)
    async with served(waiting) as url, browser() as page:
        await opened(page, url)
        await page.until("details.one.points >= 3")
        assert len(waiting.asked) == most
        assert await page.do(CAPTIONS) == []
        assert page.problems == []


async def test_an_answer_that_is_too_long_is_not_read() -> None:
    waiting = Waiting(lambda number: Reply(200, TEXT, both(number).encode() * 200))
    async with served(waiting) as url, browser() as page:
        await opened(page, url)
        await page.until(f"{NOTE} === 'Waiting times: no numbers: more than 256\u00a0KiB'")
        assert await page.do(CAPTIONS) == []


async def test_a_tenant_has_them_through_a_proxy(tmp_path: Path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    summary = tells(row(A, name="shop"))
    number = 0

    async def scrape(peer, head):
        nonlocal number
        if head.startswith(b"GET /v1/summary"):
            await summary(peer, head)
            return
        number += 1
        assert f"GET /v1/{A}/metrics?name%5B%5D={CPU}&name%5B%5D={BLOCK} ".encode() in head
        await peer.say(answer(both(number).encode(), content_type="text/plain; version=0.0.4; charset=utf-8"))

    async with FakeNode(container(A, "alice"), scrape=scrape) as node:
        site.node("n1", node)
        async with running(site) as proxy, browser() as page:
            await page.open(f"https://127.0.0.1:{proxy.port}/")
            await page.until("!document.getElementById('login').hidden")
            await page.do(
                f"document.getElementById('token').value = {json.dumps(alice.token)};"
                "document.querySelector('#login button').click()"
            )
            await page.until(f"{ROWS}.length === 1")
            await page.do(f"{ROWS}[0].click()")
            await page.until(f"{CAPTIONS}.length === 2 && {CAPTIONS}.every((text) => text.includes('half within'))")
            assert [text for text in page.problems if "401" not in text] == []
