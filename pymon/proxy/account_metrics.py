"""``/v1/account/metrics``: all containers of an account in one exposition, or sums over them. Those that have ended are
among them as long as their agents tell of them.

Each container is scraped from its agent, a few at a time on each node, through the same queue as scrapes of single
containers. A failed scrape loses only its own samples; ``pymon_container_scrape_success`` reports it.

The samples of a family stand together in an exposition, so the first byte is sent when all containers were read. Until
then they are kept compressed. A longer answer is written in pieces as the client takes them. What exceeds a limit
then ends the connection before the end of the answer, because Prometheus must not take a part of it for the whole.

The memory of an answer is reserved in a `Room` shared by all answers until the client has received it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeVar, get_args
from urllib.parse import parse_qsl, urlencode

from pymon.config import shown
from pymon.exposition.negotiation import TEXTS, Format
from pymon.proxy.account_work import PLAIN_BYTES, Parts, TooLargeError, Work
from pymon.proxy.aggregate import By
from pymon.proxy.authz import owners_visible_to
from pymon.proxy.discovery import QueryError, parse_query, shard_of
from pymon.proxy.fair import Overloaded
from pymon.proxy.relay import Ask
from pymon.proxy.room import Room
from pymon.proxy.upstream import UpstreamError
from pymon.service.answer import HangUp, Refusal, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable
    from uuid import UUID

    from pymon.proxy.authn import Principal
    from pymon.proxy.places import Place, Places
    from pymon.proxy.relay import Relay
    from pymon.proxy.room import Hold
    from pymon.proxy.turns import Turns

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

Cut = Literal["too_large", "memory", "time"]
"""Why an answer ended before its end. too_large: it exceeds a limit. memory: other answers have it. time: its time was
over, or the worker thread had none for it."""

AT_A_TIME, MAX_AT_A_TIME = 8, 256
"""Containers of one node, and of all nodes, that are scraped at the same time for one answer; one of each node in any
case."""

ROOM_BYTES = 96 << 20
"""Memory limit of all answers together."""

MAX_HELD_BYTES = 32 << 20
"""Memory limit of the answers of one account, and so of one answer."""

FIRST_GUESS_BYTES, PACKED_GUESS_BYTES = 4096, 1024
"""Initial reservation per container when the size of the account's last answer is unknown: as it is, and compressed."""

MAX_CONTAINERS = 25_000
"""Limit of the containers of one answer. They take some six seconds, of the ten that Prometheus waits by default."""

PATIENCE_SECONDS = 2.0
"""When some containers were read and no other answers for this time, the rest of them have failed."""

REPEAT_SECONDS = 60.0
"""Minimum time between two log lines about missing containers of one account."""

_SHARDS = ("shard", "shards")
_MAX_REMEMBERED = 10_000
_AT_ONCE = 500
"""Up to this many containers are sorted on the event loop; more are sorted in the worker thread."""

_MAX_FIELDS = 32
_MARGIN_SECONDS = 0.25
_HEADERS = {form: f"Content-Type: {form.content_type}\r\nVary: Accept, Accept-Encoding\r\n".encode() for form in TEXTS}
_RETRY = b"Retry-After: 1\r\n"


class _Held:
    """The memory reservation of one answer, of up to `limit` bytes.

    most: the largest use so far, in bytes. refused: whether `are` raised.
    """

    __slots__ = ("_hold", "_limit", "most", "refused")

    def __init__(self, hold: Hold, limit: int) -> None:
        self._hold = hold
        self._limit = limit
        self.most = 0
        self.refused = False

    def are(self, size: int) -> None:
        """Record a use of `size` bytes and grow the reservation if needed. Raises Refusal 503 when that fails."""
        self.most = min(max(self.most, size), self._limit)
        if size > self._hold.size and not self._hold.resize(size):
            self.refused = True
            raise Refusal(503, "too many answers of this size are under way", _RETRY)


