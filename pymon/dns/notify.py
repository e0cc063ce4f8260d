"""NOTIFY to secondaries when a zone has changed (RFC 1996)."""

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
"""The timeout of each attempt. A secondary that answers none of them polls after the refresh time of the SOA."""

PAUSE_SECONDS = 0.25
"""Between two NOTIFYs of the same zone to the same secondary with different serials."""

_AT_ONCE = 32
"""The most zones for which one secondary has an unanswered NOTIFY at the same time."""


class Notifier:
    """Sends NOTIFY to all secondaries.

    outcomes: counts of NOTIFYs by outcome: acknowledged, refused, unanswered. sources: addresses of the server. NOTIFY
    is sent from one of them, because secondaries identify the primary by its address.
    """

    def __init__(
        self, secondaries: Sequence[Secondary], keys: Keys | None, outcomes: Counter[str], sources: Sequence[str] = ()
    ) -> None:
        self._secondaries = [_Secondary(secondary, keys, tuple(sources), outcomes) for secondary in secondaries]

    def changed(self, zone: Zone) -> None:
        """Send NOTIFY for the new serial of a zone. A NOTIFY of an older serial that is still unanswered is dropped."""
        for secondary in self._secondaries:
            secondary.changed(zone)

    async def close(self) -> None:
        """Cancel all NOTIFYs that are unanswered, and wait for their tasks to end."""
        await asyncio.gather(*(secondary.close() for secondary in self._secondaries))


class _Secondary:
    def __init__(
        self, secondary: Secondary, keys: Keys | None, sources: tuple[str, ...], outcomes: Counter[str]
    ) -> None:
        self._address = secondary.address
        self._key_name = secondary.key
        self._keys = keys or {}
        self._sources = [source for source in sources if (":" in source) == (":" in self._address.host)]
        self._outcomes = outcomes
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._failing: set[str] = set()  # zones that the secondary refuses; "" while it does not answer

    def changed(self, zone: Zone) -> None:
        event = self._wake.get(zone.origin)
        if event is not None:
            event.set()
            return
        event = self._wake[zone.origin] = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._notify_until_done(zone, event))
        self._tasks[zone.origin] = task
        task.add_done_callback(lambda _: self._done(zone.origin))

    def _done(self, origin: str) -> None:
        del self._tasks[origin], self._wake[origin]

    async def close(self) -> None:
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _notify_until_done(self, zone: Zone, changed: asyncio.Event) -> None:
        """Notify until the outcome is known for the zone's current serial."""
        while True:
            changed.clear()
            async with self._slots:
                outcome = await self._notify(zone, changed)
            if outcome:
                self._count(outcome, zone.origin)
                if not changed.is_set():
                    return
            await asyncio.sleep(PAUSE_SECONDS)

    def _count(self, outcome: str, origin: str) -> None:
        self._outcomes[outcome] += 1
        # Silence is a failure of the secondary. A refusal is about one zone, which the secondary may not serve.
        failing = origin if outcome == "refused" else ""
        if outcome == "acknowledged":
            self._failing -= {origin, ""}
        elif failing not in self._failing:
            self._failing.add(failing)
            _log.warning("NOTIFY of %s to %s: %s", origin, self._address, outcome)

    async def _notify(self, zone: Zone, changed: asyncio.Event) -> str:
        """Send NOTIFY for the current serial and return the outcome, or "" if a newer serial replaced it."""
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
            except OSError:  # for example no route
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
        key = self._key_name or next(iter(self._keys), None)
        if key is not None:
            message.use_tsig(self._keys[key])
        return message


class _Answers(asyncio.DatagramProtocol):
    """Sets a future to the RCODE of the answer to one message, and ignores other datagrams."""

    def __init__(self, message: dns.message.Message, answered: asyncio.Future[int]) -> None:
        self._message = message
        self._answered = answered

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002  # asyncio's
        """Take the answer if it is valid. The connected socket already filters datagrams of other sources."""
        asked = self._message
        try:
            answer = dns.message.from_wire(data, keyring=asked.keyring, request_mac=asked.mac)
        except (dns.exception.DNSException, ValueError):
            return
        if asked.is_response(answer) and (answer.had_tsig or asked.keyring is None) and not self._answered.done():
            self._answered.set_result(answer.rcode())
