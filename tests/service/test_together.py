"""Tasks that live and end together: what failed first comes out by itself, on every Python."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from pymon.config import ConfigError
from pymon.directory.model import DirectoryError
from pymon.service.together import together

SOURCES = sorted((Path(__file__).resolve().parents[2] / "pymon").rglob("*.py"))


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("path.procfs: expected a procfs"),
        DirectoryError("no such account"),
        OSError(98, "cannot listen on 127.0.0.1:1"),
        ValueError("unforeseen"),
        ExceptionGroup("inner", [OSError(1, "first"), ValueError("second")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_failed_first_is_raised_by_itself(error: Exception) -> None:
    ended = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    async def other() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)
            raise RuntimeError("the end of another")

    async def both() -> None:
        async with together() as group:
            group.create_task(other())
            group.create_task(fail())

    (caught,) = await asyncio.gather(both(), return_exceptions=True)
    expected = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    assert caught is expected
    assert ended == [True]


async def test_a_failure_outside_of_the_tasks() -> None:
    async def run() -> None:
        async with together() as group:
            group.create_task(asyncio.sleep(60))
            raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        await run()


async def test_without_a_failure_all_are_awaited() -> None:
    async with together() as group:
        task = group.create_task(asyncio.sleep(0.01, "done"))
    assert task.result() == "done"


async def test_who_is_cancelled_is_cancelled() -> None:
    async def run() -> None:
        async with together() as group:
            group.create_task(asyncio.sleep(60))

    task = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_nothing_catches_by_except_star() -> None:
    """Until Python 3.11.4 what is raised inside it comes out as a group, which no other `except` knows."""
    found = [
        path.name for path in SOURCES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.TryStar)
    ]
    assert found == []
