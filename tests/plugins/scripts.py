"""Plugins for tests: real programs in a directory that only we may write."""

from __future__ import annotations

import asyncio
import time


def script(directory, name, body, mode=0o755):
    """A shell script; `body` is what follows the first line."""
    directory.mkdir(mode=0o755, exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)
    return path


async def until(condition, seconds=20):
    """Wait for a condition that a background task brings about; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "never came true"
        await asyncio.sleep(0.01)
    return value
