"""``pymon containers``: the containers of this node, as a table or as JSON."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.containers.identity import Container

_HEADINGS = ("UUID", "NAME", "RUNTIME", "OWNER", "STATE", "AGE", "CGROUP")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def run(argv: Sequence[str]) -> int:
    """Print what is there now."""
    words = list(argv)
    as_json = "--json" in words
    if as_json:
        words.remove("--json")
    options = load_agent_options(
        words,
        os.environ,
        COLLECTORS,
        program="pymon containers [--json]",
        description="List the containers of this node.",
        version=f"pymon {pymon.__version__}",
    )
    agent = build_agent(options)
    try:
        if as_json:
            sys.stdout.write(agent.registry.document().decode() + "\n")
        else:
            sys.stdout.write(table(agent.registry.containers(), time.time()))
    finally:
        agent.registry.close()
        agent.source.close()
    return 0


def table(containers: Sequence[Container], now: float) -> str:
    """Columns as wide as their widest cell, the cgroup last and uncut."""
    rows = [_HEADINGS, *(_row(container, now) for container in containers)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS) - 1)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]) + "\n"
        for row in rows
    )


def _row(container: Container, now: float) -> tuple[str, ...]:
    return (
        str(container.uuid),
        _printable(container.name) or "-",
        container.runtime,
        container.owner or "-",
        container.state,
        age(now - container.start_seconds),
        _printable(container.id),
    )


def _printable(text: str) -> str:
    """The text with what a terminal would act on, or could not show, as escapes: a tenant may have chosen it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def age(seconds: float) -> str:
    """Seconds, minutes, hours or days: the largest unit that fits."""
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{letter}"
    return f"{max(0, int(seconds))}s"
