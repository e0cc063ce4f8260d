"""DNS over TCP (RFC 7766).

The queries of a connection are answered in order. A connection takes a few KiB of memory: its unanswered input fits a
small buffer, and nothing more is read while the client does not read its answers. If there are too many connections,
the one that has been idle longest is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import cast

import dns.rcode

from pymon._native.responder import HandOver
from pymon.dns.authority import Answer, Authority, Transfer
from pymon.dns.message import refusal
from pymon.peer import source_of
from pymon.token_bucket import BucketsByKey, TokenBucket

_log = logging.getLogger(__name__)

QUERY_MAX_BYTES = 4096
"""A longer message is answered with FORMERR. Real queries are much shorter."""

_LENGTH_BYTES = 2
_BUFFER_BYTES = 2 * (_LENGTH_BYTES + QUERY_MAX_BYTES)
_UNSENT_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)
_SOURCES = 4096
"""The number of source addresses for which a rate is kept."""

_PAUSE_SECONDS = 0.02
"""The least time that a connection over its rate waits. It keeps the cost of 64 waiting connections of a source low."""

_TURN = 16
"""The most messages of one connection that are answered in one iteration of the event loop."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the TCP server.

    connections: in total. connections_of_source: of one source address (IPv6: /64). transfers: at the same time.
    idle_seconds: without a query. message_seconds: from the first octet of a message to its last, and from the start of
    a connection to its first message. stall_seconds: while the client does not read its answers. transfer_seconds: for
    a whole transfer, which holds memory until its end. rate: of messages that are not ordinary queries, per second, of
    all connections. rate_of_source: the same for one source.
    """

    connections: int = 512
    connections_of_source: int = 64
    transfers: int = 8
    idle_seconds: float = 30.0
    message_seconds: float = 10.0
    stall_seconds: float = 10.0
    transfer_seconds: float = 600.0
    rate: float = 500.0
    rate_of_source: float = 100.0


class Connections:
    """All connections, their limits and their counts.

    closed: connections that the server ended, by reason. transfers: finished transfers, by outcome. sent_bytes: of
    transfers. responses: answers by RCODE.
    """

    def __init__(self, authority: Authority, limits: Limits) -> None:
        self.authority = authority
        self.limits = limits
        self._slow = TokenBucket(limits.rate, limits.rate / 4)
        self._slow_of_source = BucketsByKey(limits.rate_of_source, limits.rate_of_source / 4, _SOURCES)
        self.transferring = asyncio.Semaphore(limits.transfers)
        self.open: OrderedDict[Connection, None] = OrderedDict()  # the one that has been idle longest is first
        self.tasks: set[asyncio.Task[None]] = set()
        self._of_source: Counter[str] = Counter()
        self.accepted = 0
        self.queries = 0
        self.sent_bytes = 0
        self.closed: Counter[str] = Counter()
        self.transfers: Counter[str] = Counter()
        self.responses: Counter[int] = Counter()

    def __call__(self) -> Connection:
        """Return the protocol of a new connection: the factory for `create_server`."""
        return Connection(self)

    def enter(self, connection: Connection) -> None:
        """Add a connection. If a limit is exceeded, another connection is aborted."""
        self.accepted += 1
        self.open[connection] = None
        self._of_source[connection.source] += 1
        if self._of_source[connection.source] > self.limits.connections_of_source:
            self._displace("source_crowded", connection.source)
        elif len(self.open) > self.limits.connections:
            self._displace("crowded", None)

    def asked(self, connection: Connection) -> None:
        """Mark a connection as the most recently used, after a message on it."""
        if connection in self.open:
            self.open.move_to_end(connection)

    def slow(self, source: str, now: float) -> float:
        """Admit a message that is not an ordinary query.

        Returns 0.0 if it is admitted, else the seconds to wait before the next call. now: of the loop's clock.
        """
        wait = self._slow_of_source.wait(source, now) or self._slow.wait(now)
        if wait:
            return max(wait, _PAUSE_SECONDS)
        self._slow_of_source.take(source, now)
        self._slow.take(now)
        return 0.0

    def leave(self, connection: Connection) -> None:
        """Remove a connection that has ended. Does nothing if it is not there."""
        if connection not in self.open:
            return
        del self.open[connection]
        self._of_source[connection.source] -= 1
        if not self._of_source[connection.source]:
            del self._of_source[connection.source]

    def _displace(self, reason: str, source: str | None) -> None:
        found = [item for item in self.open if source in {None, item.source}]
        idle = next((item for item in found if item.transfer is None), found[-1])
        idle.abort(reason)

    async def close(self) -> None:
        """Abort all connections and wait for their transfers to end."""
        for connection in tuple(self.open):
            connection.abort("shutdown")
        if self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)


class Connection(asyncio.BufferedProtocol):
    """One TCP connection.

    peer: IP address of the client. source: the key for limits of one source. transfer: the task of the current
    transfer, None without one.
    """

    _transport: asyncio.Transport

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._authority = pool.authority
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_BUFFER_BYTES)
        self._filled = 0
        self._skip = 0  # remaining octets of a message that is too long, to be ignored
        self._deadline = math.inf
        self._reason = "idle"
        self._timer: asyncio.TimerHandle | None = None
        self._continuation: asyncio.Handle | None = None
        self._paused: asyncio.Future[None] | None = None  # set while writing is paused, done when it resumes
        self._reading = True
        self._ended = False
        self._eof = False
        self._partial = False
        self.peer = ""
        self.source = ""
        self.transfer: asyncio.Task[None] | None = None

    # Methods of asyncio.BufferedProtocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit of the first message and register the connection."""
        transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if not peer:  # the client has already disconnected
            transport.abort()
            return
        self.peer = peer[0]
        self.source = source_of(self.peer)
        transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._expect("idle", self._pool.limits.message_seconds)
        self._pool.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """Remove the connection, and cancel its timers and its transfer."""
        self._ended = True
        self._pool.leave(self)
        for handle in (self._timer, self._continuation):
            if handle is not None:
                handle.cancel()
        if self.transfer is not None:
            self.transfer.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's
        """Return the free part of the buffer. It is never empty, as reading pauses while it holds a whole message."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Handle `nbytes` octets that were read into the buffer."""
        self._filled += nbytes
        if self._skip:
            part = min(self._skip, self._filled)
            self._skip -= part
            self._consume(part)
        self._answer_buffered()

    def eof_received(self) -> bool:
        """Handle the end of input. Returns True to keep the connection open for answers that are still due."""
        self._eof = True
        self._answer_buffered()
        return True

    def pause_writing(self) -> None:
        """Start the stall time limit: the client does not read its answers."""
        self._paused = self._loop.create_future()
        self._expect("stalled", self._pool.limits.stall_seconds)

    def resume_writing(self) -> None:
        """Continue with queries or with the transfer: the client reads its answers again."""
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        self._paused = None
        if self.transfer is not None:
            self._expect_nothing()
        else:
            self._expect("idle", self._pool.limits.idle_seconds)
            self._answer_buffered()

    # Time limits.

    def _expect(self, reason: str, seconds: float) -> None:
        """Set the time limit of the connection, which replaces the previous one. reason: for the count `closed`."""
        self._deadline = self._loop.time() + seconds
        self._reason = reason
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def _expect_nothing(self) -> None:
        self._deadline = math.inf

    def _check_deadline(self) -> None:
        self._timer = None
        if self._deadline <= self._loop.time():
            self.abort(self._reason)
        elif self._deadline < math.inf:
            self._timer = self._loop.call_at(self._deadline, self._check_deadline)

    def abort(self, reason: str) -> None:
        """Close the connection at once and discard unsent answers. reason: for the count `closed`."""
        if not self._ended:
            self._ended = True
            self._pool.closed[reason] += 1
            self._pool.leave(self)
            if self._transport.get_write_buffer_size():  # reset, so that the kernel discards its send buffer too
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    # Queries.

    def _answer_buffered(self) -> None:
        """Answer buffered messages, at most `_TURN`, and arrange for the next step."""
        if self._continuation is not None:
            self._continuation.cancel()
            self._continuation = None
        if self._ended or self._paused is not None or self.transfer is not None:
            return
        answers: list[bytes] = []
        used, wait = self._answer(answers)
        if used:
            self._consume(used)
            self._partial = False
            self._pool.asked(self)
        if answers:
            self._transport.write(b"".join(answers))  # may call pause_writing
        self._prepare_next(wait, answered=used > 0)

    def _prepare_next(self, wait: float | None, *, answered: bool) -> None:
        if self._ended:
            return
        if self._paused is not None or self.transfer is not None:
            self._set_reading(False)
        elif wait is not None:
            self._set_reading(False)
            self._expect_nothing()
            self._continuation = (
                self._loop.call_later(wait, self._answer_buffered)
                if wait
                else self._loop.call_soon(self._answer_buffered)
            )
        elif self._eof:
            self._expect("stalled", self._pool.limits.stall_seconds)
            self._transport.close()
        else:
            self._set_reading(True)
            self._await_more(answered=answered)

    def _answer(self, answers: list[bytes]) -> tuple[int, float | None]:
        """Append the answers to the messages in the buffer.

        Returns the number of octets used, and the seconds after which to continue, or None if more input is needed.
        """
        pool, buffer, at = self._pool, self._buffer, 0
        for _ in range(_TURN):
            start = at + _LENGTH_BYTES
            size = int.from_bytes(buffer[at:start], "big")
            if self._filled < start + min(size, QUERY_MAX_BYTES):
                return at, None
            wire = bytes(buffer[start : start + min(size, QUERY_MAX_BYTES)])
            answer: Answer
            if size > QUERY_MAX_BYTES:
                answer = refusal(wire, dns.rcode.FORMERR)
            else:
                try:
                    answer = self._authority.query(wire)
                except HandOver:
                    wait = pool.slow(self.source, self._loop.time())
                    if wait:
                        return at, wait
                    answer = self._authority.answer(wire, self.peer, udp=False)
            at = start + size
            pool.queries += 1
            if answer is None:
                self.abort("malformed")
                return min(at, self._filled), None
            if isinstance(answer, Transfer):
                self._begin(answer)
                return at, None
            pool.responses[answer[3] & 15] += 1
            answers += (len(answer).to_bytes(_LENGTH_BYTES, "big"), answer)
            if at > self._filled:
                self._skip = at - self._filled
                return self._filled, None
        return at, 0.0

    def _consume(self, size: int) -> None:
        self._buffer[: self._filled - size] = self._buffer[size : self._filled]
        self._filled -= size

    def _await_more(self, *, answered: bool) -> None:
        partial = self._filled > 0 or self._skip > 0
        if partial and not self._partial:
            self._expect("slow", self._pool.limits.message_seconds)
        elif not partial and (answered or self._partial):
            self._expect("idle", self._pool.limits.idle_seconds)
        self._partial = partial

    def _set_reading(self, wanted: bool) -> None:
        if wanted != self._reading and not self._eof and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # Transfers.

    def _begin(self, transfer: Transfer) -> None:
        self._expect_nothing()
        self.transfer = self._loop.create_task(self._send(transfer))
        self._pool.tasks.add(self.transfer)
        self.transfer.add_done_callback(self._pool.tasks.discard)

    async def _send(self, transfer: Transfer) -> None:
        pool = self._pool
        outcome = "aborted"
        try:
            async with asyncio.timeout(pool.limits.transfer_seconds), pool.transferring:
                with contextlib.closing(transfer.messages) as messages:
                    for message in messages:
                        self._transport.write(len(message).to_bytes(_LENGTH_BYTES, "big") + message)
                        pool.sent_bytes += len(message)
                        if self._paused is not None:
                            await self._paused
                        else:
                            await asyncio.sleep(0)
            outcome = "sent"
        except TimeoutError:
            self.abort("transfer_timeout")
        except (OSError, ValueError, MemoryError) as error:  # no snapshot could be made, or the zone was removed
            outcome = "failed"
            _log.warning("transfer of %s to %s failed: %s", transfer.zone, self.peer, error)
            self.abort("transfer_failed")
        finally:
            pool.transfers[outcome] += 1
            self.transfer = None
        self._expect("idle", pool.limits.idle_seconds)
        self._answer_buffered()
