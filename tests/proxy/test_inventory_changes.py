"""Polling agents that tell what changed: differences taken over, doubts, and agents and proxies of earlier versions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pymon.directory.model import Node
from pymon.proxy import inventory_answer as module
from pymon.proxy import inventory_store as store_module
from pymon.proxy.agent_document import text_bytes
from pymon.proxy.inventory_store import InventoryStore
from pymon.proxy.upstream import Response, Upstream
from tests.live.agent import Agent
from tests.live.world import World
from tests.proxy.polled import (
    ALICE,
    FakeAgent,
    document,
    node_of,
    proxy,
    until,
    uuid_of,
)

pytestmark = pytest.mark.usefixtures("quick")

Spoil = Callable[[dict[str, Any]], None]


class ChangingAgent(FakeAgent):
    """Tells what changed since any version. kinds: of each answer, whole, changes or same. spoil: changes differences.

    old: answers as an agent of an earlier version does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handler = self._tell_changes
        self.states = {"v 0": self.body}
        self.kinds: list[str] = []
        self.spoil: Spoil | None = None
        self.old = False
        self.epoch = "v"

    def tell(self, body: bytes) -> None:
        super().tell(body)
        self.states[self.version] = body

    def start_anew(self) -> None:
        self.epoch += "'"
        self.states = {self.version: self.body}
        self.changed.set()

    @property
    def version(self) -> str:
        return f"{self.epoch} {self.revision}"

    @property
    def etag(self) -> str:
        return f'"{self.version.replace(" ", "%20")}"'

    async def _tell_changes(self, request: web.Request) -> web.StreamResponse:
        answer = await self.tell_all(request)
        if self.old:
            self.kinds.append("old")
            return answer
        headers = {"ETag": self.etag, "Inventory-Version": self.version.replace(" ", "%20")}
        if answer.status == 304:
            self.kinds.append("same")
            return web.Response(status=304, headers=headers)
        since = request.query.get("since", "")
        if since in self.states:
            self.kinds.append("changes")
            body = json.dumps(self._difference(since)).encode()
        else:
            self.kinds.append("whole")
            body = self.body
        return web.Response(body=body, headers=headers, content_type="application/json")

    def _difference(self, since: str) -> dict[str, Any]:
        before, after = json.loads(self.states[since]), json.loads(self.body)
        rows, known = ({row["uuid"]: row for row in state["containers"]} for state in (after, before))
        said = {
            "version": self.version,
            "since": since,
            "node": after["node"],
            "total": len(rows),
            "changed": [row for uuid, row in rows.items() if known.get(uuid) != row],
            "removed": [*(known.keys() - rows.keys()), uuid_of(424242)],
        }
        if self.spoil is not None:
            self.spoil(said)
        return said


@asynccontextmanager
async def agent(body: bytes) -> AsyncIterator[ChangingAgent]:
    fake = ChangingAgent()
    fake.body = fake.states["v 0"] = body
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


def changes(fake: ChangingAgent) -> list[str]:
    return [kind for kind in fake.kinds if kind != "same"]


async def test_only_changes_are_told() -> None:
    async with agent(document(1, 2)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1, 2), "the whole")
        fake.tell(document(2, 3))
        await until(lambda: running.has(2, 3), "the change")
        assert [place.container.name for place in running.fleet.stopped(ALICE)] == ["c1"]
        fake.tell(document(2, 3, start=200.0))
        await until(lambda: running.fleet.find(uuid_of(3)).container.start == 200.0, "another start")
        fake.tell(document())
        await until(running.has, "none is left")
        fake.tell(document(*range(50)))
        await until(lambda: running.has(*range(50)), "many")
        assert changes(fake) == ["whole", "changes", "changes", "changes", "changes"]
        assert not running.poller.failures


def no_total(said: dict[str, Any]) -> None:
    del said["total"]


def big(said: dict[str, Any]) -> None:
    said["changed"][0]["image"] = "x" * (300 << 10)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: said.update(since="v 7"),
        lambda said: said.update(total=said["total"] + 1),
        lambda said: said.update(removed=[*said["removed"], uuid_of(2)]),
        lambda said: said.update(removed=[said["changed"][0]["uuid"]]),
        lambda said: said.update(removed=[7]),
        lambda said: said.update(removed=["x" * 1000] * 1000),
        lambda said: said.update(node={"uuid": str(node_of(9)), "hostname": "other"}),
        lambda said: said["changed"].append({}),
        lambda said: said["changed"].append(said["changed"][0]),
        lambda said: said["changed"][0].update(uuid="no uuid"),
        lambda said: said["changed"][0].update(start=-1),
        big,
        no_total,
    ],
)
async def test_on_any_doubt_the_whole_is_asked_for(spoil: Spoil) -> None:
    async with agent(document(1, 2)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1, 2), "the whole")
        fake.spoil = spoil
        fake.tell(document(2, 3))
        await until(lambda: running.has(2, 3), "the change")
        assert changes(fake) == ["whole", "changes", "whole"]
        assert dict(running.poller.failures) == {("n1", "changes"): 1}
        assert running.poller.up("n1")
        fake.spoil = None
        fake.tell(document(3))
        await until(lambda: running.has(3), "the next change")
        assert changes(fake)[3:] == ["whole"], "for a while"


async def test_after_a_while_changes_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOUBT_SECONDS", 0.0)
    async with agent(document(1, 2)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1, 2), "the whole")
        fake.spoil = no_total
        fake.tell(document(2, 3))
        await until(lambda: running.has(2, 3), "the change")
        fake.spoil = None
        fake.tell(document(3))
        await until(lambda: running.has(3), "the next change")
        assert changes(fake) == ["whole", "changes", "whole", "changes"]


