"""The containers of this node for commands that only list them, without the parts that collect and serve."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pymon.agent.source import source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymon.agent.options import AgentOptions
    from pymon.agent.rows import ContainerRows


@contextmanager
def registry_of(options: AgentOptions) -> Iterator[ContainerRows]:
    """Yield the registry of an agent with these options, and close it afterwards.

    Raises ConfigError when the options cannot be used on this machine.
    """
    if source_of(options) == "kstat":
        from pymon.agent.build import build_agent  # noqa: PLC0415

        agent = build_agent(options)
        try:
            yield agent.registry
        finally:
            agent.containers.close()
        return
    from pymon.agent.cgroup_registry import open_registry  # noqa: PLC0415

    opened = open_registry(options, (), serving=False)
    try:
        yield opened.registry
    finally:
        opened.source.close()
        opened.registry.close()
