"""A scrape on its way to an agent: its place in the queue, its deadline, and an answer shared by those who ask alike.

Scrapes of the same thing by the same account that come while one is under way wait for its answer. The first of them
makes the request; when its client goes away before the answer, or its deadline passes, the next one that still has
time makes it anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from pymon.proxy.fair import FairGate, Overloaded
from pymon.proxy.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from pymon.exposition.negotiation import Format
    from pymon.proxy.upstream import Response, Upstream

ANEW_SECONDS = 0.1
"""Who has less time left when the request of another is given up does not make it anew."""

_DEADLINE = ("timeout", "queue")
"""Reasons that speak of the deadline of who made the request, which is not that of all who wait."""

_TYPES = ("text/plain", "application/openmetrics-text")


class Ask(NamedTuple):
    """What makes two scrapes the same. path: that of the agent, with its query."""

    account: UUID
    node: str
    path: str
    format: Format
    gzip: bool


class _Flight:
    """A request under way, and who waits for its answer besides the one who makes it."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: list[asyncio.Future[Response | None]] = []


class Node:
    """Requests to one agent: at most `slots` at a time, and accounts take turns when there are more."""

    def __init__(self, upstream: Upstream, slots: int) -> None:
        self.upstream = upstream
        self.gate = FairGate(slots)


class Relay:
    """Scrapes through the nodes of `find`, which is given a node's name and raises KeyError.

    observe: told seconds and outcome ("ok" or the reason of an UpstreamError) of each request to an agent.
    """

    def __init__(self, find: Callable[[str], Node], observe: Callable[[float, str], None]) -> None:
        self._find = find
        self._observe = observe
        self._flights: dict[Ask, _Flight] = {}
        self.shared = 0
        """Scrapes that were answered by the request of another."""

    async def scrape(self, ask: Ask, deadline: float) -> Response:
        """The agent's answer, before `deadline` (the loop's time). Raises UpstreamError."""
        while (flight := self._flights.get(ask)) is not None:
            response = await self._join(flight, deadline)
            if response is not None:
                self.shared += 1
                return response
            if deadline - asyncio.get_running_loop().time() < ANEW_SECONDS:
                raise UpstreamError(504, "timeout", "no answer in time")
        flight = self._flights[ask] = _Flight()
        response = failure = None
        try:
            response = await self._request(ask, deadline)
        except UpstreamError as error:
            failure = None if error.reason in _DEADLINE else error
            raise
        finally:
            del self._flights[ask]
            for waiter in flight.waiters:
                if waiter.done():
                    continue
                if failure is None:
                    waiter.set_result(response)
                else:
                    waiter.set_exception(UpstreamError(failure.status, failure.reason, str(failure)))
        return response

    @staticmethod
    async def _join(flight: _Flight, deadline: float) -> Response | None:
        """The answer of a request under way; None when it was given up."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Response | None] = loop.create_future()
        flight.waiters.append(waiter)
        timer = loop.call_at(deadline, _expire, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()

    async def _request(self, ask: Ask, deadline: float) -> Response:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        try:
            node = self._find(ask.node)
        except KeyError:
            raise UpstreamError(502, "unknown_node", "its node is not known any more") from None
        outcome = "cancelled"
        try:
            try:
                await node.gate.acquire(ask.account, deadline)
            except Overloaded:
                raise UpstreamError(503, "overloaded", "too many scrapes wait for its node") from None
            except TimeoutError:
                raise UpstreamError(504, "queue", "its node had no time") from None
            try:
                left = deadline - loop.time()
                if left <= 0:
                    raise UpstreamError(504, "queue", "its node had no time")
                response = await node.upstream.get(
                    ask.path,
                    headers=(
                        ("Accept", ask.format.content_type),
                        ("Accept-Encoding", "gzip" if ask.gzip else "identity"),
                        ("X-Prometheus-Scrape-Timeout-Seconds", f"{left:.3f}"),
                    ),
                    timeout_seconds=left,
                )
            finally:
                node.gate.release(ask.account)
            check(response, gzip=ask.gzip)
            outcome = "ok"
        except UpstreamError as error:
            outcome = error.reason
            raise
        finally:
            self._observe(loop.time() - begin, outcome)
        return response


def check(response: Response, *, gzip: bool) -> None:
    """Raise UpstreamError unless it may be relayed: 400, 404, or 200 with an exposition in a coding asked for."""
    status = response.status
    if status in {400, 404}:
        return
    if status == 503:  # noqa: PLR2004
        raise UpstreamError(503, "busy", "its node is busy")
    if status != 200:  # noqa: PLR2004
        raise UpstreamError(502, "status", f"its node answered {status}")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _TYPES:
        raise UpstreamError(502, "content_type", "its node answered with no exposition")
    coding = response.headers.get("content-encoding", "identity")
    if coding != "identity" and not (gzip and coding == "gzip"):
        raise UpstreamError(502, "content_encoding", "its node answered in a coding that was not asked for")


def _expire(waiter: asyncio.Future[Response | None]) -> None:
    if not waiter.done():
        waiter.set_exception(UpstreamError(504, "timeout", "no answer in time"))
