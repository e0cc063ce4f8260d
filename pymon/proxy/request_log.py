"""What is told of each request: its count and duration, its line in the access log, and why it was refused.

The reason of a refusal is for the operator: it is in the log with the id of the request, and the client gets the id.
"""

from __future__ import annotations

import logging
import random
import time
from functools import partial
from typing import TYPE_CHECKING

from pymon.peer import source_of
from pymon.proxy.access_log import Line
from pymon.service.answer import Reply
from pymon.token_bucket import BucketsByKey, TokenBucket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pymon.proxy.access_log import AccessLog
    from pymon.proxy.self_metrics import SelfMetrics

_log = logging.getLogger(__name__)

REFUSED = 400
"""Least status of a refusal."""

GIVEN_UP = 499
"""Status in metrics and the access log when the client is gone before its answer is there."""

LINES_PER_SECOND, LINES_BURST = 5.0, 50
"""Limits of log lines about the refusals of one account, or of one source address without an account."""

UNKNOWN_PER_SECOND, UNKNOWN_BURST = 100.0, 1000
"""Limits of log lines about all refusals without an account."""

MAX_WHY_CHARACTERS = 400

_KEYS = 4096


class Exchange:
    """A request until its answer. why: what is to be logged of a refusal instead of its text."""

    __slots__ = ("account", "begun", "head", "node", "remote", "request_id", "route", "why")

    def __init__(self, remote: str, *, head: bool = False) -> None:
        """remote: source address, "" for a Unix socket. head: whether the answer has no body."""
        self.begun = time.perf_counter()
        self.remote = remote
        self.head = head
        self.account = ""
        self.route = "other"
        self.node = ""
        self.why = ""
        self.request_id = ""


class RequestLog:
    """Tells of requests. access: the access log, None without one. unsaid: refusals that were not logged."""

    def __init__(self, metrics: SelfMetrics, access: AccessLog | None) -> None:
        self._metrics = metrics
        self._access = access
        self._accounts = BucketsByKey(LINES_PER_SECOND, LINES_BURST, _KEYS)
        self._sources = BucketsByKey(LINES_PER_SECOND, LINES_BURST, _KEYS)
        self._unknown = TokenBucket(UNKNOWN_PER_SECOND, UNKNOWN_BURST)
        self.unsaid = 0
        metrics.counters(
            "pymon_proxy_refusals_unsaid", "Refusals that were not logged, as there were too many.", (),
            lambda: {(): self.unsaid},
        )  # fmt: skip
        if access is not None:
            metrics.counters(
                "pymon_proxy_access_log_lost", "Lines missing in the access log, by reason.", ("reason",),
                lambda: {(reason,): count for reason, count in access.lost.items()},
            )  # fmt: skip

    def answered(self, exchange: Exchange, reply: Reply) -> Reply:
        """Tell of an answer. Return the reply to send: a refusal has the request's id in it."""
        reply = self._told(exchange, reply)
        if self._access is None:
            return reply
        count = _Count(0 if exchange.head else len(reply.data))
        stream = reply.stream
        if stream is not None:
            stream = count.counted(stream)
        return reply._replace(stream=stream, release=partial(self._released, exchange, reply, count))

    def refused(self, remote: str, reply: Reply) -> Reply:
        """Tell of the answer to a request that no handler sees, and return it as `answered` does."""
        exchange = Exchange(remote)
        exchange.route = "malformed"
        reply = self._told(exchange, reply)
        self._write(exchange, reply.status, len(reply.data))
        return reply

    def given_up(self, exchange: Exchange) -> None:
        """Tell of a request whose client did not wait for the answer."""
        self._metrics.answered(exchange.account, exchange.route, GIVEN_UP, time.perf_counter() - exchange.begun)
        self._write(exchange, GIVEN_UP, 0)

    def _told(self, exchange: Exchange, reply: Reply) -> Reply:
        self._metrics.answered(exchange.account, exchange.route, reply.status, time.perf_counter() - exchange.begun)
        if reply.status < REFUSED:
            return reply
        exchange.request_id = _new_id()
        self._say(exchange, reply)
        headers = b"%bX-Request-Id: %b\r\n" % (reply.headers, exchange.request_id.encode())
        return Reply(reply.status, headers, *reply[2:])

    def _say(self, exchange: Exchange, reply: Reply) -> None:
        if not _log.isEnabledFor(logging.INFO):
            return
        if self._too_many(exchange):
            self.unsaid += 1
            return
        text = exchange.why or bytes(reply.data[:MAX_WHY_CHARACTERS]).decode("utf-8", "replace").strip()
        fields = {
            "request": exchange.request_id,
            "account": exchange.account,
            "route": exchange.route,
            "code": reply.status,
            "node": exchange.node,
            "source": exchange.remote,
            "reason": text[:MAX_WHY_CHARACTERS],
        }
        _log.info("refused", extra={"fields": fields})

    def _too_many(self, exchange: Exchange) -> bool:
        now = time.monotonic()
        if exchange.account:
            return bool(self._accounts.take(exchange.account, now))
        return bool(self._sources.take(source_of(exchange.remote), now) or self._unknown.take(now))

    def _released(self, exchange: Exchange, reply: Reply, count: _Count) -> None:
        try:
            if reply.release is not None:
                reply.release()
        finally:
            self._write(exchange, reply.status, count.bytes)

    def _write(self, exchange: Exchange, status: int, size: int) -> None:
        if self._access is None:
            return
        request_id = exchange.request_id or _new_id()
        seconds = time.perf_counter() - exchange.begun
        self._access.put(
            Line(
                at=time.time(),
                request=request_id,
                account=exchange.account,
                route=exchange.route,
                code=status,
                seconds=seconds,
                bytes=size,
                node=exchange.node,
                source=exchange.remote,
            )
        )


def _new_id() -> str:
    """Return an id that finds a request in the logs. It is no secret."""
    return f"{random.getrandbits(64):016x}"


class _Count:
    """The bytes of an answer's body."""

    def __init__(self, size: int) -> None:
        self.bytes = size

    async def counted(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of a stream."""
        try:
            async for piece in stream:
                self.bytes += len(piece)
                yield piece
        finally:
            await stream.aclose()
