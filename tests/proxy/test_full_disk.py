"""Copies of inventories on a file system that is full for a while."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.proxy.running import FakeNode, Site, container, on_uvloop, process

pytestmark = pytest.mark.root

A, B = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"


@contextlib.contextmanager
def small(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


async def until(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@on_uvloop
async def test_a_copy_is_written_when_there_is_room_again_without_another_change(tmp_path: Path) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    folder = site.data_dir / "inventory"
    with small(folder):
        async with FakeNode(container(A, str(alice.uuid))) as node:
            site.node("n1", node)
            with process(site) as proxy:

                async def unwritten() -> bool:
                    return await proxy.metric("pymon_proxy_copy_pending", of="inventories") == 1

                def kept() -> set[str]:
                    document = msgspec.json.decode((folder / "n1.json").read_bytes())["document"]
                    return {one["uuid"] for one in document["containers"]}

                async def written() -> bool:
                    return (folder / "n1.json").exists() and kept() == {A} and not await unwritten()

                async def newer() -> bool:
                    return kept() == {A, B} and not await unwritten()

                await until(written)
                with contextlib.suppress(OSError):
                    (folder / "filler").write_bytes(b"x" * (1 << 17))
                node.change(container(A, str(alice.uuid)), container(B, str(alice.uuid), name="other" * 800))
                await until(unwritten)
                assert (await proxy.ask(f"/v1/{B}/metrics", alice)).status == 200
                assert kept() == {A}, "the last good copy stays"
                (folder / "filler").unlink()
                await until(newer)
                assert proxy.log.count("inventories cannot be kept on disk") == 1
                assert proxy.log.count("inventories are kept on disk again") == 1
