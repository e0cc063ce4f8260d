"""Which nodes are polled, and who is who, while agents and the directory change."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import ItemsView
from pathlib import Path
from uuid import UUID

import pytest

from pymon.directory.model import Node, Snapshot
from pymon.proxy.fleet import Fleet
from pymon.proxy.inventory import Poller
from pymon.proxy.node_changes import renamed
from pymon.proxy.node_uuids import NodeUuids
from pymon.proxy.places import NodeView
from pymon.service.http1 import Response
from tests.proxy.polled import (
    ALICE,
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

# --- who is who ---


async def test_a_node_with_another_uuid_than_the_directorys_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with agent(document(1, node=1)) as fake, proxy(fake.node("n1", node_of(2))) as running:
        await until(lambda: running.poller.failures["n1", "identity"] > 3, "refusals")
        assert running.has()
        fake.tell(document(1, node=2))
        await until(lambda: running.has(1), "the right one")
        fake.tell(document(1, 2, node=3))
        await until(lambda: not running.poller.up("n1"), "another refusal")
        assert running.has(1)
    assert [line["problem"] for line in lines(caplog, "inventory not read")] == [
        f"expected the node {node_of(2)}, got {node_of(1)}",
        f"expected the node {node_of(2)}, got {node_of(3)}",
    ]


async def test_a_node_cannot_take_the_uuid_of_another(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        agent(document(1, node=1)) as first,
        agent(document(2, node=1)) as second,
        proxy(first.node("first", node_of(1)), second.node("second")) as running,
    ):
        await until(lambda: running.poller.failures["second", "identity"], "the refusal")
        await until(lambda: running.has(1), "the right one")
        node = running.fleet.node(str(node_of(1)))
        assert node is not None
        assert node.name == "first"
    assert f"the node {node_of(1)} is first in the directory" in str(lines(caplog, "inventory not read"))


async def test_a_node_that_the_directory_comes_to_know_better_is_forgotten() -> None:
    async with agent(document(1, node=1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the document")
        running.set_nodes(fake.node("n1", node_of(2)))
        assert running.has()
        assert running.fleet.nodes() == [NodeView("n1", str(node_of(2)), "n1")]


async def test_another_uuid_of_a_node_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with agent(document(1, node=1)) as fake, proxy(fake.node()) as running:
        await until(lambda: running.has(1), "the document")
        fake.tell(document(1, 2, node=9))
        await until(lambda: running.poller.failures["n1", "identity"] > 1, "refusals")
        assert running.has(1)
        assert running.fleet.node(str(node_of(1)))
        assert running.fleet.node(str(node_of(9))) is None
    assert [line["problem"] for line in lines(caplog, "inventory not read")] == [
        f"expected the node {node_of(1)}, got {node_of(9)}"
    ]


async def test_claims_of_what_another_node_holds_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with agent(document(1, 5, 6, node=1)) as first, proxy(first.node("first")) as running:
        await until(lambda: running.has(1, 5, 6), "the first")
        async with agent(document(5, 6, node=2, start=200.0)) as second:
            running.set_nodes(first.node("first"), second.node("second"))
            await until(lambda: running.fleet.conflicts == 2, "the conflict")
            second.tell(document(5, node=2, start=300.0))
            second.tell(document(5, 6, node=2, start=400.0))
            await until(lambda: len(running.fleet.containers("second")) == 2, "the claims again")
            places = [running.fleet.find(uuid_of(number)) for number in (5, 6)]
            assert [place and place.node.name for place in places] == ["first", "first"]
    (line,) = lines(caplog, "claims refused")
    assert line | {"uuid": ""} == {
        "node": "second", "reason": "held", "containers": 2, "uuid": "", "holder": "first",
    }  # fmt: skip


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


@pytest.mark.parametrize("uuid", [None, node_of(1)])
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


def test_new_names_are_found_by_uuid_or_else_by_url() -> None:
    def nodes(**told: tuple[int | None, str]) -> dict[str, Node]:
        return {name: Node(name, node_of(uuid) if uuid else None, url) for name, (uuid, url) in told.items()}

    gone = nodes(a=(1, "http://a:1"), b=(None, "http://b:1"), c=(3, "http://c:1"), d=(None, "http://b:1"))
    for come, expected in (
        (nodes(x=(1, "http://b:1")), {"a": "x"}),
        (nodes(x=(9, "http://b:1"), y=(9, "http://b:1"), z=(9, "http://b:1")), {"b": "x", "d": "y"}),
        (nodes(x=(9, "http://a:1"), y=(None, "http://c:1")), {"c": "y"}),
        (nodes(x=(None, "http://x:1"), y=(8, "http://c:1")), {}),
    ):
        assert renamed(gone, come) == expected


def test_many_new_names_cost_one_look_at_all_nodes_and_not_one_for_each() -> None:
    class Gone(dict[str, Node]):
        looks = 0

        def items(self) -> ItemsView[str, Node]:
            self.looks += 1
            return super().items()

    numbers = range(1, 1000)
    gone = Gone((f"a{number}", Node(f"a{number}", node_of(number), f"http://h{number}:1")) for number in numbers)
    come = {f"b{number}": Node(f"b{number}", node_of(number), f"http://h{number}:2") for number in numbers}
    assert renamed(gone, come) == {f"a{number}": f"b{number}" for number in numbers}
    assert gone.looks <= 2


async def test_many_nodes_that_go_or_are_renamed_at_once_cost_no_look_at_all_nodes_for_each(monkeypatch) -> None:
    looks: Counter[str] = Counter()

    def counting(kind: type, name: str) -> None:
        real = getattr(kind, name)

        def called(*arguments: object) -> object:
            looks[name] += 1
            return real(*arguments)

        monkeypatch.setattr(kind, name, called)

    class Silent:
        async def get(self, *_: object, **__: object) -> Response:
            return await asyncio.get_running_loop().create_future()

    fleet, snapshot = Fleet(), Snapshot.of()
    poller = Poller(fleet, lambda: snapshot, lambda _: Silent())

    def put(prefix: str, first: int) -> None:
        nonlocal snapshot
        nodes = [Node(f"{prefix}{n}", node_of(first + n), f"http://{prefix}{n}:1") for n in range(200)]
        snapshot = Snapshot.of(snapshot.generation + 1, nodes=nodes)
        fleet.resolve_owners(snapshot)
        looks.clear()
        poller.set_nodes(snapshot.nodes)
        assert {view.name for view in fleet.nodes()} == {node.name for node in nodes}

    try:
        put("a", 1)
        counting(Fleet, "_renew_views")
        counting(NodeUuids, "_renew_names")
        put("b", 1)
        assert sum(looks.values()) <= 2, "renamed"
        put("c", 1000)
        assert sum(looks.values()) <= 2, "gone"
    finally:
        await poller.stop()


async def test_other_proxies_are_asked_rarely_about_a_node_that_none_has_heard() -> None:
    class Others:
        asked, reach = 0, False

        def that_reach(self, _: str) -> bool:
            return self.reach

        async def copy(self, *_: object) -> None:
            self.asked += 1

    others = Others()
    async with proxy() as running:
        running.poller._copies = others
        running.set_nodes(Node("n1", None, f"http://127.0.0.1:{dead_port()}"))
        failed = running.poller.failures
        await until(lambda: failed["n1", "connect"] >= 10, "failures")
        assert 1 <= others.asked <= 5
        others.reach = True
        before, asked = failed["n1", "connect"], others.asked
        await until(lambda: failed["n1", "connect"] >= before + 10, "failures")
        assert others.asked >= asked + 9


async def test_a_new_name_for_a_node_that_never_answered_is_nothing_special() -> None:
    port = dead_port()
    async with proxy(Node("old", None, f"http://127.0.0.1:{port}")) as running:
        running.set_nodes(Node("new", None, f"http://127.0.0.1:{port}"))
        await until(lambda: running.poller.failures["new", "connect"], "a failure")
        assert not [key for key in running.poller.failures if key[0] == "old"]
