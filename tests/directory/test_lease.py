"""A lease has one holder at a time, in both databases, whatever the clocks say."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from pymon.directory import lease, sqlite, worker
from pymon.directory.directory import Directory, open_directory
from pymon.directory.lease import HeldLease, Standing
from tests.live.world import until


def shift(url: str, seconds: float) -> None:
    """Move the end of every lease, as another clock would see it."""
    sql = f"UPDATE leases SET expires_at = expires_at + {seconds}"  # noqa: S608
    if url.startswith("postgresql:"):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"SET search_path TO pymon; {sql}".encode())
    else:
        with closing(sqlite3.connect(url)) as connection, connection:
            connection.execute(sql)


@contextmanager
def keeping(url: str, holder: str) -> Iterator[HeldLease]:
    kept = HeldLease(url, "dns", holder)
    kept.start()
    try:
        yield kept
    finally:
        asyncio.run(kept.stop())


def test_one_has_it_until_it_is_released(directory: Directory) -> None:
    assert directory.lease_holder("dns", 60) == ""
    assert directory.acquire_lease("dns", "a", 60) == "a"
    assert directory.acquire_lease("dns", "b", 60) == "a"
    assert directory.acquire_lease("dns", "a", 60) == "a"
    assert directory.acquire_lease("other", "b", 60) == "b"
    directory.release_lease("dns", "b")
    assert directory.lease_holder("dns", 60) == "a"
    directory.release_lease("dns", "a")
    assert directory.lease_holder("dns", 60) == ""
    assert directory.acquire_lease("dns", "b", 60) == "b"
    assert directory.lease_holder("other", 60) == "b"


def test_it_ends_by_the_clock_of_the_database(directory: Directory, url: str) -> None:
    directory.acquire_lease("dns", "a", 60)
    shift(url, -59)
    assert directory.acquire_lease("dns", "b", 60) == "a"
    shift(url, -2)
    assert directory.lease_holder("dns", 60) == ""
    assert directory.acquire_lease("dns", "b", 60) == "b"
    assert directory.acquire_lease("dns", "a", 60) == "b"


def test_an_expiry_of_a_clock_that_was_put_back_keeps_nobody_out(directory: Directory, url: str) -> None:
    directory.acquire_lease("dns", "a", 60)
    shift(url, 3600)
    assert directory.lease_holder("dns", 60) == ""
    assert directory.acquire_lease("dns", "b", 60) == "b"


def test_leases_that_nobody_renews_are_not_kept(directory: Directory, url: str) -> None:
    for number in range(10):
        directory.acquire_lease(f"proxy {number}", "a", 20)
    shift(url, -21)
    directory.acquire_lease("proxy 10", "b", 20)
    shift(url, 21)
    assert directory.leases("proxy ", 60) == {"proxy 10": "b"}


def test_leases_are_no_change_of_the_directory(directory: Directory) -> None:
    before = directory.generation()
    directory.acquire_lease("dns", "a", 60)
    directory.release_lease("dns", "a")
    assert directory.generation() == before


def test_many_who_want_it_at_once_are_told_the_same_name(directory: Directory, url: str) -> None:
    told: list[str] = []
    ready = threading.Barrier(8)

    def want(holder: str) -> None:
        with open_directory(url) as own:
            ready.wait()
            told.append(own.acquire_lease("dns", holder, 60))

    threads = [threading.Thread(target=want, args=(f"p{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert set(told) == {directory.lease_holder("dns", 60)}


def test_another_takes_it_when_it_is_released(directory: Directory, url: str) -> None:
    with keeping(url, "b") as second:
        with keeping(url, "a") as first:
            until("one has it", lambda: Standing.HELD in (first.standing(), second.standing()))
            has, waits = (first, second) if first.standing() is Standing.HELD else (second, first)
            assert waits.standing() is Standing.LOST
            assert (first.error, second.error) == ("", "")
        if has is first:
            until("the other has it", lambda: second.standing() is Standing.HELD)
        assert second.standing() is Standing.HELD
    assert directory.lease_holder("dns", lease.LEASE_SECONDS) == ""


def test_another_takes_it_when_it_is_not_renewed(
    directory: Directory, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)
    directory.acquire_lease("dns", "dead", 2.0)
    began = time.monotonic()
    with keeping(url, "b") as kept:
        until("it is taken over", lambda: kept.standing() is Standing.HELD)
    assert time.monotonic() - began > 1.0


async def test_who_hangs_gives_it_up_and_may_have_it_again(
    directory: Directory, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(worker, "LOOP_SECONDS", 0.5)
    kept = HeldLease(url, "dns", "a")
    kept.start()
    try:

        async def held() -> None:
            async with asyncio.timeout(30):
                while kept.standing() is not Standing.HELD:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        await held()
        until(
            "it gives it up", lambda: not directory.lease_holder("dns", 60)
        )  # nothing else runs on the loop meanwhile
        assert kept.standing() is Standing.LOST
        await held()
        assert directory.lease_holder("dns", 60) == "a"
    finally:
        await kept.stop()


def test_who_lost_it_knows(directory: Directory, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    with keeping(url, "a") as kept:
        until("it is held", lambda: kept.standing() is Standing.HELD)
        shift(url, 3600)
        directory.acquire_lease("dns", "b", lease.LEASE_SECONDS)
        until("it knows", lambda: kept.standing() is Standing.LOST)
        assert kept.error == ""


def test_without_its_directory_the_holder_is_unsure(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    file, away = tmp_path / "directory.db", tmp_path / "away.db"
    sqlite.create(file)
    seen: list[str] = []
    kept = HeldLease(str(file), "dns", "a", lambda: seen.append(kept.error))
    kept.start()
    try:
        until("it is held", lambda: kept.standing() is Standing.HELD)
        file.rename(away)
        until("it is unsure", lambda: kept.standing() is Standing.UNSURE)
        assert "no directory there" in kept.error
        away.rename(file)
        until("it is held again", lambda: kept.standing() is Standing.HELD)
        until("the error is gone", lambda: not kept.error)
    finally:
        asyncio.run(kept.stop())
    assert kept.standing() is Standing.LOST
    assert len(seen) >= 4
