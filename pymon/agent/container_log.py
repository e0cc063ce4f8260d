"""Log lines about containers: how many there are, how many have no owner, and what this user may not read."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pymon.containers.access import FIX, reads_namespaces, runtime_access

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymon.agent.rows import ContainerRows
    from pymon.containers.identity import Container
    from pymon.containers.runtimes import ChosenPath

_log = logging.getLogger("pymon.agent")

SETTLE_SECONDS = 3.0
"""Delay after a change. A runtime may write the owner of a container shortly after it created the cgroup."""

BETWEEN_SECONDS = 60.0
"""Shortest time between two log lines about changes."""


def ownership(containers: Sequence[Container]) -> str:
    """Return a text that says how many containers there are and how many have no owner."""
    unowned = sum(container.owner is None for container in containers)
    plural = "" if len(containers) == 1 else "s"
    return f"{len(containers)} container{plural}, {unowned} without an owner"


def log_access(root: Path, procfs: Path, chosen: Sequence[ChosenPath] = ()) -> None:
    """Log which data of containers cannot be read.

    root: the node's root directory. chosen: directories of runtimes that the operator has named.
    """
    for access in runtime_access(root, chosen):
        if access.lacking:
            _log.warning("no labels of %s containers: %s", access.runtime, access.lacking)
        if access.problem:
            _log.warning("no names and labels of %s containers: %s; %s", access.runtime, access.problem, FIX)
    if not reads_namespaces(procfs):
        _log.warning("no network of other users' containers: their namespaces cannot be read; %s", FIX)


async def log_ownership(
    rows: ContainerRows, *, settle_seconds: float = SETTLE_SECONDS, between_seconds: float = BETWEEN_SECONDS
) -> None:
    """Log how many containers there are, now and after changes. Runs until it is cancelled."""
    said = ""
    while True:
        version = rows.version
        if rows.ready() is None and (text := ownership(rows.containers())) != said:
            _log.info("%s", text)
            if said:
                await asyncio.sleep(between_seconds)
            said = text
        await rows.wait_change(version, between_seconds)
        await asyncio.sleep(settle_seconds)
