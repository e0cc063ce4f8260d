"""The copies of inventories on disk."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pymon.directory.model import Node
from pymon.proxy import inventory_store as store_module
from pymon.proxy.agent_document import Document, NodeDocument, decode_inventory
from pymon.proxy.inventory_store import InventoryStore, MadeCopy, Stop
from tests.proxy.polled import (
    ALICE,
    Proxy,
    agent,
    dead_port,
    document,
    files,
    lines,
    node_of,
    proxy,
    until,
    uuid_of,
)

pytestmark = pytest.mark.usefixtures("quick")


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
    async with proxy(Node("n1", node_of(2), f"http://127.0.0.1:{fake.port}"), directory=tmp_path) as running:
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
        lambda data: b"\n".join(data.splitlines()[:2]),
        lambda data: b"\n".join(data.splitlines()[::2]),
        lambda data: b"\n".join(data.splitlines() + data.splitlines()[2:]),
        lambda data: data.replace(b'"state":"running"', b'"state":5'),
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


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_a_copy_is_read_as_it_was_written(count: int, tmp_path: Path) -> None:
    inventory = decode_inventory(document(*range(1, count + 1)))
    containers = list(inventory.containers.values())
    node = NodeDocument(inventory.uuid, inventory.hostname)
    store = InventoryStore(tmp_path)
    assert not store._write(
        {"n1": MadeCopy(5.0, '"e"', Document(node, containers), [Stop(3.0, c) for c in containers])}
    )
    copy = store.load("n1", 250)
    assert copy is not None
    assert list(copy.inventory.containers.values()) == [stop.container for stop in copy.stopped] == containers
    assert (copy.saved_at, copy.etag, copy.inventory.uuid) == (5.0, '"e"', inventory.uuid)
    assert json.loads((tmp_path / "n1.json").read_bytes())["total"] == count
    few = store.load("n1", 10)
    assert few is not None
    assert list(few.inventory.containers.values()) == containers[:10]


async def test_a_copy_of_another_form_is_checked(tmp_path: Path) -> None:
    body = json.loads(document(1, 2)) | {"version": "7"}
    body["containers"][1]["uuid"] = "../../x"
    old = {"saved_at": 5.0, "etag": "", "document": body, "stopped": []}
    (tmp_path / "n1.json").write_text(json.dumps(old))
    lines = json.dumps({"version": 0, **old}).replace('"containers": [', '"containers": [\n').replace("]}, ", "\n]}, ")
    (tmp_path / "n2.json").write_text(lines)
    for name in ("n1", "n2"):
        copy = InventoryStore(tmp_path).load(name, 10)
        assert copy is not None
        assert copy.inventory.containers.keys() == {uuid_of(1)}


async def test_nodes_that_change_and_leave_while_their_copies_wait(tmp_path: Path) -> None:
    async with agent(document(1)) as fake:
        async with proxy(fake.node(), directory=tmp_path) as running:
            await until(lambda: running.has(1), "the document")
        other = Node("n1", None, f"http://127.0.0.1:{dead_port()}")
        async with proxy(directory=tmp_path) as running:
            running.set_nodes(fake.node())
            running.set_nodes(other)
            await running.poller.loaded()
            assert running.has(1)
        async with proxy(directory=tmp_path) as running:
            running.set_nodes(fake.node())
            running.set_nodes(fake.node("n2"))
            await running.poller.loaded()
            assert running.has()
            await until(lambda: running.has(1), "the document of the other name")


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
            await until(lambda: running.poller._store.unwritten, "the try to write it")
    assert len(lines(caplog, "inventories cannot be kept on disk")) == 1
    assert len(lines(caplog, "copy of an inventory ignored")) == 1


async def test_a_copy_for_which_there_is_no_room_leaves_no_file(tmp_path: Path) -> None:
    directory = tmp_path / "inventory"
    directory.mkdir()
    (directory / "n1.tmp").touch()  # of a proxy of before
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        async with agent(document(1)) as fake, proxy(fake.node(), directory=directory) as running:
            await until(lambda: running.has(1), "the document")
            await until(lambda: running.poller._store.unwritten, "the try to write it")
            assert files(directory) == []
        assert files(directory) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_node_is_written_at_most_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SAVE_SECONDS", 30.0)
    written: list[dict[str, MadeCopy | None]] = []
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


async def test_copies_of_many_nodes_are_made_while_other_tasks_run(tmp_path: Path) -> None:
    store = InventoryStore(tmp_path)
    made: list[int] = []
    seen: set[int] = set()

    def copy(number: int) -> MadeCopy:
        made.append(number)
        return MadeCopy(5.0, "", Document(NodeDocument(str(node_of(1)), "h"), []), [])

    for number in range(20):
        store.save(f"n{number}", partial(copy, number))
    while len(made) < 20:
        seen.add(len(made))
        await asyncio.sleep(0)
    await store.close()
    assert len(seen) >= 10
    assert len(files(tmp_path)) == 20


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
        await again.poller.loaded()
        assert again.has(1)
        assert again.fleet.stopped(ALICE) == []
        assert again.poller.age_seconds("n1") > 86000
        await again.poller.stop()
        now -= 90000  # a clock that is set back makes nothing younger than it is
        again = Proxy(tmp_path, lambda: now)
        again.set_nodes(fake.node())
        await again.poller.loaded()
        assert 0 <= again.poller.age_seconds("n1") < 20
        assert len(again.fleet.stopped(ALICE)) == 1
        await again.poller.stop()
    for upstream in (*running.upstreams, *again.upstreams):
        upstream.close()
