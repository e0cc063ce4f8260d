"""Proxies see one another through the directory, in both databases, and through the copy while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pymon.directory import presence, sqlite, worker
from pymon.directory.directory import Directory, open_directory
from pymon.directory.presence import Peer, Presence, present

A, B = {"a": ("192.0.2.1", "2001:db8::1")}, {"b": ("192.0.2.2",)}
INFINITE = json.dumps({"url": "https://x:1", "fingerprint": "ab" * 32, "reach": float("inf")})
PEER = Peer("https://192.0.2.1:9163", "ab" * 32, 3)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "RENEW_SECONDS", 0.05)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def being(
    url: str, own: dict[str, tuple[str, ...]], copy: Path | None = None, peer: Peer | None = None
) -> AsyncIterator[Presence]:
    ((name, addresses),) = own.items()
    made = Presence(url, name, copy)
    made.say(addresses, peer)
    made.start()
    try:
        yield made
    finally:
        await made.stop()


def hold(directory: Directory, name: str, *addresses: str, seconds: float = 20.0) -> None:
    directory.acquire_lease(f"proxy {name}", json.dumps(addresses), seconds)


@pytest.mark.usefixtures("directory")
async def test_two_see_each_other_until_one_ends(url: str) -> None:
    seen: list[dict[str, tuple[str, ...]]] = []
    async with being(url, A) as first:
        first.changed.append(lambda: seen.append(dict(first.alive.names)))
        assert (first.alive.names, first.looked.is_set()) == (A, False)
        await first.looked.wait()
        async with being(url, B) as second:
            await until(lambda: first.alive.names == second.alive.names == A | B)
        await until(lambda: first.alive.names == A)
        assert seen == [A | B, A]
        assert first.error == ""


async def test_what_is_left_of_one_that_ended_is_nothing(url: str, directory: Directory) -> None:
    async with being(url, A, peer=PEER):
        await until(lambda: present(directory) == A)
    assert directory.leases("p", 20.0) == {}


async def test_one_that_was_killed_is_gone_after_a_while(url: str, directory: Directory) -> None:
    async with being(url, A) as first:
        await first.looked.wait()
        hold(directory, "b", "192.0.2.2", seconds=1.0)
        await until(lambda: first.alive.names == A | B)
        await until(lambda: first.alive.names == A)


async def test_one_whose_loop_hangs_is_gone_after_a_while_and_returns(
    url: str, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOOP_SECONDS", 0.2)
    monkeypatch.setattr(presence, "ALIVE_SECONDS", 1.0)
    async with being(url, A, peer=PEER) as one:
        await until(lambda: present(directory) == A)
        deadline = time.monotonic() + 20
        while present(directory):  # nothing else runs on the loop meanwhile
            assert time.monotonic() < deadline
            time.sleep(0.05)  # noqa: ASYNC251
        assert directory.leases("p", 20.0) == {}
        await until(lambda: present(directory) == one.alive.names == A)


async def test_the_first_look_tells_all_that_are_there(url: str, directory: Directory) -> None:
    hold(directory, "b", "192.0.2.2")
    async with being(url, A) as first:
        await first.looked.wait()
        assert first.alive.names == A | B


async def test_changes_are_told_on_the_loop_and_none_after_the_stop(url: str, directory: Directory) -> None:
    told: list[int] = []
    async with being(url, A) as first:
        await first.looked.wait()
        first.changed.append(lambda: told.append(threading.get_ident()))
        hold(directory, "b", "192.0.2.2")
        await until(lambda: first.alive.names == A | B)
    directory.release_lease("proxy b", json.dumps(["192.0.2.2"]))
    await asyncio.sleep(0.1)
    assert told == [threading.get_ident()]


async def test_a_lease_that_holds_no_addresses_spoils_nothing(url: str, directory: Directory) -> None:
    for name, holder in (("x", "nonsense"), ("y", "5"), ("z", '{"a": 1}'), ("w", "[1]")):
        directory.acquire_lease(f"proxy {name}", holder, 20.0)
    for name, holder in (
        ("x", "[]"),
        ("y", '{"url": "file:///x", "fingerprint": "", "reach": 1}'),
        ("z", "{}"),
        ("w", INFINITE),
    ):
        directory.acquire_lease(f"peer {name}", holder, 20.0)
    hold(directory, "b", "192.0.2.2")
    async with being(url, A) as first:
        await until(lambda: first.alive.names == A | B)
        assert (first.error, first.alive.peers) == ("", {})


async def test_peers_say_how_they_are_reached(url: str, directory: Directory) -> None:
    async with being(url, A, peer=PEER) as first, being(url, {"b": ()}) as second:
        await until(lambda: second.alive.peers == {"a": PEER})
        assert second.alive.names == A, "one without addresses is not in DNS"
        told: list[bool] = []
        second.changed.append(lambda: told.append(True))
        first.say(A["a"], PEER._replace(reach=4))
        await until(lambda: second.alive.peers == {"a": PEER._replace(reach=4)})
        assert told == [], "what it reaches is no change of who is alive"


async def test_one_that_leaves_is_out_of_dns_and_the_last_never_is(url: str, directory: Directory) -> None:
    async with being(url, A, peer=PEER) as first, being(url, B) as second:
        await until(lambda: first.alive.names == second.alive.names == A | B)
        first.leave(leaves=True)
        await until(lambda: first.left and first.alive.names == second.alive.names == B)
        assert second.alive.peers == {"a": PEER}, "peers still reach it"
        second.leave(leaves=True)
        for _ in range(10):
            await asyncio.sleep(0.05)
            assert len(present(directory)) == 1
            assert not (first.left and second.left and first.alive.names == second.alive.names)
        first.leave(leaves=True, why="reach")
        first.leave(leaves=False)
        first.leave(leaves=False, why="reach")
        await until(lambda: not first.left and present(directory) == A)
        await until(lambda: second.left)
        await first.stop()
        await until(lambda: not second.left and second.alive.names == B)


def file_and_copy(folder: Path) -> tuple[Path, Path]:
    file = folder / "directory.db"
    sqlite.create(file)
    return file, folder / "copy.json"


async def test_while_the_directory_is_away_the_last_ones_count(tmp_path: Path, caplog) -> None:
    (file, copy), away = file_and_copy(tmp_path), tmp_path / "away.db"
    with open_directory(str(file)) as directory:
        hold(directory, "b", "192.0.2.2")
    async with being(str(file), A, copy) as first:
        await until(lambda: first.alive.names == A | B)
        file.rename(away)
        await until(lambda: first.error)
        assert first.alive.names == A | B
    async with being(str(file), {"c": ("192.0.2.3",)}, copy) as later:
        assert later.alive.names == {"c": ("192.0.2.3",)} | B
        await later.looked.wait()
        assert later.alive.names == {"c": ("192.0.2.3",)} | B
        away.rename(file)
        await until(lambda: not later.error)
        assert later.alive.names.items() >= B.items()
    assert [record.levelname for record in caplog.records if "not known" in record.getMessage()] == ["WARNING"] * 2


async def test_after_an_outage_the_others_have_time_to_renew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "ALIVE_SECONDS", 1.0)
    (file, _), away = file_and_copy(tmp_path), tmp_path / "away.db"
    with open_directory(str(file)) as directory:
        hold(directory, "b", "192.0.2.2", seconds=1.0)
        hold(directory, "d", "192.0.2.4", seconds=1.0)
    everybody = {**A, **B, "d": ("192.0.2.4",)}
    async with being(str(file), A) as first:
        await until(lambda: first.alive.names == everybody)
        file.rename(away)
        await asyncio.sleep(1.2)  # until their leases have expired
        away.rename(file)
        await until(lambda: not first.error)
        assert first.alive.names == everybody
        with open_directory(str(file)) as directory:
            hold(directory, "b", "192.0.2.2")
        await until(lambda: first.alive.names == A | B)


async def test_a_directory_that_was_never_there_leaves_a_proxy_alone(tmp_path: Path) -> None:
    async with being(str(tmp_path / "no.db"), A) as only:
        await until(lambda: only.error)
        assert "no directory there" in only.error
        assert only.alive.names == A


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pymon_presence_copy": 1}', "x" * 100])
async def test_a_copy_that_is_damaged_or_of_another_directory_is_not_used(tmp_path: Path, text: str) -> None:
    file, copy = file_and_copy(tmp_path)
    leases = {"proxy b": json.dumps(["192.0.2.2"])}
    copy.write_text(text or json.dumps({"pymon_presence_copy": 1, "directory": "/other", "leases": leases}))
    async with being(str(file), A, copy) as first:
        assert first.alive.names == A


async def test_a_copy_that_cannot_be_written_is_written_when_it_can(tmp_path: Path, caplog) -> None:
    file, copy = file_and_copy(tmp_path)
    copy.mkdir()
    with open_directory(str(file)) as directory:
        hold(directory, "b", "192.0.2.2")
    caplog.set_level("INFO")
    async with being(str(file), A, copy) as first:
        await until(lambda: first.copy_error)
        copy.rmdir()
        await until(copy.is_file)
        await until(lambda: not first.copy_error)
    said = [record.getMessage().split(":")[0] for record in caplog.records if "ignored" not in record.getMessage()]
    assert said == ["copy of the proxies cannot be written", "copy of the proxies is up to date again"]


async def test_a_copy_that_could_not_be_written_is_right_when_the_others_are_as_before(tmp_path: Path) -> None:
    file, copy = file_and_copy(tmp_path)
    copy.mkdir()
    async with being(str(file), A, copy) as first:
        async with being(str(file), B):
            await until(lambda: first.copy_error)
        await until(lambda: not first.copy_error)
    assert copy.is_dir(), "never written"
