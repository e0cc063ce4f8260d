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
from pymon.cli.table import age, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.containers.identity import Container

_HEADINGS = ("UUID", "NAME", "RUNTIME", "OWNER", "STATE", "AGE", "CGROUP")


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
            now = time.time()
            sys.stdout.write(table(_HEADINGS, (_row(container, now) for container in agent.registry.containers())))
    finally:
        agent.containers.close()
    return 0


def _row(container: Container, now: float) -> tuple[str, ...]:
    return (
        str(container.uuid),
        container.name or "-",
        container.runtime,
        container.owner or "-",
        container.state,
        age(now - container.start_seconds),
        container.id,
    )
