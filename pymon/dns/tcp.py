"""DNS over TCP (RFC 7766).

A connection's queries are answered in their order. It holds a few KiB: what is read but not answered yet fits a small
buffer, and while the client does not take its answers nothing more is read. When there are too many connections, the
one that was silent longest gives way.
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
from pymon.token_bucket import TokenBucket

_log = logging.getLogger(__name__)

QUERY_MAX_BYTES = 4096
"""A message above this is answered FORMERR; no query comes near."""

_LENGTH_BYTES = 2
_BUFFER_BYTES = 2 * (_LENGTH_BYTES + QUERY_MAX_BYTES)
_UNSENT_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)
_TURN = 16
"""Messages of one connection that are answered before others have their turn."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of connections, in all and of one source (IPv6 /64); of transfers at the same time; and times.

    idle_seconds: without a query. message_seconds: for a message from its first octet on, and for the first. stall:
    with answers that the client does not take. transfer_seconds: for a whole one; until it ends it holds memory. rate:
    of messages that are no ordinary queries, of all connections.
    """

    connections: int = 512
    connections_of_source: int = 64
    transfers: int = 8
    idle_seconds: float = 30.0
    message_seconds: float = 10.0
    stall_seconds: float = 10.0
    transfer_seconds: float = 600.0
    rate: float = 500.0


class Connections:
    """All of them. closed: those that were ended here, by reason. transfers: finished, by outcome. sent_bytes: of
    transfers. responses: by RCODE.
    """

    def __init__(self, authority: Authority, limits: Limits) -> None:
        self.authority = authority
        self.limits = limits
        self.slow = TokenBucket(limits.rate, limits.rate / 4)
        self.transferring = asyncio.Semaphore(limits.transfers)
        self.open: OrderedDict[Connection, None] = OrderedDict()  # the one that was silent longest first
        self.tasks: set[asyncio.Task[None]] = set()
        self._of_source: Counter[str] = Counter()
        self.accepted = 0
        self.queries = 0
        self.sent_bytes = 0
        self.closed: Counter[str] = Counter()
        self.transfers: Counter[str] = Counter()
        self.responses: Counter[int] = Counter()

    def __call__(self) -> Connection:
        """Make the protocol of a new one."""
        return Connection(self)

    def enter(self, connection: Connection) -> None:
        """One has come; another may have to go."""
        self.accepted += 1
        self.open[connection] = None
        self._of_source[connection.source] += 1
        if self._of_source[connection.source] > self.limits.connections_of_source:
            self._displace("source_crowded", connection.source)
        elif len(self.open) > self.limits.connections:
            self._displace("crowded", None)

    def asked(self, connection: Connection) -> None:
        """One has brought a message."""
        if connection in self.open:
            self.open.move_to_end(connection)

    def leave(self, connection: Connection) -> None:
        """One is gone."""
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
        """End all."""
        for connection in tuple(self.open):
            connection.abort("shutdown")
        if self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)


class Connection(asyncio.BufferedProtocol):
    """One of them. source: as limits count. transfer: the task of the one that is under way."""

    _transport: asyncio.Transport

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._authority = pool.authority
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_BUFFER_BYTES)
        self._filled = 0
        self._skip = 0  # octets of a message that is too large, still to come
        self._deadline = math.inf
        self._reason = "idle"
        self._timer: asyncio.TimerHandle | None = None
        self._again: asyncio.Handle | None = None
        self._paused: asyncio.Future[None] | None = None  # done when the client takes its answers again
        self._reading = True
        self._ended = False
        self._eof = False
        self._partial = False
        self.peer = ""
        self.source = ""
        self.transfer: asyncio.Task[None] | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is none
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if not peer:  # gone already
            transport.abort()
            return
        self.peer = peer[0]
        self.source = source_of(self.peer)
        transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._expect("idle", self._pool.limits.message_seconds)
        self._pool.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        """End."""
        self._ended = True
        self._pool.leave(self)
        for handle in (self._timer, self._again):
            if handle is not None:
                handle.cancel()
        if self.transfer is not None:
            self.transfer.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's
        """Where to read to. Never full: reading is paused while a whole message is in it."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """More was read."""
        self._filled += nbytes
        if self._skip:
            part = min(self._skip, self._filled)
            self._skip -= part
            self._consume(part)
        self._pump()

    def eof_received(self) -> bool:
        """The client asks no more, but may wait for answers."""
        self._eof = True
        self._pump()
        return True

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        self._paused = self._loop.create_future()
        self._expect("stalled", self._pool.limits.stall_seconds)

    def resume_writing(self) -> None:
        """It does again."""
        if self._paused is not None and not self._paused.done():
            self._paused.set_result(None)
        self._paused = None
        if self.transfer is not None:
            self._expect_nothing()
        else:
            self._expect("idle", self._pool.limits.idle_seconds)
            self._pump()

    # Time.

    def _expect(self, reason: str, seconds: float) -> None:
        """End the connection for this reason after so long, unless something else is expected by then."""
        self._deadline = self._loop.time() + seconds
        self._reason = reason
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look)

    def _expect_nothing(self) -> None:
        self._deadline = math.inf

    def _look(self) -> None:
        self._timer = None
        if self._deadline <= self._loop.time():
            self.abort(self._reason)
        elif self._deadline < math.inf:
            self._timer = self._loop.call_at(self._deadline, self._look)

    def abort(self, reason: str) -> None:
        """End it at once."""
        if not self._ended:
            self._ended = True
            self._pool.closed[reason] += 1
            self._pool.leave(self)
            if self._transport.get_write_buffer_size():  # or the kernel would go on offering what it has
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    # Queries.

    def _pump(self) -> None:
        """Answer what was read, as far as the turn goes, and see to what comes next."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._ended or self._paused is not None or self.transfer is not None:
            return
        answers: list[bytes] = []
        used, wait = self._answer(answers)
        if used:
            self._consume(used)
            self._partial = False
            self._pool.asked(self)
        if answers:
            self._transport.write(b"".join(answers))  # which may pause
        self._go_on(wait, answered=used > 0)

    def _go_on(self, wait: float | None, *, answered: bool) -> None:
        if self._ended:
            return
        if self._paused is not None or self.transfer is not None:
            self._read_on(False)
        elif wait is not None:
            self._read_on(False)
            self._expect_nothing()
            self._again = self._loop.call_later(wait, self._pump) if wait else self._loop.call_soon(self._pump)
        elif self._eof:
            self._expect("stalled", self._pool.limits.stall_seconds)
            self._transport.close()
        else:
            self._read_on(True)
            self._await_more(answered=answered)

    def _answer(self, answers: list[bytes]) -> tuple[int, float | None]:
        """Answer the messages in the buffer: the octets used, and the seconds after which to go on; None: with more to
        read.
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
                    wait = pool.slow.take(self._loop.time())
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

    def _read_on(self, wanted: bool) -> None:
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
        except (OSError, ValueError, MemoryError) as error:  # no snapshot to be had, or the zone is gone
            outcome = "failed"
            _log.warning("transfer of %s to %s failed: %s", transfer.zone, self.peer, error)
            self.abort("transfer_failed")
        finally:
            pool.transfers[outcome] += 1
            self.transfer = None
        self._expect("idle", pool.limits.idle_seconds)
        self._pump()
