"""``pymon agent``: answer scrapes of this node and its containers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import uvloop

import pymon
from pymon.agent.access import LiveWebConfig
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.agent.web import AgentWeb
from pymon.log import setup
from pymon.service.serve import serve, stop_on_signals

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from pymon.config import Listen

_log = logging.getLogger("pymon.agent")


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT."""
    options = load_agent_options(argv, os.environ, COLLECTORS, version=f"pymon {pymon.__version__}")
    setup(options.log_level, options.log_format)
    live = LiveWebConfig(options.web_config_file) if options.web_config_file else None
    uvloop.run(_run(options, live))
    return 0


async def _run(options: AgentOptions, live: LiveWebConfig | None) -> None:
    await serve_agent(options, live, stop_on_signals(), _started)


async def serve_agent(
    options: AgentOptions,
    live: LiveWebConfig | None,
    stop: asyncio.Event,
    started: Callable[[AgentOptions, tuple[Listen, ...]], None],
) -> None:
    """Build the agent and serve it until `stop`; `started` is called once it listens."""
    agent = build_agent(options, serving=True)
    agent.collection.start()
    agent.collection.warm_up()
    own = agent.self_metrics
    web = AgentWeb(agent.collection, agent.registry, options, live, own.registry, own.http)
    try:
        await serve(
            web.server(),
            options.listen_addresses,
            stop=stop,
            stopping=web.stopping,
            started=lambda addresses: started(options, addresses),
        )
    finally:
        await agent.collection.stop()


def _started(_: AgentOptions, addresses: tuple[Listen, ...]) -> None:
    for address in addresses:
        _log.info("listening", extra={"fields": {"address": str(address)}})
