"""``pymon agent``: answer scrapes of this node and its containers."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from dataclasses import fields
from typing import TYPE_CHECKING

import pymon
from pymon.agent.accelerators import missing_accelerators
from pymon.agent.access import LiveWebConfig
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.container_log import log_access, log_ownership
from pymon.agent.join import Joining
from pymon.agent.node import own_identity
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.agent.options import option_table as agent_table
from pymon.agent.source import source_of
from pymon.agent.summary import LiveSummary
from pymon.agent.web import AgentWeb
from pymon.config import ConfigError
from pymon.containers.owner import OwnerRules, RuleError
from pymon.log import setup
from pymon.service.configuration_signal import read_again_on_signal
from pymon.service.ending import stop_on_signals
from pymon.service.loop import run as run_loop
from pymon.service.reload import Reload
from pymon.service.serve import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymon.agent.rows import ContainerRows
    from pymon.config import Listen, Option

_log = logging.getLogger("pymon.agent")

GRACE_SECONDS = 2.0
"""How long answers in progress may take when the agent ends."""


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return agent_table(COLLECTORS)


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code."""

    def read() -> AgentOptions:
        return load_agent_options(argv, os.environ, COLLECTORS, version=f"pymon {pymon.__version__}")

    options = read()
    setup(options.log_level, options.log_format)
    live = LiveWebConfig(options.web_config_file) if options.web_config_file else None
    run_loop(_run(options, live, read))
    return 0


async def _run(options: AgentOptions, live: LiveWebConfig | None, read: Callable[[], AgentOptions]) -> None:
    stop = stop_on_signals()
    if options.join is None:
        await serve_agent(options, live, stop, _started, read)
        return
    joining = Joining(options, own_identity(options).uuid)
    if not await joining.obtain(stop):
        return
    renewing = asyncio.create_task(joining.keep())
    try:
        await serve_agent(options, LiveWebConfig(joining.web_config), stop, _started, read)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def serve_agent(
    options: AgentOptions,
    live: LiveWebConfig | None,
    stop: asyncio.Event,
    started: Callable[[AgentOptions, tuple[Listen, ...]], None],
    read: Callable[[], AgentOptions],
) -> None:
    """Build the agent and serve it until `stop` is set.

    started: called with the options and the addresses once the agent listens. read: returns the options of the
    configuration as it is now; called on a thread after SIGHUP. Raises ConfigError if they are not valid.
    """
    reload = Reload("configuration")
    for text in missing_accelerators():
        _log.debug(text)
    agent = await _built(options, stop)
    if agent is None:
        return
    agent.collection.start()
    agent.collection.warm_up()
    own = agent.self_metrics
    summaries = LiveSummary(agent.collection, agent.registry, agent.containers, own.health)
    web = AgentWeb(
        agent.collection,
        agent.registry,
        summaries,
        options,
        live,
        own,
        own.http,
        apps=agent.apps,
        reloads=(reload,),
    )
    if source_of(options) == "cgroupfs":
        # A daemon thread: reading these files can block, which must delay neither answers nor the end of the process.
        threading.Thread(
            target=log_access, args=(options.rootfs, options.procfs, options.runtime_paths), daemon=True
        ).start()
    telling = asyncio.create_task(log_ownership(agent.registry))
    rereading = read_again_on_signal(lambda: _changed(options, read(), agent.registry), reload)
    try:
        await serve(
            web.server(),
            options.listen_addresses,
            stop=stop,
            stopping=web.stopping,
            grace_seconds=GRACE_SECONDS,
            started=lambda addresses: started(options, addresses),
        )
    finally:
        telling.cancel()
        rereading.cancel()
        await agent.collection.stop()


def _changed(running: AgentOptions, read: AgentOptions, registry: ContainerRows) -> Callable[[], None]:
    """Return what applies the options that can change in a running agent. Raises ConfigError."""
    try:
        owners = OwnerRules(read.owners)
    except RuleError as error:
        raise ConfigError(str(error)) from None
    names = (item.name for item in fields(read) if item.name != "owners")
    others = [name for name in names if getattr(read, name) != getattr(running, name)]

    def apply() -> None:
        registry.use_owners(owners)
        _log.info("configuration read again", extra={"fields": {"needs_a_restart": ",".join(others)}} if others else {})

    return apply


async def _built(options: AgentOptions, stop: asyncio.Event) -> Agent | None:
    """Return the agent, None if `stop` is set before it is built. Building reads files, which may hang."""
    building = asyncio.ensure_future(asyncio.to_thread(build_agent, options, serving=True))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((building, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    return await building if building.done() else None


def _started(_: AgentOptions, addresses: tuple[Listen, ...]) -> None:
    for address in addresses:
        _log.info("listening", extra={"fields": {"address": str(address)}})
