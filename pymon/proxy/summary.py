"""``/v1/summary``: the containers of an account for people, from the summaries of their nodes.

A node tells of all of its containers. Those that the account may see are taken, by what the proxy knows of them and not
by what the node says. Rows of a node that are not as they should be are left out.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import msgspec

from pymon._native.documents import array_items
from pymon.exposition.compression import gzip as packed
from pymon.exposition.negotiation import Format
from pymon.proxy.authz import owners_visible_to
from pymon.proxy.relay import Ask
from pymon.proxy.room import Room
from pymon.proxy.upstream import UpstreamError
from pymon.service.answer import Refusal, Reply
from pymon.summary_document import COLUMNS, MAX_TEXT_CHARACTERS, NUMBER_COLUMNS, TEXT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pymon.proxy.authn import Principal
    from pymon.proxy.places import Place, Places
    from pymon.proxy.relay import Relay
    from pymon.proxy.turns import Turns

MAX_NODES = 256
"""Most nodes that one summary is made from. An account on more of them is for Prometheus."""

AT_A_TIME = 4
"""Nodes that are asked at the same time for one summary."""

MAX_ROWS = 100_000
ROOM_BYTES, ROOM_ACCOUNT_BYTES = 48 << 20, 16 << 20
"""Memory limits of the summaries that are being made or sent: of all, and of one account."""

NODE_SECONDS = 2.0
"""A node that does not answer within this time is told of as not answering."""

_MARGIN_SECONDS = 0.25
_HEAD_BYTES = 64 << 10
_TYPES = ("application/json",)
_ARRAY = re.compile(rb'"containers"[ \t\r\n]*:[ \t\r\n]*\[')
_JSON = b"Content-Type: application/json\r\nCache-Control: no-store\r\nVary: Accept-Encoding\r\n"


class _Machine(msgspec.Struct, gc=False):
    cpus: int | None
    memory_bytes: int
    load: tuple[float, float, float]


class _Node(msgspec.Struct, gc=False):
    uuid: str
    hostname: str
    time: float
    containers: list[object]
    machine: _Machine | None = None
    source: str = ""
    collectors: dict[str, bool] = {}


class _Document(msgspec.Struct, gc=False):
    columns: list[str]
    nodes: list[_Node]


_document = msgspec.json.Decoder(_Document)
_row = msgspec.json.Decoder(list[str | float | None])


class AccountSummary:
    """Answers ``/v1/summary``: a row for each container of the account, asked of the agents."""

    def __init__(self, places: Places, relay: Relay, turns: Turns, *, parts: int = 1) -> None:
        """parts: processes that have the memory limits in common; each has its part."""
        self._places = places
        self._relay = relay
        self._turns = turns
        self._most = min(ROOM_ACCOUNT_BYTES, ROOM_BYTES // parts)
        self._room = Room(ROOM_BYTES // parts, self._most)

    async def answer(self, principal: Principal, deadline: float, *, gzip: bool) -> Reply:
        """Return the summary of what a principal may see. deadline: in the loop's time.

        Raises Refusal 413 for too many nodes or too large a summary, and 503 without memory or time.
        """
        by_node: dict[str, dict[str, Place]] = {}
        owners = owners_visible_to(principal)
        for place in (*self._places.owned(*owners), *self._places.ended(*owners)):
            by_node.setdefault(place.node.name, {})[place.container.uuid] = place
        if len(by_node) > MAX_NODES:
            raise Refusal(
                413, f"the account's containers are on {len(by_node)} nodes: a summary has at most {MAX_NODES}"
            )
        hold = self._room.take_now(principal.account, 0)
        if hold is None:
            raise _no_room()
        slots = asyncio.Semaphore(AT_A_TIME)
        whole = 0

        async def one(name: str, mine: Mapping[str, Place]) -> bytes:
            nonlocal whole
            async with slots:
                text = await self._of_node(principal, name, mine, deadline)
            whole += len(text)
            if whole > self._most:
                raise Refusal(413, f"the summary has more than {self._most} bytes")
            if not hold.resize(whole):
                raise _no_room()
            return text

        tasks = [asyncio.ensure_future(one(name, mine)) for name, mine in by_node.items()]
        try:
            nodes = await asyncio.gather(*tasks)
            head = msgspec.json.encode({"account": principal.name, "columns": COLUMNS})
            body = b'%b,"nodes":[%b]}' % (head[:-1], b",".join(nodes))
            if gzip:
                body = await self._turns.run(principal.account, deadline, lambda: packed(body))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            hold.release()
            raise
        return Reply(200, _JSON + (b"Content-Encoding: gzip\r\n" if gzip else b""), body, release=hold.release)

    async def _of_node(self, principal: Principal, name: str, mine: Mapping[str, Place], deadline: float) -> bytes:
        """Return the entry of a node as JSON."""
        loop = asyncio.get_running_loop()
        view = next(iter(mine.values())).node
        ask = Ask(principal.account, name, "/v1/summary", Format.TEXT_0_0_4, types=_TYPES, direct=True)
        try:
            response = await self._relay.scrape(ask, min(loop.time() + NODE_SECONDS, deadline - _MARGIN_SECONDS))
            if response.status != 200:  # noqa: PLR2004
                return _without(view.uuid, view.hostname, "its agent has no summary: it is of an earlier version")
            steps = summarise(response.body, name, mine, operator=principal.operator)
            return await self._turns.run_steps(principal.account, deadline, steps, lambda: None)
        except UpstreamError as error:
            return _without(view.uuid, view.hostname, str(error))
        except (ValueError, RecursionError):
            return _without(view.uuid, view.hostname, "its summary cannot be read")


def summarise(body: bytes, name: str, mine: Mapping[str, Place], *, operator: bool) -> Generator[str, None, bytes]:
    """Return, in short steps, the entry of a node with the containers `mine` as JSON.

    Raises ValueError, and RecursionError for JSON that is nested too deeply.
    name: of the node, yielded at each step. operator: whether to tell of the machine and its collectors.
    """
    found = _ARRAY.search(body, 0, _HEAD_BYTES)
    if found is None:
        raise ValueError("no containers")
    offsets, end = array_items(body, found.end(), MAX_ROWS)
    if end < 0 or len(body) - end > _HEAD_BYTES:
        raise ValueError("no list of containers")
    yield name
    document = _document.decode(body[: found.end()] + body[end:])
    (node,) = document.nodes
    order = [document.columns.index(column) if column in document.columns else None for column in COLUMNS]
    rows: list[bytes] = []
    seen: set[str] = set()
    for start, stop in zip(offsets[::2], offsets[1::2], strict=True):
        yield name
        row = _taken(body[start:stop], order, len(document.columns), mine)
        if row is not None and row[0] not in seen:
            seen.add(str(row[0]))
            rows.append(msgspec.json.encode(row))
    entry: dict[str, object] = {"uuid": node.uuid, "hostname": node.hostname[:MAX_TEXT_CHARACTERS], "time": node.time}
    if operator:
        source = node.source[:MAX_TEXT_CHARACTERS]
        entry |= {"machine": node.machine, "source": source, "collectors": node.collectors}
    return b'%b,"containers":[%b]}' % (msgspec.json.encode(entry)[:-1], b",".join(rows))


def _taken(
    text: bytes, order: list[int | None], length: int, mine: Mapping[str, Place]
) -> list[str | float | None] | None:
    """Return the row of a container that is among `mine`, with items in the order of `COLUMNS`, else None."""
    try:
        row = _row.decode(text)
    except msgspec.DecodeError:
        return None
    if len(row) != length:
        return None
    items = [None if at is None else row[at] for at in order]
    place = mine.get(items[0]) if isinstance(items[0], str) else None
    if place is None:
        return None
    texts = [item[:MAX_TEXT_CHARACTERS] if isinstance(item, str) else "" for item in items[: len(TEXT_COLUMNS)]]
    texts[TEXT_COLUMNS.index("owner")] = place.container.owner or ""
    numbers = [None if isinstance(item, str) else item for item in items[-len(NUMBER_COLUMNS) :]]
    return [*texts, *numbers]


def _without(uuid: str, hostname: str, error: str) -> bytes:
    return msgspec.json.encode({"uuid": uuid, "hostname": hostname, "error": error, "containers": ()})


def _no_room() -> Refusal:
    return Refusal(503, "too many summaries are under way", b"Retry-After: 1\r\n")
