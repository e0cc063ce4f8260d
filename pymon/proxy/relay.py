"""Relays scrapes to agents, with a queue per agent, a deadline per scrape, and one response for identical scrapes.

A scrape that is identical to one in flight, by the same account, waits for that response. The first of them sends the
request. If its client disconnects or its deadline passes before the response, the next waiter with enough time left
sends the request again.

While an agent is out of reach, a scrape goes through another proxy that reaches it. That proxy asks the agent itself,
so a scrape never takes more than one such hop.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode

from pymon.proxy.app_gates import AppGates
from pymon.proxy.fair import Overloaded
from pymon.proxy.reach import LOST
from pymon.proxy.upstream import SMALL_BYTES, UpstreamError
from pymon.service.answer import Refusal, Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from pymon.exposition.negotiation import Coding, Format
    from pymon.proxy.fair import FairGate
    from pymon.proxy.room import Room
    from pymon.proxy.upstream import Upstream
    from pymon.service.http1 import Response

ANEW_SECONDS = 0.1
"""A waiter with less time than this left does not repeat a request that was given up."""

_DEADLINE = ("timeout", "queue")
"""Reasons that depend on the deadline of the scrape that sent the request. They do not apply to its waiters."""


EXPOSITIONS = ("text/plain", "application/openmetrics-text", "application/vnd.google.protobuf")

CODINGS: tuple[Coding, ...] = ("zstd", "gzip")
"""Content codings that are relayed, besides identity, in the order in which agents prefer them."""

_PLAIN: tuple[Coding, ...] = ("identity",)


DIRECT, PEER = "direct", "peer"
"""The routes of a scrape: to the agent, or through another proxy."""

_NARROW = frozenset(("collect[]", "exclude[]", "name[]"))
_NARROW_APP = frozenset(("port", "labels"))
_NARROW_MAX_CHARACTERS = 4096

_VARY = b"Vary: Accept, Accept-Encoding\r\n"
_CODING_LINES: dict[str, bytes] = {coding: f"Content-Encoding: {coding}\r\n".encode() for coding in CODINGS}


class Ask(NamedTuple):
    """A scrape. Equal values are identical scrapes.

    path: on the agent, with the query. codings: accepted ones, the best first. types: of the answer. direct: never
    through another proxy. app: it is for the application in a container, which may be slow or fail by itself.
    """

    account: UUID
    node: str
    path: str
    format: Format
    codings: tuple[Coding, ...] = _PLAIN
    types: tuple[str, ...] = EXPOSITIONS
    direct: bool = False
    app: bool = False

    def __hash__(self) -> int:
        """Return the hash of the path alone: those of a UUID and of a member of an Enum are made in Python."""
        return hash(self.path)


class Reached(Protocol):
    """Which agents are reached; the interface of `pymon.proxy.reach.Reach`.

    lost: names of the nodes whose agents may answer other proxies.
    """

    lost: set[str]

    def tell(self, name: str, outcome: str) -> None:
        """Record the outcome of a request: "ok", or the reason of its failure."""
        ...


class Others(Protocol):
    """The other proxies; the interface of `pymon.proxy.peer_clients.PeerClients`."""

    def that_reach(self, node: str) -> bool:
        """Return whether another proxy says that it reaches a node."""
        ...

    async def asked(self) -> None:
        """Wait, not long, until they have said what they reach since the last agent was lost."""
        ...

    async def scrape(self, ask: Ask, deadline: float) -> Response:
        """Return the agent's response through another proxy. Raises UpstreamError."""
        ...


class _Failure(NamedTuple):
    """The arguments of an UpstreamError. An exception refers to the frames that it has passed, and they to it."""

    status: int
    reason: str
    text: str


