"""``pymon collect``: one collection to standard output, in exposition format, without a server."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.exposition.negotiation import Format
from pymon.log import setup

if TYPE_CHECKING:
    from collections.abc import Sequence

PRIME_SECONDS = 5.0
"""What programs and plugins may take: who collects once has no earlier result of theirs."""


def run(argv: Sequence[str]) -> int:
    """Collect once. 1 when nothing at all could be collected."""
    words = list(argv)
    openmetrics = "--openmetrics" in words
    if openmetrics:
        words.remove("--openmetrics")
    options = load_agent_options(
        words,
        os.environ,
        COLLECTORS,
        program="pymon collect [--openmetrics]",
        description="Write one collection of this node and its containers to standard output.",
        version=f"pymon {pymon.__version__}",
    )
    setup(options.log_level, options.log_format)
    body = asyncio.run(_collect(build_agent(options), openmetrics=openmetrics))
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()
    return 0 if body else 1


async def _collect(agent: Agent, *, openmetrics: bool) -> bytes:
    agent.collection.start()
    try:
        await agent.collection.prime(PRIME_SECONDS)
        lent = await agent.collection.scrape(
            scope="all",
            collectors=None,
            names=None,
            format=Format.OPENMETRICS_1_0_0 if openmetrics else Format.TEXT_0_0_4,
            gzip=False,
            timeout_seconds=None,
        )
        body = bytes(lent.data)
        lent.release()
        return body
    finally:
        await agent.collection.stop()
