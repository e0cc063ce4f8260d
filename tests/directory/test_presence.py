"""Proxies see one another through the directory, in both databases."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from pymon.directory import presence, sqlite
from pymon.directory.directory import Directory, open_directory
from pymon.directory.presence import Presence, present

A, B = {"a": ("192.0.2.1", "2001:db8::1")}, {"b": ("192.0.2.2",)}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "RENEW_SECONDS", 0.05)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def ignored(_: Mapping[str, tuple[str, ...]]) -> None:
    pass


@contextlib.asynccontextmanager
async def being(url: str, own: dict[str, tuple[str, ...]], changed=ignored) -> AsyncIterator[Presence]:
    ((name, addresses),) = own.items()
    made = Presence(url, name, addresses, changed)
    made.start()
    try:
        yield made
    finally:
        await made.stop()
        assert not [thread for thread in threading.enumerate() if thread is made._thread]


def end_unseen(made: Presence) -> None:
    """As a process that is killed: the lease stays."""
    made._release = lambda: None  # type: ignore[method-assign]


@pytest.mark.usefixtures("directory")
async def test_two_see_each_other_until_one_ends(url: str) -> None:
    seen: list[dict[str, tuple[str, ...]]] = []
    async with being(url, A, lambda alive: seen.append(dict(alive))) as first:
        assert first.alive == A, "before the first look"
        async with being(url, B) as second:
            await until(lambda: first.alive == second.alive == A | B)
        await until(lambda: first.alive == A)
        assert seen == [A | B, A]
        assert (first.error, second.error) == ("", "")


async def test_what_is_left_of_one_that_ended_is_nothing(url: str, directory: Directory) -> None:
    async with being(url, A):
        await until(lambda: present(directory) == A)
    assert present(directory) == {}


async def test_one_that_was_killed_is_gone_after_a_while(
    url: str, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "ALIVE_SECONDS", 2.0)
    async with being(url, A) as first:
        async with being(url, B) as second:
            await until(lambda: first.alive == A | B)
            end_unseen(second)
        assert present(directory) == A | B
        await until(lambda: first.alive == A)


async def test_changes_are_told_on_the_loop_and_none_after_the_stop(url: str, directory: Directory) -> None:
    told: list[int] = []
    async with being(url, A, lambda _: told.append(threading.get_ident())) as first:
        directory.acquire_lease("proxy b", '["192.0.2.2"]', 20.0)
        await until(lambda: first.alive == A | B)
    directory.release_lease("proxy b", '["192.0.2.2"]')
    await asyncio.sleep(0.1)
    assert told == [threading.get_ident()]


async def test_a_lease_that_holds_no_addresses_spoils_nothing(url: str, directory: Directory) -> None:
    for name, holder in (("x", "nonsense"), ("y", "5"), ("z", '{"a": 1}'), ("w", "[1]")):
        directory.acquire_lease(f"proxy {name}", holder, 20.0)
    async with being(url, A) as first:
        async with being(url, B):
            await until(lambda: first.alive == A | B)
        assert first.error == ""


async def test_while_the_directory_is_away_the_last_ones_count(tmp_path: Path, caplog) -> None:
    file, away = tmp_path / "directory.db", tmp_path / "away.db"
    sqlite.create(file)
    async with being(str(file), A) as first:
        with open_directory(str(file)) as directory:
            directory.acquire_lease("proxy b", '["192.0.2.2"]', 20.0)
        await until(lambda: first.alive == A | B)
        file.rename(away)
        await until(lambda: first.error)
        assert first.alive == A | B
        away.rename(file)
        await until(lambda: not first.error)
        assert first.alive == A | B
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_directory_that_was_never_there_leaves_a_proxy_alone(tmp_path: Path) -> None:
    async with being(str(tmp_path / "no.db"), A) as only:
        await until(lambda: only.error)
        assert "no directory there" in only.error
        assert only.alive == A
