"""Which agents this proxy reaches, from the outcomes of its requests.

After a failure that may mean that an agent cannot be reached, the agent is probed until it answers. So an agent that
was only slow is known to be reached at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pymon.proxy.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pymon.proxy.inventory_copy import UpstreamLike

PROBE_SECONDS = 2.5
"""The limit of a probe: more than a connection may take."""

PAUSE_SECONDS = (0.25, 5.0)
"""The first and the longest pause between two probes. The pause doubles."""

LOST = frozenset(("connect", "connect_timeout", "timeout"))
"""Outcomes after which an agent may be out of reach of this proxy alone."""

REFUSED = frozenset(("tls", "closed"))
"""Outcomes of an agent that is reached and does not answer this proxy, as after the revocation of its certificate. No
other proxy is asked then: it would undo the revocation."""

ALIVE = frozenset(("ok", "status", "malformed", "identity", "directory", "content_type", "busy"))


class Reach:
    """The reach of one proxy. Use one object for one event loop.

    find: returns the client of a node's agent, or raises KeyError. changed: called when an agent is lost.
    reached: names of the nodes whose agents answer. lost: names of those that may answer other proxies.
    """

    def __init__(self, find: Callable[[str], UpstreamLike]) -> None:
        self.reached: set[str] = set()
        self.lost: set[str] = set()
        self._find = find
        self.changed: Callable[[], None] = lambda: None
        self._probes: dict[str, asyncio.Task[None]] = {}

    def tell(self, name: str, outcome: str) -> None:
        """Record the outcome of a request: "ok", or the reason of its failure."""
        if outcome in ALIVE:
            self.reached.add(name)
            self.lost.discard(name)
        elif outcome in REFUSED:
            self.reached.discard(name)
            self.lost.discard(name)
        elif outcome in LOST and name not in self.lost:
            self.lost.add(name)
            self.reached.discard(name)
            if name not in self._probes:
                self._probes[name] = asyncio.get_running_loop().create_task(self._probe(name))
            self.changed()

    def keep_only(self, names: Collection[str]) -> None:
        """Forget all nodes but these."""
        self.reached.intersection_update(names)
        self.lost.intersection_update(names)

    async def stop(self) -> None:
        """Stop all probes."""
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    async def _probe(self, name: str) -> None:
        try:
            await self._probe_until_known(name)
        finally:
            del self._probes[name]  # at once, so that the next loss begins another probe

    async def _probe_until_known(self, name: str) -> None:
        pause, longest = PAUSE_SECONDS
        while name in self.lost:
            try:
                await self._find(name).get("/-/healthy", timeout_seconds=PROBE_SECONDS, background=True)
            except UpstreamError as error:
                outcome = error.reason
            except KeyError:
                return
            else:
                outcome = "ok"
            self.tell(name, outcome)
            if outcome not in LOST:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
