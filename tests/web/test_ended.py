"""Containers that have ended, on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pymon.summary_document import COLUMNS
from tests.web.browser import browser
from tests.web.test_page import CONTRAST, NAMES, Summaries, first_rows, served

CELLS = "[...document.querySelectorAll('#ended tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
FACTS = "document.getElementById('facts').textContent"


class Ending(Summaries):
    """One container that runs, and others that have ended. ended: their UUIDs and what is told of them."""

    def __init__(self) -> None:
        super().__init__(["runs"])
        self.ended: dict[str, dict[str, Any]] = {}

    def document(self) -> bytes:
        document = json.loads(super().document())
        texts = {"image": "image", "runtime": "docker", "owner": "acme", "state": "stopped", "health": ""}
        rows = document["nodes"][0]["containers"]
        for uuid, told in self.ended.items():
            rows[:] = [row for row in rows if row[0] != uuid]
            rows.append([(texts | {"uuid": uuid} | told).get(column) for column in COLUMNS])
        return json.dumps(document).encode()


async def test_they_are_in_a_table_of_their_own_the_last_one_first(tmp_path: Path) -> None:
    ending = Ending()
    start = {"start_seconds": 1.7e9, "cpu_seconds": 1.5, "oom_kills": 0}
    hostile = "<b>\u202e"
    ending.ended = {
        "a": {"name": "old", "end_seconds": 1.7e9 + 90, "exit_code": 0} | start,
        "b": {"name": hostile, "end_seconds": 1.7e9 + 100, "exit_code": 137, **start, "oom_kills": 2},
        "c": {"name": "unknown", "end_seconds": 1.7e9 + 5, "start_seconds": 1.7e9},
    }
    async with served(ending) as url, browser() as page:
        await page.size(1340, 900)
        await first_rows(page, url, 1)
        await page.until("!document.getElementById('ended').hidden")
        assert await page.do(NAMES) == ["runs"]
        assert await page.do("document.getElementById('ended-title').textContent") == "3 ended"
        cells = await page.do(CELLS)
        assert [row[0] for row in cells] == ["<b>\\u202e", "old", "unknown"]
        assert [row[5:] for row in cells] == [
            ["1.7\u00a0min", "137 (signal 9)", "2", "1.5\u00a0s"], ["1.5\u00a0min", "0", "0", "1.5\u00a0s"],
            ["5.0\u00a0s", *["\u2013"] * 3],
        ]  # fmt: skip
        assert await page.do("document.querySelectorAll('#ended td.hot').length") == 2
        await page.do(
            "const box = document.getElementById('search'); box.value = 'OLD'; box.dispatchEvent(new Event('input'))"
        )
        assert [row[0] for row in await page.do(CELLS)] == ["old"]
        for scheme in ("light", "dark"):
            await page.scheme(scheme)
            assert await page.do(CONTRAST) == []
            await page.picture(tmp_path / f"ended-{scheme}.png")
        assert page.problems == []


async def test_a_container_that_ends_while_it_is_watched_is_said_to_have_ended() -> None:
    ending = Ending()
    async with served(ending) as url, browser() as page:
        await first_rows(page, url, 1)
        await page.do("document.querySelector('#body .row').click()")
        assert "Exit code" not in await page.do(FACTS)
        ending.ended[f"{0:032x}"] = {"name": "runs", "start_seconds": 1.7e9, "end_seconds": 1.7e9 + 1, "exit_code": 3}
        await page.until(f"{FACTS}.endsWith('Exit code3')")
        assert "Statestopped" in await page.do(FACTS)
        assert await page.do(CELLS) != []
        del ending.ended[f"{0:032x}"]
        await page.until("document.getElementById('ended').hidden")
        assert page.problems == []
