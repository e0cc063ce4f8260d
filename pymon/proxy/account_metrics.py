"""``/v1/account/metrics``: every container of an account in one exposition, or sums over them.

The agents are asked for one container after another, a few at a time on each node, through the same queue as scrapes
of single containers. One that cannot be had costs its own samples: ``pymon_container_scrape_success`` says so.
"""

from __future__ import annotations

import asyncio
import gzip as gzip_module
import logging
import math
from typing import TYPE_CHECKING, get_args
from urllib.parse import parse_qsl

from pymon.config import shown
from pymon.exposition.negotiation import Format
from pymon.proxy.aggregate import Adder, By, InvalidPartError, Merger, Part
from pymon.proxy.relay import Ask
from pymon.proxy.upstream import UpstreamError
from pymon.service.answer import Refusal, Reply
from pymon.services import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from pymon.proxy.authn import Principal
    from pymon.proxy.fleet import Fleet, Place
    from pymon.proxy.relay import Relay
    from pymon.proxy.turns import Turns

_log = logging.getLogger(__name__)

AT_A_TIME = 8
"""Containers of one node that are asked for together."""

MAX_BYTES = 64 << 20
"""Of all containers of an account before they are put together, which takes some six times as much."""

REPEAT_SECONDS = 60.0
"""What is missing from an account's exposition is one line in so long a time."""

_MARGIN_SECONDS = 0.25
_HEADERS = f"Content-Type: {Format.TEXT_0_0_4.content_type}\r\nVary: Accept-Encoding\r\n".encode()
_SUCCESS = (
    "# HELP pymon_container_scrape_success Whether the container's metrics could be had.\n"
    "# TYPE pymon_container_scrape_success gauge\n"
)


class _Fetched:
    """What the agents said. bodies: by UUID; None when a container's failed. problem: the first one, for the log."""

    __slots__ = ("bodies", "problem", "size")

    def __init__(self) -> None:
        self.bodies: dict[str, bytes | None] = {}
        self.problem = ""
        self.size = 0

    def fail(self, uuid: str, problem: str) -> None:
        self.bodies[uuid] = None
        self.problem = self.problem or problem


class AccountMetrics:
    """Answers for one account at a time. The text is 0.0.4, which every client takes.

    charge: told the account, and how many scrapes a request stands for beyond itself.
    """

    def __init__(self, fleet: Fleet, relay: Relay, turns: Turns, charge: Callable[[UUID, int], None]) -> None:
        self._fleet = fleet
        self._relay = relay
        self._turns = turns
        self._charge = charge
        self._said: dict[UUID, float] = {}

    async def answer(self, principal: Principal, query: str, deadline: float, *, gzip: bool) -> Reply:
        """The exposition, before `deadline` (the loop's time). Refusal 400 for a wrong query, 502 when nothing came."""
        by = _by(query)
        found = self._fleet.owned(principal.account) + (self._fleet.unowned() if principal.operator else [])
        places = sorted(found, key=lambda place: place.container.uuid)
        self._charge(principal.account, max(0, len(places) - 1))
        fetched = await self._fetch(principal.account, places, deadline - _MARGIN_SECONDS)
        if fetched.size > MAX_BYTES:
            raise Refusal(502, f"the containers' metrics have more than {MAX_BYTES} bytes")
        body = await self._turns.run(principal.account, deadline, lambda: _exposition(places, fetched, by, gzip=gzip))
        missing = sum(part is None for part in fetched.bodies.values())
        if missing:
            self._say(principal, f"{missing} of {len(places)} containers: {fetched.problem}")
            if missing == len(fetched.bodies):
                raise Refusal(502, "no container's metrics could be had")
        return Reply(200, _HEADERS + (b"Content-Encoding: gzip\r\n" if gzip else b""), body)

    async def _fetch(self, account: UUID, places: Iterable[Place], deadline: float) -> _Fetched:
        """The exposition of each container. One that has ended meanwhile is left out."""
        by_node: dict[str, list[Place]] = {}
        for place in places:
            by_node.setdefault(place.node.name, []).append(place)
        fetched = _Fetched()

        async def work(node: str, queue: list[Place]) -> None:
            while queue and fetched.size <= MAX_BYTES:
                uuid = queue.pop().container.uuid
                ask = Ask(account, node, f"/v1/{uuid}/metrics", Format.TEXT_0_0_4, False)
                try:
                    response = await self._relay.scrape(ask, deadline)
                except UpstreamError as error:
                    fetched.fail(uuid, f"container {uuid}: node {node}: {error}")
                    continue
                if response.status == 200:  # noqa: PLR2004
                    fetched.bodies[uuid] = response.body
                    fetched.size += len(response.body)
                elif response.status != 404:  # noqa: PLR2004
                    fetched.fail(uuid, f"container {uuid}: node {node}: its node answered {response.status}")

        async with asyncio.TaskGroup() as group:
            for node, queue in by_node.items():
                for _ in range(min(AT_A_TIME, len(queue))):
                    group.create_task(work(node, queue))
        return fetched

    def _say(self, principal: Principal, what: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said.get(principal.account, -math.inf) > REPEAT_SECONDS:
            self._said[principal.account] = now
            _log.warning("exposition of account %s lacks %s", principal.name, what)


def _by(query: str) -> By | None:
    values = [value for key, value in parse_qsl(query, keep_blank_values=True) if key == "by"]
    if not values:
        return None
    for by in get_args(By):
        if values == [by]:
            return by  # type: ignore[no-any-return]
    raise Refusal(400, f"by: expected one of {', '.join(get_args(By))}, got {shown(', '.join(values))}")


def _exposition(places: Iterable[Place], fetched: _Fetched, by: By | None, *, gzip: bool) -> bytes:
    """One body of all parts. A part that is not in order counts as failed."""
    whole = Merger() if by is None else Adder(by)
    bodies = fetched.bodies
    for place in places:
        container = place.container
        body = bodies.get(container.uuid)
        if body is None:
            continue
        services = parse(container.services).labels
        try:
            whole.add(Part(container.uuid, place.node.name, body, services, tuple(container.groups)))
        except InvalidPartError as error:
            fetched.fail(container.uuid, str(error))
    lines = (f'pymon_container_scrape_success{{uuid="{uuid}"}} {int(body is not None)}\n'
             for uuid, body in sorted(bodies.items()))  # fmt: skip
    exposition = whole.body() + (_SUCCESS + "".join(lines)).encode("ascii") if bodies else b""
    return gzip_module.compress(exposition, 1, mtime=0) if gzip else exposition
