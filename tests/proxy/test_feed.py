"""What a worker knows is what its parent knows: at the start, after changes, and when it has not read for long."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest

from pymon.directory.model import Account, Certificate, Node, Quota, Snapshot, SSHKey, Token
from pymon.inventory_document import Container
from pymon.proxy import feed
from pymon.proxy.cells import Numbers
from pymon.proxy.feed import Directory, Division, FedPlaces, Feeder, Looked, Readiness, framed, read_down, read_up
from pymon.proxy.places import NodeView, Place, Places
from tests.proxy.agents import on_each_loop, until
from tests.proxy.running import container

ALICE = UUID(int=1)
NODES = [NodeView(f"n{number}", f"{number:08x}-1111-4000-8000-000000000000", f"host{number}") for number in range(3)]


class Told(Places):
    """Places that the test sets."""

    def run(self, number: int, name: str, owner: UUID | None = ALICE) -> None:
        self._running.put(Place(one(number, name), NODES[number % 3], owner))

    def end(self, number: int, *, remembered: bool) -> None:
        place = self._running.by_uuid[one(number).uuid]
        self._running.drop(place.container.uuid)
        if remembered:
            self._stopped.put(place)

    def views(self, *nodes: NodeView) -> None:
        self._set_views({node.uuid: node for node in nodes})


def one(number: int, name: str = "web") -> Container:
    return msgspec.convert(container(f"{number:08x}-0000-4000-8000-000000000000", "alice", name=name), Container)


def state(places: Places) -> tuple[dict, dict, dict]:
    return places._running.by_uuid, places._stopped.by_uuid, places._views


class Fed:
    """A parent with one worker, which reads while `reads` is set."""

    def __init__(self) -> None:
        self.places = Told()
        self.snapshot = Snapshot.of(1)
        self.accounts = Numbers(10)
        self.feeder = Feeder(self.places, lambda: self.snapshot, self.accounts, Numbers(10))
        self.worker = FedPlaces()
        self.seen: list[feed.Down] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.completed = 0
        self.writer: asyncio.StreamWriter

    def same(self) -> bool:
        return state(self.places) == state(self.worker)

    async def read(self, reader: asyncio.StreamReader) -> None:
        while True:
            await self.reads.wait()
            message = await read_down(reader)
            match message:
                case feed.Found(places):
                    self.worker.put(places)
                case feed.Views(nodes):
                    self.worker.set_nodes(nodes)
                case feed.Begin():
                    self.worker.begin()
                case feed.Complete():
                    self.worker.complete()
                    self.completed += 1
                case _:
                    self.seen.append(message)


@contextlib.asynccontextmanager
async def fed() -> AsyncIterator[Fed]:
    made = Fed()
    here, there = socket.socketpair()
    _, made.writer = await asyncio.open_unix_connection(sock=here)
    reader, other = await asyncio.open_unix_connection(sock=there)
    tasks = [asyncio.create_task(one) for one in (made.feeder.run(made.writer), made.read(reader))]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        made.feeder.close()
        for writer in (made.writer, other):
            writer.close()
        await asyncio.sleep(0)


def change(places: Told, chance: random.Random) -> None:
    number = chance.randrange(300)
    uuid = one(number).uuid
    if uuid in places._running.by_uuid and chance.random() < 0.5:
        places.end(number, remembered=chance.random() < 0.5)
    else:
        places.run(number, chance.choice("abc"), chance.choice([ALICE, UUID(int=2), None]))
    if chance.random() < 0.05:
        places.views(*chance.sample(NODES, 2))


@on_each_loop
async def test_a_worker_follows_every_change():
    chance = random.Random(5)  # noqa: S311
    async with fed() as world:
        for _ in range(20):
            for _ in range(100):
                change(world.places, chance)
            await asyncio.sleep(0)
        await until(world.same)
        assert world.completed == 1
        nodes = [place.node for place in world.worker.all()]
        assert len({id(node) for node in nodes}) <= 2 * len(NODES), "a node is one object for its containers"


@on_each_loop
async def test_a_worker_that_does_not_read_costs_a_bounded_amount_and_is_told_everything_again(monkeypatch):
    monkeypatch.setattr(feed, "MAX_BEHIND", 500)
    async with fed() as world:
        for number in range(300):
            world.places.run(number, "before")
        await until(world.same)
        world.reads.clear()
        most = 0
        for number in range(20_000):
            world.places.run(number, "x" * 100)
            world.places.end(number, remembered=False)
            if number % 100 == 0:
                world.feeder.check()
                await asyncio.sleep(0)
                most = max(most, len(world.feeder._journal))
        assert most < 1000
        assert world.writer.transport.get_write_buffer_size() < 1 << 18
        world.reads.set()
        await until(lambda: world.completed > 1 and world.same())
        assert not world.worker.all()


def account(number: int, name: str) -> Account:
    return Account(UUID(int=number), name, number == 1, 1.5, Quota(2.5, 3, 4))


@pytest.fixture
def snapshot() -> Snapshot:
    alice, bob = account(1, "alice"), account(2, "bob")
    return Snapshot.of(
        7,
        accounts=[alice, bob],
        certificates=[Certificate("f" * 64, alice.uuid, "x", True, 1.0, 2.0, 3.0, None)],
        keys=[SSHKey("SHA256:x", "0" * 32, bob.uuid, "ssh-rsa AAAA", "c", 1.0, 2.0)],
        tokens=[Token("id", alice.uuid, b"\xff" * 32, "l", 1.0, None, 5.0)],
        passwords={alice.uuid: b"$2b$\xff"},
        nodes=[
            Node("n1", UUID(int=9), "https://h:1", "name", "a" * 64, frozenset([alice.uuid])),
            Node("n2", None, "http://h:2"),
        ],
        authority=b"\x30\x00",
    )


def test_a_directory_arrives_as_it_was(snapshot: Snapshot) -> None:
    message = Directory.of(snapshot, {1: 0, 2**127: 5}, {"n1": 3})
    found = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Directory)
    assert found.snapshot() == snapshot
    assert found == message
    assert {int(key, 16): number for key, number in found.account_numbers.items()} == {1: 0, 2**127: 5}


@on_each_loop
async def test_of_what_replaces_itself_the_last_arrives():
    async with fed() as world:
        await until(lambda: world.completed)
        world.seen.clear()
        for number in range(100):
            world.feeder.tell(Division({}, number))
            world.feeder.tell(Readiness(str(number)))
        await until(lambda: len(world.seen) == 2)
        assert sorted(map(repr, world.seen)) == sorted(map(repr, [Division({}, 99.0), Readiness("99")]))
        world.snapshot = Snapshot.of(2, accounts=[account(1, "alice")])
        world.accounts.keep([1])
        world.feeder.wake()
        await until(lambda: len(world.seen) == 3)
        assert world.seen[2].snapshot() == world.snapshot
        assert world.seen[2].account_numbers == {"1": 0}


@on_each_loop
async def test_a_look_at_the_directory_is_told_after_what_it_found():
    async with fed() as world:
        await until(lambda: world.completed)
        for number in range(2, 50):
            world.snapshot = Snapshot.of(number)
            world.feeder.wake()
            world.feeder.tell(Looked(number))
            for _ in range(number % 5):
                await asyncio.sleep(0)
        await until(lambda: Looked(49) in world.seen)
        known = 0
        for message in world.seen:
            if isinstance(message, Directory):
                known = message.generation
            elif isinstance(message, Looked):
                assert known >= message.at


@on_each_loop
async def test_a_message_of_a_worker_has_a_bound():
    reader = asyncio.StreamReader()
    reader.feed_data(framed(feed.Fed()) + b"\xff\xff\xff\xff")
    assert await read_up(reader) == feed.Fed()
    with pytest.raises(ValueError, match="4294967295 bytes"):
        await read_up(reader)
    reader.feed_data(b"\0\0\0\1\x05")
    with pytest.raises(ValueError, match="Expected"):
        await read_up(reader)
