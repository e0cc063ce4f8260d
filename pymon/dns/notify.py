"""Telling secondaries that a zone has changed (RFC 1996)."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig

from pymon.dns.options import Secondary
from pymon.dns.tsig import Keys
from pymon.dns.zone import Zone

_log = logging.getLogger(__name__)

ANSWER_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""How long each try waits for its answer. A secondary that gives none finds out when its SOA says to look."""

PAUSE_SECONDS = 0.25
"""Between two that say different things of a zone to the same secondary."""

_AT_ONCE = 32
"""Zones that one secondary is told of at the same time."""


class Notifier:
    """Tells all secondaries.

    outcomes: counts of what they were told: acknowledged, refused, unanswered. sources: addresses of the server; NOTIFY
    comes from one of them, as secondaries know it by that.
    """

    def __init__(
        self, secondaries: Sequence[Secondary], keys: Keys | None, outcomes: Counter[str], sources: Sequence[str] = ()
    ) -> None:
        self._secondaries = [_Secondary(secondary, keys, tuple(sources), outcomes) for secondary in secondaries]

    def changed(self, zone: Zone) -> None:
        """Tell of a zone's new serial; what is still under way of older ones is given up."""
        for secondary in self._secondaries:
            secondary.changed(zone)

    async def close(self) -> None:
        """Tell nobody any more."""
        await asyncio.gather(*(secondary.close() for secondary in self._secondaries))


class _Secondary:
    def __init__(
        self, secondary: Secondary, keys: Keys | None, sources: tuple[str, ...], outcomes: Counter[str]
    ) -> None:
        self._address = secondary.address
        name = secondary.key or next(iter(keys or {}), None)
        self._key = keys[name] if keys and name is not None else None
        self._sources = [source for source in sources if (":" in source) == (":" in self._address.host)]
        self._outcomes = outcomes
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._failing: set[str] = set()  # zones that it refuses; "" while it is silent

    def changed(self, zone: Zone) -> None:
        event = self._wake.get(zone.origin)
        if event is not None:
            event.set()
            return
        event = self._wake[zone.origin] = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._tell(zone, event))
        self._tasks[zone.origin] = task
        task.add_done_callback(lambda _: self._done(zone.origin))

    def _done(self, origin: str) -> None:
        del self._tasks[origin], self._wake[origin]

    async def close(self) -> None:
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, zone: Zone, changed: asyncio.Event) -> None:
        """Until the secondary has answered, or given no answer to all tries, what the zone's serial is now."""
        while True:
            changed.clear()
            async with self._turns:
                outcome = await self._notify(zone, changed)
            if outcome:
                self._count(outcome, zone.origin)
                if not changed.is_set():
                    return
            await asyncio.sleep(PAUSE_SECONDS)

    def _count(self, outcome: str, origin: str) -> None:
        self._outcomes[outcome] += 1
        # That it is silent is of the secondary, that it refuses of the zone, which it may not have.
        failing = origin if outcome == "refused" else ""
        if outcome == "acknowledged":
            self._failing -= {origin, ""}
        elif failing not in self._failing:
            self._failing.add(failing)
            _log.warning("NOTIFY of %s to %s: %s", origin, self._address, outcome)

    async def _notify(self, zone: Zone, changed: asyncio.Event) -> str:
        """The outcome of telling one serial; empty when it was given up for a newer one."""
        message = self._message(zone)
        wire = message.to_wire()
        loop = asyncio.get_running_loop()
        for seconds in ANSWER_SECONDS:
            answered: asyncio.Future[int] = loop.create_future()
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda answered=answered: _Answers(message, answered),  # type: ignore[misc]
                    local_addr=(self._sources[0], 0) if self._sources else None,
                    remote_addr=(self._address.host, self._address.port),
                )
            except OSError:  # no route there now
                await asyncio.sleep(seconds)
                continue
            waker = loop.create_task(changed.wait())
            try:
                transport.sendto(wire)
                await asyncio.wait((answered, waker), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waker.cancel()
                transport.close()
            if answered.done():
                return "acknowledged" if answered.result() == dns.rcode.NOERROR else "refused"
            if changed.is_set():
                return ""
        return "unanswered"

    def _message(self, zone: Zone) -> dns.message.Message:
        name = dns.name.from_text(zone.origin)
        message = dns.message.make_query(name, dns.rdatatype.SOA, flags=dns.flags.AA, id=secrets.randbelow(1 << 16))
        message.set_opcode(dns.opcode.NOTIFY)
        soa = next(record for record in zone.get(zone.origin) if record.type == "SOA")
        message.answer.append(dns.rrset.from_text(name, soa.ttl, dns.rdataclass.IN, dns.rdatatype.SOA, soa.data))
        if self._key is not None:
            message.use_tsig(self._key)
        return message


class _Answers(asyncio.DatagramProtocol):
    """Waits for the answer to a message and takes no other."""

    def __init__(self, message: dns.message.Message, answered: asyncio.Future[int]) -> None:
        self._message = message
        self._answered = answered

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002  # asyncio's
        """Whether it is from the secondary, the connected socket knows."""
        asked = self._message
        try:
            answer = dns.message.from_wire(data, keyring=asked.keyring, request_mac=asked.mac)
        except (dns.exception.DNSException, ValueError):
            return
        if asked.is_response(answer) and (answer.had_tsig or asked.keyring is None) and not self._answered.done():
            self._answered.set_result(answer.rcode())
