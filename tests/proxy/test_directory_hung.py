"""A proxy whose directory hangs: a real PostgreSQL of which no process runs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymon.directory.directory import open_directory
from tests.directory.server import Server
from tests.directory.server import running as postgres_running
from tests.proxy.running import ZONE, FakeNode, Site, container, on_uvloop, process

A = "00000000-0000-4000-8000-00000000000a"
END_SECONDS = 5.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with postgres_running() as server:
        yield server


async def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@on_uvloop
async def test_it_serves_says_so_and_ends_soon(tmp_path: Path, postgres: Server) -> None:
    site = Site(tmp_path)
    site.directory.close()
    site.directory = open_directory(postgres.url(), create=True)
    site.directory.set_authority(site.authority.der)
    alice = site.account("alice")
    async with FakeNode(container(A, str(alice.uuid))) as node:
        site.node("n1", node)
        flags = (f"--directory={postgres.url()}", "--dns.listen-address=127.0.0.1:0", f"--zone={ZONE}")
        with process(site, *flags) as proxy:

            async def status() -> int:
                return (await proxy.ask(f"/v1/{A}/metrics", alice)).status

            async def served() -> bool:
                return await status() == 200

            async def is_down() -> bool:
                return await proxy.metric("pymon_proxy_directory_up") == 0

            await until(served)
            assert not await is_down()
            with postgres.hung():
                await until(is_down)
                assert await status() == 200
                os.kill(proxy.pid, signal.SIGTERM)
                begun = time.monotonic()
                while not ended(proxy.pid):
                    assert time.monotonic() - begun < END_SECONDS, proxy.log
                    await asyncio.sleep(0.05)
    site.directory.close()
