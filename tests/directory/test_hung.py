"""A database server that hangs: every query ends, and so does everything that waits for one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pymon.directory import postgres as module
from pymon.directory import worker
from pymon.directory.demand import DemandExchange
from pymon.directory.directory import open_directory
from pymon.directory.lease import HeldLease
from pymon.directory.live import LiveDirectory
from pymon.directory.model import UnavailableError
from tests.directory.server import Server

ENDS_SECONDS = worker.LEAVE_SECONDS + worker.END_SECONDS


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.fixture
def made(postgres_url: str) -> str:
    with open_directory(postgres_url, create=True) as directory:
        directory.create_account("alice")
    return postgres_url


def test_a_query_and_a_connection_have_a_deadline(made: str, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 2)
    with open_directory(made) as directory:
        directory.snapshot()
        for ask in (directory.generation, directory.snapshot, lambda: directory.acquire_lease("x", "y", 5.0)):
            with postgres.hung(), pytest.raises(UnavailableError, match=r"no answer within 0\.5 s$"):
                ask()
            directory.snapshot()
        with postgres.hung(), pytest.raises(UnavailableError, match="timeout"):
            open_directory(made)


async def test_it_is_not_up_while_it_hangs_and_up_again_afterwards(
    made: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pymon.directory.live.UP_SECONDS", 1.0)
    live = LiveDirectory(made, None, lambda _: None)
    live.start()
    try:
        assert live.up()
        with postgres.hung():
            await until(lambda: not live.up())
            assert list(live.snapshot.accounts_by_name) == ["alice"]
        await until(live.up)
    finally:
        await live.stop()


async def test_threads_end_although_it_hangs(made: str, postgres: Server, tmp_path: Path) -> None:
    live = LiveDirectory(made, tmp_path / "copy", lambda _: None)
    live.start()
    lease = HeldLease(made, "dns", "me")
    lease.start()
    demand = DemandExchange(made, "me", lambda _: None)
    demand.start()
    with open_directory(made) as directory:
        await until(lambda: directory.lease_holder("dns", 60.0) == "me" and directory.leases("demand ", 60.0))
    with postgres.hung():
        begun = time.monotonic()
        await asyncio.gather(live.stop(), lease.stop(), demand.stop())
        assert time.monotonic() - begun < ENDS_SECONDS + 1
        assert not [one for one in threading.enumerate() if one.name in ("directory", "lease dns", "demand")]