class _Flight:
    """A request in flight. waiters: futures of other scrapes; None when it is given up, or their time is over."""

    __slots__ = ("_timer", "_timer_at", "waiters")

    def __init__(self) -> None:
        self.waiters: list[tuple[float, asyncio.Future[Response | _Failure | None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def join(self, deadline: float) -> Response | _Failure | None:
        """Wait for the outcome. deadline: in the loop's time."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Response | _Failure | None] = loop.create_future()
        self.waiters.append((deadline, waiter))
        if deadline < self._timer_at:
            self._arm(deadline)
        return await waiter

    def end(self, outcome: Response | _Failure | None) -> None:
        """Hand the outcome to all that wait."""
        if self._timer is not None:
            self._timer.cancel()
        for _, waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(outcome)

    def _arm(self, at: float) -> None:
        """Set the one timer of all waiters, to the first of their deadlines."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer, self._timer_at = None, math.inf
        left = [(deadline, waiter) for deadline, waiter in self.waiters if not waiter.done()]
        self.waiters = [one for one in left if one[0] > now]
        for deadline, waiter in left:
            if deadline <= now:
                waiter.set_result(None)
        if self.waiters:
            self._arm(min(deadline for deadline, _ in self.waiters))


class Node:
    """An agent and its gates, which limit the requests at a time and share them fairly between accounts.

    apps: for requests of applications' metrics.
    """

    def __init__(self, upstream: Upstream, gate: FairGate) -> None:
        self.upstream = upstream
        self.gate = gate
        self.apps = AppGates()


class Relay:
    """Relays scrapes to the agents of nodes.

    find: returns the node of a name, or raises KeyError. observe: called with the seconds and the outcome of each
    request to an agent: "ok", "cancelled", or the reason of an UpstreamError. reach: which agents are reached. others:
    other proxies. Without these two, every scrape is direct.
    """

    def __init__(
        self,
        find: Callable[[str], Node],
        observe: Callable[[float, str], None],
        reach: Reached | None = None,
        others: Others | None = None,
    ) -> None:
        self._find = find
        self._observe = observe
        self._reach = reach
        self._others = others
        self.routes: Counter[str] = Counter({DIRECT: 0, PEER: 0})
        """Number of scrapes sent, by route."""
        self._flights: dict[Ask, _Flight] = {}
        self.shared = 0
        """Number of scrapes answered by the request of another scrape."""

    async def scrape(self, ask: Ask, deadline: float) -> Response:
        """Return the agent's response. deadline: in the loop's time. Raises UpstreamError."""
        while (flight := self._flights.get(ask)) is not None:
            shared = await flight.join(deadline)
            if isinstance(shared, _Failure):
                raise UpstreamError(*shared)
            if shared is not None:
                self.shared += 1
                return shared
            if deadline - asyncio.get_running_loop().time() < ANEW_SECONDS:
                raise UpstreamError(504, "timeout", "no answer in time")
        flight = self._flights[ask] = _Flight()
        outcome: Response | _Failure | None = None
        try:
            outcome = response = await self._request(ask, deadline)
        except UpstreamError as error:
            if error.reason not in _DEADLINE:
                outcome = _Failure(error.status, error.reason, str(error))
            raise
        finally:
            del self._flights[ask]
            flight.end(outcome)
        return response

    async def _request(self, ask: Ask, deadline: float) -> Response:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        try:
            node = self._find(ask.node)
        except KeyError:
            raise UpstreamError(502, "unknown_node", "its node is not known any more") from None
        outcome = "cancelled"
        gate = node.apps if ask.app else node.gate
        try:
            try:
                if not gate.enter(ask.account):
                    await gate.acquire(ask.account, deadline)
            except Overloaded:
                raise UpstreamError(503, "overloaded", "too many scrapes wait for its node") from None
            except TimeoutError:
                raise UpstreamError(504, "queue", "its node had no time") from None
            try:
                response = await self._routed(node, ask, deadline)
            finally:
                gate.release(ask.account)
            outcome = "ok"
        except UpstreamError as error:
            outcome = error.reason
            raise
        finally:
            if not ask.app:
                self._observe(loop.time() - begin, outcome)
        return response

    async def _routed(self, node: Node, ask: Ask, deadline: float) -> Response:
        """Ask the agent, or another proxy while the agent is out of reach."""
        reach, others = self._reach, self._others
        if reach is None or others is None or ask.direct:
            return await self._direct(node, ask, deadline)
        if ask.node in reach.lost and not others.that_reach(ask.node):
            await others.asked()
        if ask.node not in reach.lost or not others.that_reach(ask.node):
            try:
                return await self._direct(node, ask, deadline)
            except UpstreamError as error:
                left = deadline - asyncio.get_running_loop().time()
                if error.reason not in LOST or left < ANEW_SECONDS or not others.that_reach(ask.node):
                    raise
        self.routes[PEER] += 1
        response = await others.scrape(ask, deadline)
        check(response, codings=ask.codings, types=ask.types, app=ask.app)
        return response

    async def _direct(self, node: Node, ask: Ask, deadline: float) -> Response:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise UpstreamError(504, "queue", "its node had no time")
        self.routes[DIRECT] += 1
        outcome = ""
        try:
            response = await node.upstream.get(ask.path, headers=headers_of(ask, left), timeout_seconds=left)
            check(response, codings=ask.codings, types=ask.types, app=ask.app)
            outcome = "ok"
        except UpstreamError as error:
            outcome = error.reason
            raise
        finally:
            # An application that is slow says nothing about its node.
            if self._reach is not None and not (ask.app and outcome == "timeout"):
                self._reach.tell(ask.node, outcome)
        return response


def headers_of(ask: Ask, left_seconds: float) -> tuple[tuple[str, str], ...]:
    """Return the headers of a scrape with this much time left."""
    return (
        *_accepted(ask.format, ask.codings),
        ("X-Prometheus-Scrape-Timeout-Seconds", f"{left_seconds:.3f}"),
    )


@lru_cache(64)
def _accepted(form: Format, codings: tuple[Coding, ...]) -> tuple[tuple[str, str], ...]:
    """Return the headers that ask for a format, and for codings in this order with identity last or not at all."""
    asked = [coding for coding in codings if coding != "identity"]
    ranked = [coding if not at else f"{coding};q={1 - at / 10:.1f}" for at, coding in enumerate(asked)]
    refused = [] if "identity" in codings else ["identity;q=0"]
    return ("Accept", form.content_type), ("Accept-Encoding", ", ".join(ranked + refused) or "identity")


def narrowed(query: str, *, app: bool = False) -> str:
    """Return the part of a scrape's query that is sent to the agent, with its question mark, or "".

    app: of a request for an application's metrics. Raises Refusal 414 for a query that is too long.
    """
    if len(query) > _NARROW_MAX_CHARACTERS:
        raise Refusal(414, f"query too long: expected at most {_NARROW_MAX_CHARACTERS} characters")
    known = _NARROW_APP if app else _NARROW
    pairs = [(key, value) for key, value in parse_qsl(query, keep_blank_values=True) if key in known]
    return "?" + urlencode(sorted(pairs)) if pairs else ""


def relayed(response: Response, account: UUID, leaving: Room) -> Reply:
    """Return the reply that relays a response. leaving: holds its bytes until the client has them. Raises Refusal."""
    if response.status != 200:  # noqa: PLR2004
        # Relay the agent's text about the query, the codings, or the application. 404: the container ended since the
        # last inventory.
        text = "not found" if response.status == 404 else response.body[:500].decode("utf-8", "replace")  # noqa: PLR2004
        retry = b"Retry-After: 1\r\n" if response.status == 503 else b""  # noqa: PLR2004
        raise Refusal(response.status, text, retry, why=f"its node answered {response.status}: {text}")
    done = None
    if len(response.body) > SMALL_BYTES:
        hold = leaving.take_now(account, len(response.body))
        if hold is None:
            raise Refusal(503, "too many large answers are under way", b"Retry-After: 1\r\n")
        done = hold.release
    kind = response.headers["content-type"].encode("latin-1")
    coding = _CODING_LINES.get(response.headers.get("content-encoding", ""), b"")
    return Reply(200, b"Content-Type: " + kind + b"\r\n" + _VARY + coding, response.body, release=done)


_RELAYED = frozenset((400, 404))
_RELAYED_OF_APPS = frozenset((400, 403, 404, 502, 503, 504))
"""Statuses that are relayed besides 200. An agent says with those of the second why an application has no answer."""


def check(
    response: Response, *, codings: tuple[Coding, ...], types: tuple[str, ...] = EXPOSITIONS, app: bool = False
) -> None:
    """Raise UpstreamError unless a response may be relayed.

    It may be relayed with one of the statuses above, with 406 where identity was not accepted, as an agent may have
    fewer codings than `CODINGS`, or with 200 and one of these types in an accepted content coding. app: as in `Ask`.
    """
    status = response.status
    relayed_statuses = _RELAYED_OF_APPS if app else _RELAYED
    if status in relayed_statuses or (status == 406 and "identity" not in codings):  # noqa: PLR2004
        return
    if status == 503:  # noqa: PLR2004
        raise UpstreamError(503, "busy", "its node is busy")
    if status != 200:  # noqa: PLR2004
        raise UpstreamError(502, "status", f"its node answered {status}")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in types:
        expected = "exposition" if types is EXPOSITIONS else types[0]
        raise UpstreamError(502, "content_type", f"its node answered with no {expected}")
    if response.headers.get("content-encoding", "identity") not in codings:
        raise UpstreamError(502, "content_encoding", "its node answered in a coding that was not asked for")
