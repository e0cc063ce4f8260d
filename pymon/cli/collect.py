"""``pymon collect``: write one collection to standard output in exposition format, without a server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_with_agent_options
from pymon.agent.options import option_table as agent_table
from pymon.agent.scrape import Scrape
from pymon.config import BOOL, Option
from pymon.exposition.negotiation import Format
from pymon.log import setup
from pymon.service.ending import end_within, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPENMETRICS = Option("openmetrics", BOOL, False, "OpenMetrics 1.0.0 instead of the text format 0.0.4.")

PRIME_SECONDS = 5.0
"""Time limit for the first results of programs and plugins. A single collection has no earlier results to use."""

_STOP_SECONDS = 2.0
"""Time limit for threads and programs to end when all is written."""


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return _OPENMETRICS, *agent_table(COLLECTORS)


def run(argv: Sequence[str]) -> int:
    """Collect once, until SIGTERM at most. Return the exit code, 1 if nothing could be collected."""
    settings, options = load_with_agent_options(
        (_OPENMETRICS,),
        argv,
        os.environ,
        COLLECTORS,
        program="pymon collect",
        description="Write one collection of this node and its containers to standard output.",
        version=f"pymon {pymon.__version__}",
    )
    setup(options.log_level, options.log_format)
    return asyncio.run(_run(build_agent(options), openmetrics=settings["openmetrics"]))


async def _run(agent: Agent, *, openmetrics: bool) -> int:
    stop = stop_on_signals(signal.SIGTERM)
    hurrying = asyncio.create_task(_hurry(agent, stop))
    status = 1
    try:
        body = await collected(agent, openmetrics=openmetrics)
        await asyncio.to_thread(_write, body)
        status = 0 if body else 1
    finally:
        end_within(_STOP_SECONDS, status)
        await agent.collection.stop()
        hurrying.cancel()
    return status


async def _hurry(agent: Agent, stop: asyncio.Event) -> None:
    await stop.wait()
    agent.collection.hurry()


def _write(body: bytes) -> None:
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


async def collected(agent: Agent, *, openmetrics: bool) -> bytes:
    """Return one collection of an agent that has not been started, empty if nothing could be collected."""
    agent.collection.start()
    await agent.collection.prime(PRIME_SECONDS)
    form = Format.OPENMETRICS_1_0_0 if openmetrics else Format.TEXT_0_0_4
    lent = await agent.collection.scrape(Scrape(format=form))
    if lent is None:
        return b""
    body = bytes(lent.data)
    lent.release()
    return body
