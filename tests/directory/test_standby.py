"""PostgreSQL with a standby: the URL names both hosts, and the standby is promoted when the primary is gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pymon.directory.directory import open_directory
from pymon.directory.live import LiveDirectory
from pymon.directory.model import DirectoryError
from tests.directory.server import BIN, Server, made_by, running


def standby_of(primary: Server) -> AbstractContextManager[Server]:
    """A hot standby, which follows the primary."""
    base = BIN / "pg_basebackup"
    return made_by([base, "-h", primary.folder, "-U", "postgres", "-R", "-c", "fast", "--no-sync"])


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_standby_is_promoted(tmp_path: Path) -> None:
    with running() as primary, standby_of(primary) as standby:
        url = (
            f"postgresql://postgres@/postgres?host={primary.folder},{standby.folder}"
            "&target_session_attrs=read-write&connect_timeout=5"
        )
        open_directory(url, create=True).close()
        with open_directory(url) as directory:
            live = LiveDirectory(url, tmp_path / "copy.json", lambda _: None)
            live.start()
            try:
                directory.create_account("before")
                await until(lambda: "before" in live.snapshot.accounts_by_name)
                await until(lambda: standby.sql("SELECT COUNT(*) FROM pymon.accounts") == "1")
                primary.stop()
                await until(lambda: live.error)
                assert "before" in live.snapshot.accounts_by_name
                standby.sql("SELECT pg_promote()")

                def written() -> bool:
                    with contextlib.suppress(DirectoryError):
                        directory.create_account("after")
                    return "after" in directory.snapshot().accounts_by_name

                await until(written)
                await until(lambda: "after" in live.snapshot.accounts_by_name)
                await until(lambda: not live.error)
            finally:
                await live.stop()
