"""Answers to DNS messages. Does no I/O.

The native part answers ordinary queries. This module answers transfers, signed messages, notifications and updates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple, TypeAlias

import dns.exception
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from pymon._native.responder import HandOver, Zones
from pymon.dns import transfer
from pymon.dns.acl import TransferPolicy
from pymon.dns.message import UDP_PAYLOAD_BYTES, Request, parse, reply, unsigned
from pymon.dns.tsig import Keys, Signing, check
from pymon.dns.zone import Zone

_TCP_MAX_BYTES = 65535
_TRANSFERS = {dns.rdatatype.AXFR, dns.rdatatype.IXFR}


class Transfer(NamedTuple):
    """A zone transfer that is allowed. messages: a generator of wire messages, which the caller must close."""

    zone: str
    messages: Generator[bytes, None, None]


Answer: TypeAlias = bytes | Transfer | None
"""None: the message gets no answer."""


class Authority:
    """Answers messages about a set of zones.

    refused: counts of refused transfers, notifications and updates, by opcode or type. signatures: counts of invalid
    signatures, by TSIG error. transfers: counts of transfers started, by kind.
    """

    def __init__(
        self,
        natives: Zones,
        zones: Mapping[str, Zone],
        policy: TransferPolicy,
        keys: Keys,
        clock: Callable[[], float],
        incomplete: Callable[[], bool] = lambda: False,
    ) -> None:
        """incomplete: returns whether the zones lack names, so that nobody may transfer them."""
        self._incomplete = incomplete
        self._natives = natives
        self._zones = zones
        self._policy = policy
        self._keys = keys
        self._clock = clock
        self.refused: Counter[str] = Counter()
        self.signatures: Counter[str] = Counter()
        self.transfers: Counter[str] = Counter()

    def query(self, wire: bytes | memoryview, *, udp: bool = False) -> bytes | None:
        """Return the answer to an ordinary query, None for no answer. Raises HandOver if `answer` must be called."""
        return self._natives.answer(wire, udp=udp)

    def answer(self, wire: bytes, peer: str, *, udp: bool) -> Answer:
        """Return the answer to a message for which `query` raised HandOver. peer: the sender's IP address."""
        request = parse(wire)
        if request is None:
            return None
        if request.malformed:
            return reply(request, dns.rcode.FORMERR)
        if request.signature is None:
            return self._answer(request, wire, peer, None, udp=udp)
        try:
            signing = check(wire, request.signature, self._keys, self._clock())
        except dns.exception.FormError:
            return reply(request, dns.rcode.FORMERR)
        if signing.error:
            self.signatures[dns.rcode.to_text(signing.error, tsig=True)] += 1
            return signing.sign(reply(request, dns.rcode.NOTAUTH), self._clock())
        answer = self._answer(request, unsigned(wire, request.signature.start), peer, signing, udp=udp)
        if not isinstance(answer, bytes):
            return answer
        limit = min(request.payload, UDP_PAYLOAD_BYTES) if udp else _TCP_MAX_BYTES
        if len(answer) + signing.size > limit:
            answer = reply(request, dns.rcode.Rcode(answer[3] & 15), truncated=True)
        return signing.sign(answer, self._clock())

    def _answer(self, request: Request, wire: bytes, peer: str, signing: Signing | None, *, udp: bool) -> Answer:
        """Return the answer to a message. wire: without its signature.

        An answer in bytes is not signed yet. The messages of a transfer are.
        """
        if request.opcode in {dns.opcode.NOTIFY, dns.opcode.UPDATE}:
            return reply(request, self._to_primary(request))
        if request.opcode == dns.opcode.QUERY and request.type in _TRANSFERS and not request.version:
            return self._transfer(request, peer, signing, udp=udp)
        try:
            return self._natives.answer(wire, udp=udp)
        except HandOver:
            return reply(request, dns.rcode.FORMERR)

    def _to_primary(self, request: Request) -> dns.rcode.Rcode:
        """Return the RCODE for NOTIFY, which only a secondary accepts (RFC 1996), and UPDATE (RFC 2136)."""
        opcode = dns.opcode.to_text(dns.opcode.Opcode.make(request.opcode))
        self.refused[opcode.lower()] += 1
        if request.type != dns.rdatatype.SOA:
            return dns.rcode.FORMERR if request.opcode == dns.opcode.UPDATE else dns.rcode.NOTIMP
        return dns.rcode.REFUSED if self._zone(request) is not None else dns.rcode.NOTAUTH

    def _zone(self, request: Request) -> Zone | None:
        """Return the zone whose name is the name of the question."""
        if request.rdclass != dns.rdataclass.IN or request.name is None:
            return None
        return self._zones.get(request.name.to_text().lower())

    def _transfer(self, request: Request, peer: str, signing: Signing | None, *, udp: bool) -> Answer:
        zone = self._zone(request)
        key = signing.key if signing is not None else None
        if zone is None:
            return reply(request, dns.rcode.NOTAUTH)
        if not self._policy.allows(peer, key.name if key is not None else None):
            self.refused[dns.rdatatype.to_text(dns.rdatatype.RdataType.make(request.type)).lower()] += 1
            return reply(request, dns.rcode.REFUSED)
        if not zone.serial or self._incomplete():
            return reply(request, dns.rcode.SERVFAIL)
        if request.type == dns.rdatatype.IXFR and request.serial is None:
            return reply(request, dns.rcode.FORMERR)
        if udp:
            # The source address of a datagram may be forged, so the answer is small: the SOA alone. A client whose
            # serial differs then asks over TCP.
            return transfer.current(request, zone) if request.type == dns.rdatatype.IXFR else _no_udp(request)
        return Transfer(zone.origin, transfer.messages(request, zone, signing, self._clock, self._count))

    def _count(self, kind: str) -> None:
        self.transfers[kind] += 1


def _no_udp(request: Request) -> bytes:
    """Return the answer to AXFR over UDP, which RFC 5936 §4.2 does not allow."""
    return reply(request, dns.rcode.FORMERR)
