"""Holders and pins in a real directory: written, followed, kept in a file, and done without where it cannot be."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import Holder
from pymon.proxy import holders as module
from pymon.proxy.agent_document import Inventory
from pymon.proxy.claims import Claims
from pymon.proxy.fleet import Fleet
from pymon.proxy.holders import Holders, PinError
from tests.directory import old
from tests.directory.conftest import postgres, postgres_url  # noqa: F401  # fixtures
from tests.directory.server import Server
from tests.directory.test_postgres import GRANTS, administrator, role  # noqa: F401  # fixtures
from tests.proxy.claim_site import X, container

ALICE = UUID(int=0xA11CE)
N, M = UUID(int=1 << 64), UUID(int=2 << 64)


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def move(file: Path | str, to: Path | str) -> None:
    Path(file).rename(to)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "directory.db")


@pytest.fixture
def directory(url: str) -> Directory:
    with open_directory(url, create=True) as found:
        found.create_account("alice", uuid=ALICE)
        found.create_node("n", "http://x:1", uuid=N)
        found.create_node("m", "http://x:2", uuid=M)
        yield found


class Proxy:
    """A fleet and what keeps it in step with a directory."""

    def __init__(self, url: str, copy: Path | None = None) -> None:
        self.fleet = Fleet(Claims())
        self.holders = Holders(url, copy, self.fleet)

    def says(self, directory: Directory, name: str, uuid: UUID, *containers) -> None:
        self.snapshot = directory.snapshot()
        inventory = Inventory(str(uuid), name, {one.uuid: one for one in containers})
        self.fleet.replace(name, inventory, self.snapshot, time.time())
        self.holders.wake()

    def where(self, uuid: str = X) -> str | None:
        place = self.fleet.find(uuid)
        return place.node.name if place is not None else None


@asynccontextmanager
async def proxy(url: str, copy: Path | None = None, directory: Directory | None = None) -> AsyncIterator[Proxy]:
    running = Proxy(url, copy)
    if directory is not None:
        running.fleet.resolve_owners(directory.snapshot())
    running.holders.start()
    try:
        yield running
    finally:
        await running.holders.stop()


async def test_a_claim_is_a_row_that_every_proxy_follows(url: str, directory: Directory) -> None:
    async with proxy(url) as one, proxy(url) as other:
        one.says(directory, "n", N, container())
        await until(lambda: one.where() == "n", "the row")
        (row,) = directory.holders()[1]
        assert (row.uuid, row.node, row.owner, row.start) == (UUID(X), N, ALICE, 100.0)
        other.says(directory, "m", M, container(start=500.0))
        await until(lambda: X in other.fleet.claims.rows, "that the other knows it")
        assert other.where() is None
        other.says(directory, "n", N, container())
        assert other.where() == "n"
        one.says(directory, "n", N)
        one.says(directory, "m", M, container(start=500.0))
        await until(lambda: one.where() == "m", "that it has moved")
        await until(lambda: other.fleet.claims.rows[X].node == str(M), "for both")
        assert other.where() == "m"


async def test_two_proxies_that_hear_of_two_nodes_agree(url: str, directory: Directory) -> None:
    async with proxy(url) as one, proxy(url) as other:
        uuids = [str(UUID(int=number)) for number in range(1, 301)]
        one.says(directory, "n", N, *map(container, uuids))
        other.says(directory, "m", M, *map(container, uuids))
        one.says(directory, "m", M, *map(container, uuids))
        other.says(directory, "n", N, *map(container, uuids))
        await until(lambda: len(one.fleet) == len(other.fleet) == 300, "all rows")
        assert [one.where(uuid) for uuid in uuids] == [other.where(uuid) for uuid in uuids]
        assert len(directory.holders()[1]) == 300


async def test_a_release_is_followed(url: str, directory: Directory) -> None:
    async with proxy(url) as running:
        running.says(directory, "n", N, container())
        await until(lambda: running.where() == "n", "the row")
        running.says(directory, "m", M, container(owner=None))
        directory.release_claim(UUID(X))
        await until(lambda: running.where() == "m", "the release")
        assert directory.holders()[1][0].node == M


async def test_a_node_is_pinned(url: str, directory: Directory) -> None:
    uuid = UUID(int=7 << 64)
    directory.create_node("new", "http://x:3")
    async with proxy(url, directory=directory) as running:
        await running.holders.pin("new", str(uuid))
        assert directory.snapshot().nodes["new"].uuid == uuid
        assert running.fleet.claims.identity("new", str(uuid)).pinned
        for name, told, text in (
            ("new", UUID(int=8 << 64), f"expected the node {uuid}, got {UUID(int=8 << 64)}"),
            ("m", N, f"expected the node {M}, got {N}"),
        ):
            with pytest.raises(PinError, match=text):
                await running.holders.pin(name, str(told))
        directory.create_node("late", "http://x:4")
        with pytest.raises(PinError, match=f"the node {N} is another's in the directory"):
            await running.holders.pin("late", str(N))
        running.holders.offer("m", str(UUID(int=9 << 64)))
        await until(lambda: directory.offers() == {"m": UUID(int=9 << 64)}, "the offer")


async def test_a_directory_that_is_away_admits_nothing_new(
    url: str, directory: Directory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    copy = tmp_path / "holders-copy.jsonl"
    other = str(UUID(int=0xD))
    async with proxy(url, copy) as running:
        running.says(directory, "n", N, container())
        await until(lambda: running.where() == "n", "the row")
        accounts = directory.snapshot()
        move(url, tmp_path / "away")
        await until(lambda: running.fleet.claims.away, "that it is away")
        running.fleet.replace(
            "n", Inventory(str(N), "n", {X: container(), other: container(other)}), accounts, time.time()
        )
        assert (running.where(), running.where(other)) == ("n", None)
        with pytest.raises(PinError, match="the directory is unavailable, and the UUID of the node is not known"):
            await running.holders.pin("new", str(UUID(int=7 << 64)))
    async with proxy(url, copy) as again:  # which starts from its copy
        again.fleet.replace(
            "n", Inventory(str(N), "n", {X: container(), other: container(other)}), accounts, time.time()
        )
        again.fleet.replace("m", Inventory(str(M), "m", {X: container(start=time.time())}), accounts, time.time())
        assert (again.where(), again.where(other)) == ("n", None)
        move(tmp_path / "away", url)
        await until(lambda: not again.fleet.claims.away, "that it is back")
        again.fleet.settle(time.time(), 0.0, 10)
        again.holders.wake()
        await until(lambda: again.where(other) == "n", "the new one")
    assert caplog.text.count("holders of UUIDs cannot be read or written") == 2, "once each"


async def test_what_was_released_while_a_proxy_was_down_is_released(
    url: str, directory: Directory, tmp_path: Path
) -> None:
    copy = tmp_path / "holders-copy.jsonl"
    async with proxy(url, copy) as running:
        running.says(directory, "n", N, container())
        await until(lambda: running.where() == "n", "the row")
    directory.release_claim(UUID(X))
    move(url, tmp_path / "away")
    async with proxy(url, copy) as again:
        assert X in again.fleet.claims.rows
        move(tmp_path / "away", url)
        await until(lambda: X not in again.fleet.claims.rows, "the release")


async def test_who_may_have_a_container_back_is_known_after_a_restart(
    url: str, directory: Directory, tmp_path: Path
) -> None:
    copy = tmp_path / "holders-copy.jsonl"
    async with proxy(url, copy) as running:
        running.says(directory, "n", N, container())
        await until(lambda: running.where() == "n", "the row")
        running.fleet.claims.returns[X] = str(M)
        running.fleet.claims.returns[str(UUID(int=0xD))] = str(M)
        running.holders._unsaved = True
    async with proxy(url, copy) as again:
        assert again.fleet.claims.returns == {X: str(M)}


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}\n", b"null\n", b'["x"]\n', b"\xff", b"[" * 100_000, b'{"pymon_holders_copy":1,"directory":"x"}\n'],
)
async def test_a_copy_that_is_none_is_one_warning(
    url: str, damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(damage)
    async with proxy(url, copy) as running:
        assert running.fleet.claims.rows == {}
    assert len([record for record in caplog.records if "copy of the holders ignored" in record.message]) == 1


async def test_rows_that_a_node_does_not_need_are_forgotten(url: str, directory: Directory) -> None:
    uuids = [UUID(int=number) for number in range(1, 5)]
    directory.hold([Holder(uuid, N, None, 1.0) for uuid in uuids])
    async with proxy(url) as running:
        assert len(running.fleet.claims.rows) == 4
        running.fleet.claims.unneeded[str(N)] = [str(uuid) for uuid in uuids[:3]]
        await until(lambda: len(running.fleet.claims.rows) == 1, "that they are gone")
        assert [row.uuid for row in directory.holders()[1]] == uuids[3:]


async def test_a_directory_that_is_not_upgraded_is_said_and_used_when_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.05)
    url = str(tmp_path / "old.db")
    old.make(url)
    with open_directory(url) as directory:
        directory.create_node("n", "http://x:1", uuid=N)
        directory.create_node("m", "http://x:2", uuid=M)
        async with proxy(url) as running:
            assert "this proxy alone remembers who holds a UUID" in caplog.text
            running.says(directory, "n", N, container(owner=None))
            running.says(directory, "m", M, container(owner=None, start=500.0))
            assert running.where() == "n"
            directory.upgrade()
            await until(lambda: directory.holders()[1], "the row of what it held")
            assert directory.holders()[1][0].node == N
            assert running.where() == "n"
            assert running.fleet.claims.durable


async def test_a_directory_that_cannot_be_written_is_said(
    url: str, directory: Directory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line = "x: cannot be written: holders of UUIDs (no right to INSERT holders)"
    monkeypatch.setattr(Directory, "off", lambda _: [line])
    directory.hold([Holder(UUID(X), M, ALICE, 1.0)])
    other = str(UUID(int=0xD))
    async with proxy(url) as running:
        assert "this proxy alone remembers who holds a UUID" in caplog.text
        running.says(directory, "n", N, container(start=500.0), container(other))
        assert (running.where(), running.where(other)) == (None, "n"), "rows of other proxies count"
        await running.holders.pin("new", str(UUID(int=7 << 64)))
        assert len(directory.holders()[1]) == 1


# --- PostgreSQL ----------------------------------------------------------------------------------


@pytest.fixture
def server(postgres_url: str) -> Directory:  # noqa: F811
    with open_directory(postgres_url, create=True) as found:
        found.create_account("alice", uuid=ALICE)
        found.create_node("n", "http://x:1", uuid=N)
        found.create_node("m", "http://x:2")
        yield found


async def test_the_documented_rights_are_enough(
    server: Directory,
    postgres: Server,  # noqa: F811
    administrator: psycopg.Connection,  # noqa: F811
    role: str,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    for grant in GRANTS:
        administrator.execute(grant.encode())
    url = postgres.url(user=role)
    async with proxy(url, directory=server) as one, proxy(url, directory=server) as other:
        await one.holders.pin("m", str(M))
        one.says(server, "n", N, container())
        other.says(server, "m", M, container(start=500.0))
        await until(lambda: X in one.fleet.claims.rows and X in other.fleet.claims.rows, "a row")
        (row,) = server.holders()[1]
        assert one.fleet.claims.rows[X].node == other.fleet.claims.rows[X].node == str(row.node)
        assert not one.holders.error
    assert not caplog.records


async def test_with_a_role_that_only_reads_a_proxy_goes_on_alone(
    server: Directory,
    postgres: Server,  # noqa: F811
    administrator: psycopg.Connection,  # noqa: F811
    role: str,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    for grant in GRANTS[:2]:
        administrator.execute(grant.encode())
    other = str(UUID(int=0xD))
    server.hold([Holder(UUID(other), UUID(int=5 << 64), ALICE, 1.0)])
    async with proxy(postgres.url(user=role), directory=server) as running:
        assert [record.message for record in caplog.records] == [
            "this proxy alone remembers who holds a UUID, and forgets it when it ends"
        ]
        await running.holders.pin("m", str(M))
        running.holders.offer("m", str(UUID(int=6 << 64)))
        running.says(server, "n", N, container())
        running.says(server, "m", M, container(start=500.0))
        server.hold([Holder(UUID(int=0xE), N, ALICE, 1.0)])
        await until(lambda: len(running.fleet.claims.rows) == 3, "the row of another proxy")
        assert running.where() == "n"
        assert not running.holders.error