async def test_after_many_changes_the_whole_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a node may have in all is decided over a whole."""
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the whole")
        container = running.fleet.find(uuid_of(1)).container
        monkeypatch.setattr(module, "MAX_CHANGES_BYTES", 2 * text_bytes(container))
        for number in range(2, 8):
            fake.tell(document(number))
            await until(lambda number=number: running.has(number), "the change")
        assert changes(fake) == ["whole", *(["changes"] * 3 + ["whole"]) * 2]
        assert not running.poller.failures


async def test_an_agent_that_starts_anew_tells_the_whole() -> None:
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: fake.kinds == ["whole"] and running.has(1), "the whole")
        fake.body = document(2)
        fake.start_anew()
        await until(lambda: running.has(2), "the new agent's")
        assert changes(fake) == ["whole", "whole"]
        assert not running.poller.failures


async def test_what_is_left_out_needs_the_whole() -> None:
    body = json.loads(document(1, 2))
    body["containers"][1]["uuid"] = "none"
    async with agent(json.dumps(body).encode()) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the one with a UUID")
        fake.tell(document(1, 3))
        await until(lambda: running.has(1, 3), "the change")
        assert changes(fake) == ["whole", "whole"]


async def test_an_agent_becomes_an_old_one_and_a_new_one_again() -> None:
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the whole")
        fake.old = True
        for number in (2, 3):
            fake.tell(document(number))
            await until(lambda number=number: running.has(number), "the change")
        assert changes(fake) == ["whole", "old", "old"]
        fake.old = False
        for number in (4, 5):
            fake.tell(document(number))
            await until(lambda number=number: running.has(number), "the change")
        assert changes(fake)[3:] == ["whole", "changes"]
        assert not running.poller.failures


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_an_agent_that_refuses_to_tell_changes(status: int) -> None:
    async with agent(document(1)) as fake:
        tell = fake.handler

        async def refuse(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status) if "since" in request.query else await tell(request)

        fake.handler = refuse
        async with proxy(fake.node()) as running:
            await until(lambda: fake.kinds == ["whole", "whole"], "the whole, and again after the refusal")
            assert dict(running.poller.failures) == {("n1", "changes"): 1, ("n1", "status"): 1}
            for number in (2, 3):
                fake.tell(document(number))
                await until(lambda number=number: running.has(number), "the change")
            assert fake.kinds.count("whole") == 4, "it is waited for, and not asked again and again"
            assert len(running.poller.failures) == 2


async def test_the_copy_is_right_after_changes(tmp_path: Path) -> None:
    async with agent(document(1, 2)) as fake:
        async with proxy(fake.node(), directory=tmp_path) as running:
            await until(lambda: running.has(1, 2), "the whole")
            fake.tell(document(2, 3))
            await until(lambda: running.has(2, 3), "the change")
            assert changes(fake) == ["whole", "changes"]
        copy = InventoryStore(tmp_path).load("n1", 10)
        assert copy is not None
        assert copy.etag == fake.etag
        assert copy.inventory.containers.keys() == {uuid_of(2), uuid_of(3)}
        assert [stop.container.name for stop in copy.stopped] == ["c1"]
        fake.kinds.clear()
        async with proxy(fake.node(), directory=tmp_path) as running:
            assert running.has(2, 3), "known at once"
            await until(lambda: "same" in fake.kinds, "asked whether that is so")
            fake.tell(document(4))
            await until(lambda: running.has(4), "a change after it")
            assert set(changes(fake)) == {"changes"}, "to this proxy, and perhaps to the poll that the other one left"


async def test_a_copy_of_a_proxy_that_reads_other_fields(tmp_path: Path) -> None:
    """What it made of changes may lack fields: it is used until the agent has answered, with the whole."""
    async with agent(document(1)) as fake:
        async with proxy(fake.node(), directory=tmp_path) as running:
            await until(lambda: running.has(1), "the whole")
            fake.tell(document(1, 2))
            await until(lambda: running.has(1, 2), "the change")
        file = tmp_path / "n1.json"
        body = json.loads(file.read_text())
        assert body["fields"] == store_module.CONTAINER_FIELDS
        file.write_text(json.dumps(body | {"fields": "uuid,id,name"}))
        fake.kinds.clear()
        async with proxy(fake.node(), directory=tmp_path) as running:
            assert running.has(1, 2)
            await until(lambda: changes(fake) == ["whole"], "the whole")


@pytest.mark.root
async def test_a_real_agent_tells_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    ask = Upstream.get

    async def get(self: Upstream, path: str, **arguments: Any) -> Response:
        answer = await ask(self, path, **arguments)
        seen.append("changes" if b'"since"' in answer.body[:1000] else "whole" if answer.body else "same")
        return answer

    monkeypatch.setattr(Upstream, "get", get)
    world = World()
    try:
        with await asyncio.to_thread(Agent, "--container.all") as real:
            async with proxy(Node("n1", None, real.url)) as running:
                await until(lambda: running.poller.up("n1"), "the whole")
                for _ in range(3):
                    group = world.group()
                    paths = lambda: {place.container.id for place in running.fleet.owned(None)}  # noqa: E731
                    await until(lambda: group.path in paths(), "the group")  # noqa: B023
                    await asyncio.to_thread(group.remove)
                    await until(lambda: group.path not in paths(), "its end")  # noqa: B023
                assert not running.poller.failures
                assert seen.count("whole") == 1
                assert seen.count("changes") >= 6
            await asyncio.to_thread(real.stop)
    finally:
        world.close()
