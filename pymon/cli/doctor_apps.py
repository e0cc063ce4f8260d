"""The lines of ``pymon doctor`` about the metrics of applications."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pymon.apps.client import ask_fetcher
from pymon.apps.protocol import AppError, Ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymon.agent.options import AgentOptions

Line = tuple[str, str]

_SECONDS = 3.0
_NOTHING = Ask(
    pid=0, start_ticks=0, cgroup="/", namespace=0, port=1, path="/", seconds=_SECONDS, max_bytes=1,
)  # fmt: skip
"""An ask that no fetcher takes: one that is there says so."""

_FIX = "systemctl enable --now pymon-app-fetcher, or pymon app-fetcher as root; docs/apps.md"


def fetcher(options: AgentOptions) -> Iterator[Line]:
    """Yield whether the metrics of applications are fetched, and the remedy if their fetcher does not answer."""
    path = options.container_app_metrics
    if path is None:
        yield "applications", "their metrics are not fetched: --container.app-metrics is off"
        return
    problem = _problem(path)
    if problem:
        yield "applications", f"{path}: {problem}"
        yield "", f"fix: {_FIX}"
    else:
        yield "applications", f"their metrics are fetched through {path}"


def _problem(path: Path) -> str:
    """Return why a fetcher does not answer this user, "" if it does."""
    try:
        asyncio.run(ask_fetcher(path, _NOTHING, _SECONDS))
    except AppError as error:
        return "" if error.reason == "ask" else str(error)
    return "what answers is no fetcher"
