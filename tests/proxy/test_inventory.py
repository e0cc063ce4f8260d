"""Polling agents: real sockets, agents that misbehave, and the copy on disk."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from pymon.directory.model import Account, Node, Quota, Snapshot
from pymon.proxy import inventory as module
from pymon.proxy import inventory_store as store_module
from pymon.proxy.fleet import Fleet, NodeView
from pymon.proxy.inventory import Poller
from pymon.proxy.inventory_store import Copy, InventoryStore
from pymon.proxy.upstream import Upstream
from tests.live.agent import Agent
from tests.live.world import World

ALICE = UUID(int=0xA11CE)
ACCOUNTS = Snapshot.of(1, accounts=[Account(ALICE, "alice", False, 0.0, Quota())])

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def uuid_of(number: int) -> str:
    return str(UUID(int=number))


def document(*numbers: int, node: int = 1, start: float = 100.0) -> bytes:
    rows = [
        {
            "uuid": uuid_of(number), "id": f"/c/{number}", "name": f"c{number}", "runtime": "docker", "runtime_id": "",
            "image": "nginx", "start": start, "owner": "alice", "state": "running", "health": "", "groups": [],
            "services": "", "namespace": "", "pod": "", "pod_id": "",
        }
        for number in numbers
    ]  # fmt: skip
    return json.dumps(
        {"version": "1", "node": {"uuid": uuid_of(node), "hostname": f"host{node}"}, "containers": rows}
    ).encode()


class FakeAgent:
    """Answers as an agent does, or as `handler` says. asked: the If-None-Match of each request."""

    def __init__(self) -> None:
        self.body = document()
        self.revision = 0
        self.handler: Handler | None = None
        self.asked: list[str | None] = []
        self.changed = asyncio.Event()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/v1/containers", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def tell(self, body: bytes) -> None:
        self.body = body
        self.revision += 1
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def etag(self) -> str:
        return f'"e-{self.revision}"'

    def node(self, name: str = "n1", uuid: UUID | None = None) -> Node:
        return Node(name, uuid, f"http://127.0.0.1:{self.port}")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.headers.get("If-None-Match"))
        if self.handler is not None:
            return await self.handler(request)
        wait = float(request.query.get("wait", "0"))
        if wait and request.headers.get("If-None-Match") == self.etag:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), wait)
        headers = {"ETag": self.etag}
        if request.headers.get("If-None-Match") == self.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, headers=headers, content_type="application/json")


async def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@asynccontextmanager
async def agent(body: bytes = b"") -> AsyncIterator[FakeAgent]:
    fake = FakeAgent()
    if body:
        fake.body = body
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()


class Proxy:
    """A fleet and its poller."""

    def __init__(self, directory: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.fleet = Fleet()
        self.upstreams: list[Upstream] = []
        self.poller = Poller(
            self.fleet,
            lambda: ACCOUNTS,
            self._connect,
            InventoryStore(directory) if directory else None,
            clock=clock,
        )

    def _connect(self, node: Node) -> Upstream:
        self.upstreams.append(Upstream(node.url))
        return self.upstreams[-1]

    def set_nodes(self, *nodes: Node) -> None:
        self.poller.set_nodes({node.name: node for node in nodes})

    def has(self, *numbers: int) -> bool:
        return len(self.fleet) == len(numbers) and all(self.fleet.find(uuid_of(number)) for number in numbers)


@asynccontextmanager
async def proxy(*nodes: Node, directory: Path | None = None) -> AsyncIterator[Proxy]:
    running = Proxy(directory)
    running.set_nodes(*nodes)
    try:
        yield running
    finally:
        await running.poller.stop()
        for upstream in running.upstreams:
            upstream.close()
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert not [name for name in names if name.startswith("inventory of ")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(module, "PACE_SECONDS", 0.02)
    monkeypatch.setattr(store_module, "SAVE_SECONDS", 0.02)


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.message.startswith(text)]


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def dead_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# --- an agent as it should be ---


async def test_a_change_is_seen_without_asking_again_and_again() -> None:
    async with agent(document(1, 2)) as fake, proxy(fake.node()) as running:
        assert running.poller.unknown() == ["n1"]
        assert not running.poller.up("n1")
        assert running.poller.age_seconds("n1") == math.inf
        await until(lambda: running.has(1, 2), "the first document")
        await until(lambda: len(fake.asked) == 2, "the long poll")
        assert fake.asked == [None, '"e-0"']
        assert running.poller.unknown() == []
        assert running.poller.up("n1")
        assert running.poller.age_seconds("n1") < 20
        assert running.fleet.nodes() == [NodeView("n1", uuid_of(1), "host1")]
        assert [place.owner for place in running.fleet.owned(ALICE)] == [ALICE, ALICE]
        fake.tell(document(2, 3))
        await until(lambda: running.has(2, 3), "the change")
        assert [place.container.name for place in running.fleet.stopped(ALICE)] == ["c1"]
        await until(lambda: len(fake.asked) == 3, "the long poll after it")
        await asyncio.sleep(0.2)
        assert len(fake.asked) == 3


async def test_not_modified_keeps_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: len(fake.asked) > 5, "many polls")
        assert set(fake.asked[1:]) == {'"e-0"'}
        assert running.has(1)
        assert running.poller.up("n1")
        assert not running.poller.failures


async def test_an_agent_that_starts_again_has_another_etag() -> None:
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the first document")
        await fake.stop()
        await until(lambda: not running.poller.up("n1"), "the failure")
        fake.tell(document(2))
        await fake.start()
        await until(lambda: running.has(2), "the document of the new one")
        assert running.poller.up("n1")


async def test_an_agent_without_etags_is_asked_at_intervals() -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response(body=document(len(fake.asked)))

    async with agent() as fake:
        fake.handler = plain
        async with proxy(fake.node()) as running:
            await until(lambda: running.has(3), "the third document")
            assert fake.asked[:3] == [None] * 3


# --- agents that misbehave ---


async def html(_: web.Request) -> web.Response:
    return web.Response(text="<!DOCTYPE html><html>It works!\r\n</html>", content_type="text/html")


async def error(_: web.Request) -> web.Response:
    return web.Response(status=500, text="oh")


async def redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


async def not_modified(_: web.Request) -> web.Response:
    return web.Response(status=304, headers={"ETag": '"e-0"'})


async def empty(_: web.Request) -> web.Response:
    return web.Response(body=b"")


async def wrong_types(_: web.Request) -> web.Response:
    return web.Response(body=document(1).replace(b'"groups": []', b'"groups": "web"'), headers={"ETag": '"x"'})


async def compressed(_: web.Request) -> web.Response:
    return web.Response(body=document(1), headers={"Content-Encoding": "gzip"})


async def hangs(_: web.Request) -> web.Response:
    await asyncio.sleep(60)
    raise AssertionError


async def truncated(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.close()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65536)
    except ConnectionError:
        return response


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (html, "malformed"), (error, "status"), (redirect, "status"), (not_modified, "status"), (empty, "malformed"),
        (wrong_types, "malformed"), (compressed, "malformed"), (hangs, "timeout"), (truncated, "truncated"),
        (endless, "too_large"),
    ],
)  # fmt: skip
async def test_an_agent_that_misbehaves_evicts_nothing(
    handler: Handler, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 1.0 if handler is hangs else 15.0)
    monkeypatch.setattr(module, "MAX_DOCUMENT_BYTES", 1 << 20)
    async with (
        agent(document(1)) as good,
        agent(document(2)) as bad,
        proxy(good.node("good"), bad.node("bad")) as running,
    ):
        await until(lambda: running.has(1, 2), "both")
        if handler is not_modified:  # which is a good answer to who knows the document
            bad.handler = error
            await until(lambda: running.poller.failures["bad", "status"], "a failure before")
        bad.handler = handler
        before = running.poller.failures["bad", reason]
        bad.changed.set()
        await until(lambda: running.poller.failures["bad", reason] >= before + 2, f"two failures: {reason}")
        assert running.has(1, 2)
        assert running.poller.up("good")
        assert not running.poller.up("bad")
        assert {key for key in running.poller.failures if key[0] == "good"} == set()
        bad.handler = None
        bad.tell(document(2, 3))
        await until(lambda: running.has(1, 2, 3), "that it is well again")
        assert running.poller.up("bad")
    said = lines(caplog, "inventory not read")
    assert 1 <= len(said) <= 3
    assert all("\n" not in line["problem"] for line in said)


async def test_a_new_node_that_misbehaves_is_no_longer_unknown() -> None:
    async with proxy(Node("dead", UUID(int=4), f"http://127.0.0.1:{dead_port()}")) as running:
        assert running.fleet.nodes() == [NodeView("dead", uuid_of(4), "dead")]
        await until(lambda: running.poller.unknown() == [], "one failure")
        assert running.poller.failures["dead", "connect"]


async def test_a_fault_of_ours_does_not_end_the_polls(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = Fleet.replace, []

    def broken(*args: Any) -> Any:
        calls.append(args)
        if len(calls) < 3:
            raise KeyError("x")
        return real(*args)

    monkeypatch.setattr(Fleet, "replace", broken)
    async with agent(document(1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "that it works after all")
        assert running.poller.failures["n1", "internal"] == 2


async def test_a_header_cannot_be_smuggled_through_an_etag(tmp_path: Path) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(body=document(1), headers={"ETag": '"a b\té"'})

    async with agent() as fake:
        fake.handler = odd
        async with proxy(fake.node(), directory=tmp_path) as running:
            await until(lambda: len(fake.asked) > 2, "three polls")
            assert set(fake.asked) == {None}
            assert running.has(1)
        file = tmp_path / "n1.json"
        copy = json.loads(file.read_bytes())
        file.write_text(json.dumps(copy | {"etag": '"x"\r\nAuthorization: y'}))
        fake.handler = None
        fake.asked.clear()
        async with proxy(fake.node(), directory=tmp_path) as running:
            assert running.has(1)
            await until(lambda: fake.asked, "a poll")
            assert fake.asked[0] is None


async def test_a_node_that_cannot_be_connected_to_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def connect(node: Node) -> Upstream:
        return Upstream(node.url)  # ValueError

    fleet = Fleet()
    poller = Poller(fleet, lambda: ACCOUNTS, connect)
    poller.set_nodes({"n1": Node("n1", None, "gopher://x")})
    await until(lambda: poller.failures["n1", "internal"] > 1, "two failures")
    await poller.stop()


# --- who is who ---


async def test_a_node_with_another_uuid_than_the_directorys_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with agent(document(1, node=1)) as fake, proxy(fake.node("n1", UUID(int=2))) as running:
        await until(lambda: running.poller.failures["n1", "identity"] > 3, "refusals")
        assert running.has()
        fake.tell(document(1, node=2))
        await until(lambda: running.has(1), "the right one")
        fake.tell(document(1, 2, node=3))
        await until(lambda: not running.poller.up("n1"), "another refusal")
        assert running.has(1)
    assert [line["problem"] for line in lines(caplog, "inventory not read")] == [
        f"expected the node {uuid_of(2)}, got {uuid_of(1)}",
        f"expected the node {uuid_of(2)}, got {uuid_of(3)}",
    ]


async def test_a_node_cannot_take_the_uuid_of_another(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        agent(document(1, node=1)) as first,
        agent(document(2, node=1)) as second,
        proxy(first.node("first", UUID(int=1)), second.node("second")) as running,
    ):
        await until(lambda: running.poller.failures["second", "identity"], "the refusal")
        await until(lambda: running.has(1), "the right one")
        node = running.fleet.node(uuid_of(1))
        assert node is not None
        assert node.name == "first"
    assert f"the node {uuid_of(1)} is first in the directory" in str(lines(caplog, "inventory not read"))


async def test_a_node_that_the_directory_comes_to_know_better_is_forgotten() -> None:
    async with agent(document(1, node=1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the document")
        running.set_nodes(fake.node("n1", UUID(int=2)))
        assert running.has()
        assert running.fleet.nodes() == [NodeView("n1", uuid_of(2), "n1")]


async def test_another_uuid_of_a_node_is_taken_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async with agent(document(1, node=1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the document")
        fake.tell(document(1, node=9))
        await until(lambda: running.fleet.node(uuid_of(9)), "the other UUID")
    assert lines(caplog, "node has another UUID") == [{"node": "n1", "before": uuid_of(1), "uuid": uuid_of(9)}]


async def test_two_nodes_that_claim_one_container_are_named(caplog: pytest.LogCaptureFixture) -> None:
    async with agent(document(1, 5, 6, node=1)) as first, proxy(first.node("first")) as running:
        await until(lambda: running.has(1, 5, 6), "the first")
        async with agent(document(5, 6, node=2, start=200.0)) as second:
            running.set_nodes(first.node("first"), second.node("second"))
            await until(lambda: running.fleet.conflicts == 2, "the conflict")
            place = running.fleet.find(uuid_of(5))
            assert place is not None
            assert place.node.name == "second"
    (line,) = lines(caplog, "two nodes claim a container")
    assert (line["node"], line["other"], line["containers"], line["winner"]) == ("second", "first", 2, "second")


# --- the directory changes ---


async def test_nodes_come_and_go(tmp_path: Path) -> None:
    async with (
        agent(document(1, node=1)) as first,
        agent(document(2, node=2)) as second,
        proxy(first.node("a"), second.node("b"), directory=tmp_path) as running,
    ):
        await until(lambda: running.has(1, 2), "both")
        await until(lambda: files(tmp_path) == ["a.json", "b.json"], "both copies")
        version = running.fleet.version
        running.set_nodes(first.node("a"), second.node("b"))
        assert running.fleet.version == version
        assert len(running.upstreams) == 2
        running.set_nodes(first.node("a"))
        assert running.has(1)
        assert running.poller.age_seconds("b") == math.inf
        await until(lambda: files(tmp_path) == ["a.json"], "its copy is gone")
        running.set_nodes()
        assert running.has()


async def test_a_node_with_another_url_keeps_what_it_has() -> None:
    async with agent(document(1)) as old, agent(document(1, 2)) as new, proxy(old.node()) as running:
        await until(lambda: running.has(1), "the first document")
        running.set_nodes(new.node())
        assert running.has(1)
        await until(lambda: running.has(1, 2), "the document of the other URL")
        old.tell(document(7))
        await asyncio.sleep(0.1)
        assert running.has(1, 2)


@pytest.mark.parametrize("uuid", [None, UUID(int=1)])
async def test_a_node_with_another_name_keeps_what_it_has(uuid: UUID | None, tmp_path: Path) -> None:
    async with agent(document(1, 2)) as fake, proxy(fake.node("old", uuid), directory=tmp_path) as running:
        await until(lambda: running.has(1, 2), "the document")
        fake.tell(document(1))
        await until(lambda: running.has(1), "one stopped")
        running.set_nodes(fake.node("new", uuid))
        assert running.has(1)
        await until(lambda: running.poller.up("new"), "the poll")
        place = running.fleet.find(uuid_of(1))
        assert place is not None
        assert place.node.name == "new"
        assert len(running.fleet.stopped(ALICE)) == 1
        assert running.fleet.conflicts == 0
        await until(lambda: files(tmp_path) == ["new.json"], "the copy's name")


async def test_a_new_name_for_a_node_that_never_answered_is_nothing_special() -> None:
    port = dead_port()
    async with proxy(Node("old", None, f"http://127.0.0.1:{port}")) as running:
        running.set_nodes(Node("new", None, f"http://127.0.0.1:{port}"))
        await until(lambda: running.poller.failures["new", "connect"], "a failure")
        assert not [key for key in running.poller.failures if key[0] == "old"]


# --- the copy on disk ---


async def test_a_proxy_that_starts_again_knows_everything_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "inventory"
    async with agent(document(1, 2, 3)) as fake:
        async with proxy(fake.node(), directory=directory) as running:
            await until(lambda: running.has(1, 2, 3), "the document")
            fake.tell(document(1, 2))
            await until(lambda: running.has(1, 2), "the change")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "n1.json").stat().st_mode) == 0o600
        assert files(directory) == ["n1.json"]
        fake.asked.clear()
        async with proxy(fake.node(), directory=directory) as running:
            assert running.has(1, 2)
            assert [place.container.name for place in running.fleet.stopped(ALICE)] == ["c3"]
            assert running.poller.unknown() == []
            assert running.poller.age_seconds("n1") < 20
            assert not running.poller.up("n1")
            await until(lambda: running.poller.up("n1"), "the poll")
            assert fake.asked[0] == '"e-1"'
    async with proxy(fake.node(), directory=directory) as running:
        await until(lambda: running.poller.failures["n1", "connect"] > 1, "failures")
        assert running.has(1, 2)


async def test_a_copy_with_another_uuid_than_the_directorys_is_not_used(tmp_path: Path) -> None:
    async with agent(document(1)) as fake, proxy(fake.node(), directory=tmp_path) as running:
        await until(lambda: running.has(1), "the document")
    async with proxy(Node("n1", UUID(int=2), f"http://127.0.0.1:{fake.port}"), directory=tmp_path) as running:
        assert running.has()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\0" * len(data),
        lambda data: b"null",
        lambda data: data.replace(b'"node":', b'"n0de":'),
        lambda data: b"[" * 100_000,
        lambda data: b"\xff" + data,
    ],
)
async def test_a_damaged_copy_is_one_warning(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent(document(1)) as fake:
        async with proxy(fake.node(), directory=tmp_path) as running:
            await until(lambda: running.has(1), "the document")
        file = tmp_path / "n1.json"
        file.write_bytes(damage(file.read_bytes().replace(b'"node": ', b'"node":')))
        async with proxy(fake.node(), directory=tmp_path) as running:
            assert running.has()
            await until(lambda: running.has(1), "the document again")
        assert len(lines(caplog, "copy of an inventory ignored")) == 1
        async with proxy(fake.node(), directory=tmp_path) as running:
            assert running.has(1)


async def test_copies_of_nodes_that_left_meanwhile_are_removed(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}")
    (tmp_path / "%C3%A9.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    async with agent(document(1)) as fake, proxy(directory=tmp_path) as running:
        assert len(files(tmp_path)) == 3
        running.set_nodes(fake.node())
        await until(lambda: files(tmp_path) == ["n1.json", "notes.txt"], "that they are removed")


async def test_a_disk_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    async with agent(document(1)) as fake, proxy(fake.node(), directory=tmp_path / "file") as running:
        await until(lambda: running.has(1), "the document")
        for number in (2, 3):
            fake.tell(document(number))
            await until(lambda number=number: running.has(number), "the change")
            await until(lambda: not running.poller._store._pending, "the try to write it")
    assert len(lines(caplog, "inventories cannot be kept on disk")) == 1
    assert len(lines(caplog, "copy of an inventory ignored")) == 1


async def test_a_node_is_written_at_most_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SAVE_SECONDS", 30.0)
    written: list[dict[str, Copy | None]] = []
    real = InventoryStore._write
    monkeypatch.setattr(InventoryStore, "_write", lambda self, copies: (written.append(copies), real(self, copies))[1])
    async with agent(document(1)) as fake, proxy(fake.node(), directory=tmp_path) as running:
        await until(lambda: written, "the first copy")
        for number in range(2, 6):
            fake.tell(document(number))
            await until(lambda number=number: running.has(number), "the change")
        assert len(written) == 1
    assert len(written) == 2
    async with proxy(fake.node(), directory=tmp_path) as running:
        assert running.has(5)


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".", "a/b", "x\0y", "é\udcff", "a.tmp", "n" * 300, "%2e"])
async def test_no_name_of_a_node_leaves_the_directory(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "a" / "inventory"
    async with agent(document(1)) as fake:
        async with proxy(fake.node(name), directory=directory) as running:
            await until(lambda: running.has(1), "the document")
        assert files(tmp_path) == ["a"]
        assert files(tmp_path / "a") == ["inventory"]
        kept = files(directory)
        assert len(kept) == (0 if len(name) > 255 else 1)
        async with proxy(fake.node(name), directory=directory) as running:
            assert running.has(1) is bool(kept)
            await until(lambda: running.has(1), "the document")


async def test_what_stopped_long_ago_is_not_read_back(tmp_path: Path) -> None:
    now = 1e9
    running = Proxy(tmp_path, lambda: now)
    async with agent(document(1, 2)) as fake:
        running.set_nodes(fake.node())
        await until(lambda: running.has(1, 2), "the document")
        fake.tell(document(1))
        await until(lambda: running.has(1), "the change")
        await running.poller.stop()
        now += 86400
        again = Proxy(tmp_path, lambda: now)
        again.set_nodes(fake.node())
        assert again.has(1)
        assert again.fleet.stopped(ALICE) == []
        assert again.poller.age_seconds("n1") > 86000
        await again.poller.stop()
        now -= 90000  # a clock that is set back makes nothing younger than it is
        again = Proxy(tmp_path, lambda: now)
        again.set_nodes(fake.node())
        assert 0 <= again.poller.age_seconds("n1") < 20
        assert len(again.fleet.stopped(ALICE)) == 1
        await again.poller.stop()
    for upstream in (*running.upstreams, *again.upstreams):
        upstream.close()


# --- a real agent ---


@pytest.mark.root
async def test_a_real_agent_tells_of_a_group_that_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    try:
        with await asyncio.to_thread(Agent, "--container.all") as real:
            async with proxy(Node("n1", None, real.url)) as running:
                await until(lambda: running.poller.up("n1"), "the first document")
                made = world.group(os.fsdecode(b"inventory \xff \\ \xc3\xa9"))
                path = made.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                await until(
                    lambda: path in {place.container.id for place in running.fleet.unowned()},
                    "the group, a path of bytes",
                )
                assert running.poller.up("n1")
                await asyncio.to_thread(world.close)
                await until(
                    lambda: path in {place.container.id for place in running.fleet.stopped(None)}, "that it is gone"
                )
            await asyncio.to_thread(real.stop)
    finally:
        world.close()
