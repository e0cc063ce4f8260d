"""The page while nothing runs, a login ends, or a node goes away; and the way through it with the Tab key."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from tests.proxy.running import A, B, FakeNode, Site, container, running
from tests.proxy.test_summary import row, tells
from tests.web.browser import Browser, browser
from tests.web.test_page import NAMES, ROWS, Summaries, first_rows, served

STATUS = "document.getElementById('status').textContent"
VISIBLE = "document.getElementById('{}').checkVisibility()"
STOPS = """
(() => {
  const found = [];
  for (const one of document.querySelectorAll('a[href], button, input, [tabindex="0"]')) {
    if (one.checkVisibility() && one.tabIndex >= 0) found.push(one);
  }
  window.stops = found;
  return found.length;
})()
"""


async def logged_in(page: Browser, port: int, token: str) -> None:
    await page.open(f"https://127.0.0.1:{port}/")
    await page.until("!document.getElementById('login').hidden")
    assert not await page.do(VISIBLE.format("search")), "there is nothing to search yet"
    await page.do(
        f"document.getElementById('token').value = {json.dumps(token)}; document.querySelector('#login button').click()"
    )
    await page.until("!document.getElementById('totals').hidden")


async def test_without_containers_it_says_what_to_do(tmp_path: Path) -> None:
    summaries = Summaries([])
    async with served(summaries) as url, browser() as page:
        await page.open(url)
        await page.until(VISIBLE.format("none"))
        assert "pymon doctor" in await page.do("document.getElementById('none').textContent")
        assert not await page.do(VISIBLE.format("containers"))
        await page.picture(tmp_path / "none.png")
        summaries.names = ["app"]
        await page.until(f"{ROWS}.length === 1")
        assert not await page.do(VISIBLE.format("none"))
        assert page.problems == []


async def test_sources_and_collectors_are_told(tmp_path: Path) -> None:
    async with served(Summaries(["app"])) as url, browser() as page:
        await first_rows(page, url, 1)
        told = "document.getElementById('nodes').textContent"
        assert "node\\u202e1: source unknown; collectors: failed: zfs" in await page.do(told)
        nodes = [
            {"hostname": "n1", "source": "files", "collectors": {"a": True, "b": True}},
            {"hostname": "n2", "error": "away"},
        ]
        await page.do(f"showNodes({json.dumps(nodes)})")
        assert (await page.do("document.querySelector('#nodes ul').innerText")).split("\n") == [
            "n1: files; collectors: all 2 that found something went well"
        ]


async def test_a_token_that_is_revoked_while_the_page_is_open(tmp_path: Path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice"), scrape=tells(row(A, name="shop"))) as node:
        site.node("n1", node)
        async with running(site) as proxy, browser() as page:
            await logged_in(page, proxy.port, alice.token)
            await page.until(f"{ROWS}.length === 1")
            site.directory.revoke_token(alice.token.split("_")[1])
            await page.until(VISIBLE.format("login"))
            assert await page.do("document.getElementById('login-error').textContent") == (
                "The login has ended: log in again."
            )
            for id in ("containers", "totals", "details", "nodes", "search"):
                assert not await page.do(VISIBLE.format(id)), id
            await page.picture(tmp_path / "ended.png")
            assert [text for text in page.problems if "401" not in text] == []


async def test_an_account_without_containers_is_told_whom_to_ask(tmp_path: Path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "bob"), scrape=tells(row(A))) as node:
        site.account("bob")
        site.node("n1", node)
        async with running(site) as proxy, browser() as page:
            await logged_in(page, proxy.port, alice.token)
            assert "No running container belongs" in await page.do("document.getElementById('none').innerText")


async def test_a_node_that_goes_away_while_it_is_watched(tmp_path: Path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    nodes = FakeNode(container(A, "alice")), FakeNode(container(B, "alice"), name="n2")
    for node, one, name in zip(nodes, (A, B), ("goes", "stays"), strict=True):
        node.scrape = tells(row(one, name=name), uuid=node.uuid)
        await node.__aenter__()
        site.node(node.hostname, node)
    try:
        async with running(site) as proxy, browser() as page:
            await logged_in(page, proxy.port, alice.token)
            await page.until(f"{ROWS}.length === 2")
            await nodes[0].__aexit__()
            await page.until(f"{STATUS}.includes('Not answering: n1: ')")
            assert sorted(await page.do(NAMES)) == ["goes", "stays"], "what was known stays"
            assert await page.do("document.getElementById('status').classList.contains('bad')")
            await page.picture(tmp_path / "away.png")
    finally:
        await nodes[1].__aexit__()


async def test_a_laptop_shows_all_columns_and_the_charts_of_the_chosen_one() -> None:
    async with served(Summaries([f"app-{number}" for number in range(50)])) as url, browser() as page:
        await page.size(1280, 800)
        await first_rows(page, url, 5)
        assert await page.do("(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(element('grid'))")
        await page.do(f"{ROWS}[0].click()")
        chart = "document.querySelector('#charts canvas').getBoundingClientRect()"
        await page.until(f"{chart}.top > 0 && {chart}.bottom < innerHeight")


async def test_the_tab_key_goes_through_the_page_in_the_order_of_reading() -> None:
    async with served(Summaries([f"app-{number}" for number in range(50)])) as url, browser() as page:
        await page.size(1280, 900)
        await first_rows(page, url, 5)
        await page.do(f"{ROWS}[0].click()")
        count = await page.do(STOPS)
        assert await page.do("stops[0].className") == "skip", "first the link that skips the header"
        await page.do("stops[0].focus()")
        passed = [0]
        for _ in range(count - 1):
            await page.key("Tab")
            passed.append(await page.do("stops.indexOf(document.activeElement)"))
            assert await page.do("document.activeElement.matches(':focus-visible')")
        assert passed == list(range(count)), "every one is reached in the order of the document"
        boxes = await page.do("stops.slice(1).map((one) => one.getBoundingClientRect().toJSON())")
        for one, other in pairwise(boxes):
            assert other["top"] >= one["bottom"] or (other["bottom"] > one["top"] and other["left"] >= one["left"]), (
                "the next one is below, or to the right"
            )