class AccountMetrics:
    """Answers ``/v1/account/metrics``. Agents are asked for text 0.0.4, from which every format is made.

    parts: processes that have the memory limit in common; each has its part.
    """

    def __init__(self, fleet: Places, relay: Relay, turns: Turns, *, parts: int = 1) -> None:
        self._fleet = fleet
        self._relay = relay
        self._turns = turns
        self._said: dict[UUID, float] = {}
        self._guesses: dict[tuple[UUID, By | None, int], int] = {}
        self._most = min(MAX_HELD_BYTES, ROOM_BYTES // parts)
        self.room = Room(ROOM_BYTES // parts, self._most)
        self.cut: Counter[Cut] = Counter()
        """Answers that ended before their end, by reason."""

    async def answer(
        self,
        principal: Principal,
        query: str,
        deadline: float,
        charge: Callable[[int, int], None],
        *,
        gzip: bool,
        form: Format = Format.TEXT_0_0_4,
    ) -> Reply:
        """Return the reply to a request.

        deadline: in the loop's time. charge: called with the number of containers to read and the number that the
        account sees; raises Refusal when a limit is exceeded. Raises Refusal 400 for a bad query, 413 for a too large
        answer or too many containers, 502 when every container failed, and 503 without memory or time.
        """
        by, shard, shards = _parsed(query)
        owners = owners_visible_to(principal)
        running = sum(map(self._fleet.count, owners))
        whole = running + sum(map(self._fleet.count_ended, owners))
        if math.ceil(whole / shards) > MAX_CONTAINERS:
            whole = running  # rather without those that have ended than not at all
        count = math.ceil(whole / shards)
        if count > MAX_CONTAINERS:
            need = math.ceil(1.1 * whole / MAX_CONTAINERS)  # shards are not equal
            text = f"{count} containers are more than {MAX_CONTAINERS}: ask for parts with shard=I&shards={need}"
            raise Refusal(413, text)
        charge(count, whole)  # before the list of them: a refusal has to be cheap
        found = self._fleet.owned(*owners) + (self._fleet.ended(*owners) if whole > running else [])

        def split() -> list[Place]:
            mine = found
            if shards > 1:
                mine = [place for place in found if shard_of(place.container.uuid, shards) == shard]
            return sorted(mine, key=lambda place: place.container.uuid)

        if len(found) <= _AT_ONCE:
            places = split()
        else:
            places = await self._turns.run(principal.account, deadline, split)
        guess = min(FIRST_GUESS_BYTES * len(places), PLAIN_BYTES + PACKED_GUESS_BYTES * len(places))
        guess = self._guesses.get((principal.account, by, shards), guess)
        try:
            hold = await self.room.take(principal.account, min(guess, self._most), deadline - _MARGIN_SECONDS)
        except (Overloaded, TimeoutError):
            raise Refusal(503, "too many answers of this size are under way", _RETRY) from None
        held = _Held(hold, self._most)
        try:
            work = await self._combined(principal, places, by, held, deadline, gzip=gzip, form=form)
            first, whole_answer = await self._run(principal, work, work.writing(), held, deadline)
        except TooLargeError as error:
            hold.release()
            raise Refusal(413, f"{error}: ask for parts of it with shard=I&shards=N") from None
        except BaseException:
            hold.release()
            raise
        if len(self._guesses) >= _MAX_REMEMBERED:
            self._guesses.clear()
        self._guesses[principal.account, by, shards] = held.most
        headers = _HEADERS[form] + (b"Content-Encoding: gzip\r\n" if gzip else b"")
        if whole_answer:
            hold.resize(len(first))
            return Reply(200, headers, first, release=hold.release)
        stream = self._pieces(principal, work, held, deadline, first)
        return Reply(200, headers, b"", release=hold.release, stream=stream)

    async def _pieces(
        self, principal: Principal, work: Work, held: _Held, deadline: float, first: bytes
    ) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of an answer. Raises HangUp when a limit is exceeded."""
        yield first
        last = False
        while not last:
            reason: Cut = "too_large"
            try:
                piece, last = await self._run(principal, work, work.writing(), held, deadline)
            except TooLargeError as error:
                problem = str(error)
            except Refusal as refusal:
                reason = "memory" if held.refused else "time"
                problem = str(refusal)
            else:
                yield piece
                continue
            self.cut[reason] += 1
            self._say(principal, f"its end: {problem}")
            raise HangUp

    async def _run(
        self,
        principal: Principal,
        work: Work,
        steps: Generator[str, None, _Result],
        held: _Held,
        deadline: float,
    ) -> _Result:
        """Run steps of `work` and return their result. Raises TooLargeError and Refusal 503; both free the work."""
        try:
            return await self._turns.run_steps(principal.account, deadline, steps, lambda: held.are(work.held_bytes))
        except Exception:
            work.clear()
            raise

    async def _combined(
        self,
        principal: Principal,
        places: list[Place],
        by: By | None,
        held: _Held,
        deadline: float,
        *,
        gzip: bool,
        form: Format,
    ) -> Work:
        """Fetch and combine the containers' expositions. Return the work whose answer is still to be written."""
        loop = asyncio.get_running_loop()
        parts = await self._fetch(principal.account, places, deadline - _MARGIN_SECONDS, held)
        self._usable(principal, places, parts)
        work = Work(
            places,
            parts,
            by,
            gzip=gzip,
            form=form,
            until=deadline,
            clock=loop.time,
            most=self._most,
        )
        await self._run(principal, work, work.combining(), held, deadline)
        self._usable(principal, places, parts)
        missing = sum(part is None for part in parts.bodies.values())
        if missing:
            self._say(principal, f"{missing} of {len(places)} containers: {parts.problem}")
        return work

    def _usable(self, principal: Principal, places: list[Place], parts: Parts) -> None:
        """Raise TooLargeError or Refusal 502 when there are containers but all of them failed."""
        if not parts.bodies or any(body is not None for body in parts.bodies.values()):
            return
        self._say(principal, f"{len(parts.bodies)} of {len(places)} containers: {parts.problem}")
        if parts.too_large == len(parts.bodies):
            raise TooLargeError(parts.problem)
        raise Refusal(502, "no container's metrics could be read")

    async def _fetch(self, account: UUID, places: Iterable[Place], deadline: float, held: _Held) -> Parts:
        """Fetch the exposition of each container. A container that has ended (404) is left out."""
        by_node: dict[str, list[str]] = {}
        for place in places:
            by_node.setdefault(place.node.name, []).append(place.container.uuid)
        unread = {uuid: node for node, queue in by_node.items() for uuid in queue}
        parts = Parts()
        loop = asyncio.get_running_loop()
        heard_at = math.inf  # when a container was read last

        async def work(node: str, queue: list[str]) -> None:
            nonlocal heard_at
            while queue:
                uuid = queue.pop()
                ask = Ask(account, node, f"/v1/{uuid}/metrics", Format.TEXT_0_0_4)
                try:
                    response = await self._relay.scrape(ask, deadline)
                except UpstreamError as error:
                    fail = parts.refuse if error.reason == "too_large_together" else parts.fail
                    fail(uuid, f"container {uuid}: node {node}: {error}")
                    del unread[uuid]
                    continue
                heard_at = loop.time()
                del unread[uuid]
                if response.status == 200:  # noqa: PLR2004
                    parts.put(uuid, node, response.body)
                    if not parts.give_way(self._most):
                        raise TooLargeError(f"the containers' metrics have more than {self._most} bytes")
                    held.are(parts.size)
                elif response.status != 404:  # noqa: PLR2004
                    parts.fail(uuid, f"container {uuid}: node {node}: its node answered {response.status}")

        at_a_time = max(1, min(AT_A_TIME, MAX_AT_A_TIME // max(1, len(by_node))))
        workers = {
            asyncio.ensure_future(work(node, queue))
            for node, queue in by_node.items()
            for _ in range(min(at_a_time, len(queue)))
        }
        waiting = workers
        try:
            while waiting:
                left = heard_at + PATIENCE_SECONDS - loop.time()
                if left <= 0:
                    break
                left = min(left, PATIENCE_SECONDS)
                done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for worker in done:
                    worker.result()
        except Exception:
            parts.clear()
            raise
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        for uuid, node in unread.items():
            parts.fail(uuid, f"container {uuid}: node {node}: no answer within {PATIENCE_SECONDS:g} s")
        return parts

    def _say(self, principal: Principal, what: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said.get(principal.account, -math.inf) > REPEAT_SECONDS:
            self._said[principal.account] = now
            _log.warning("exposition of account %s lacks %s", principal.name, what)


def _parsed(query: str) -> tuple[By | None, int, int]:
    """Parse the query into `by`, shard and number of shards. Raises Refusal 400."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        part = parse_query(urlencode([pair for pair in pairs if pair[0] in _SHARDS]), _SHARDS)
    except QueryError as error:
        raise Refusal(400, str(error)) from None
    except ValueError:
        raise Refusal(400, f"query: expected at most {_MAX_FIELDS} parameters") from None
    return _by([value for key, value in pairs if key == "by"]), part.shard, part.shards


def _by(values: list[str]) -> By | None:
    if not values:
        return None
    for by in get_args(By):
        if values == [by]:
            return by  # type: ignore[no-any-return]
    raise Refusal(400, f"by: expected one of {', '.join(get_args(By))}, got {shown(', '.join(values))}")
