"""Client for signed DNS messages to one server (RFC 8945). Blocking: call it from a thread of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.xfr

from pymon.config import Address
from pymon.dns import inbound
from pymon.dns.rrsets import Record

ANSWER_SECONDS = 5.0
UDP_SECONDS = 1.5
"""Time to wait for an answer over UDP before TCP is tried."""

UDP_BYTES = 1232
"""The largest message that is sent over UDP, so that it is not fragmented."""

_MAX_BYTES = 65_535

_NO_TRANSFER = frozenset({dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.NOTIMP})


class ExchangeError(Exception):
    """An exchange failed. reason: one word for a metric label. The text of the exception is one line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class TransferRefusedError(ExchangeError):
    """The server does not allow this key to transfer the zone."""


class Peer:
    """A DNS server, and the TSIG key that is shared with it."""

    def __init__(self, address: Address, key: dns.tsig.Key) -> None:
        self.key = key
        self._address = address
        self._keyring = {key.name: key}

    def exchange(self, message: dns.message.Message) -> dns.message.Message:
        """Send a message and return its answer. Raises ExchangeError.

        An unsigned answer is accepted only if its RCODE is an error.
        """
        try:
            wire = message.to_wire()
            answer = self._read(message, self._by_udp(wire)) if len(wire) <= UDP_BYTES else None
            if answer is None or answer.flags & dns.flags.TC:
                answer = self._read(message, self._by_tcp(wire))
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise _translated(error) from None
        if answer is None or not message.is_response(answer):
            raise ExchangeError("malformed", "expected an answer to what was asked")
        return answer

    def _read(self, message: dns.message.Message, wire: bytes) -> dns.message.Message | None:
        """Parse an answer. Returns None if it is empty."""
        if not wire:
            return None
        answer = dns.message.from_wire(wire, keyring=False)
        if answer.had_tsig:
            return dns.message.from_wire(wire, keyring=self._keyring, request_mac=message.mac)
        if answer.rcode() == dns.rcode.NOERROR:
            raise ExchangeError("bad_signature", "expected a signed answer, got one without signature")
        return answer

    def query(self, name: str, type: str) -> list[Record]:
        """Return the records of one name and type, or the CNAME of that name. Raises ExchangeError."""
        query = dns.message.make_query(name, type, flags=0, use_edns=0, payload=UDP_BYTES)
        query.use_tsig(self.key)
        answer = self.exchange(query)
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise failed(answer.rcode(), f"query of {type} {name}")
        asked = query.question[0].name
        return [record for rrset in answer.answer if rrset.name == asked for record in _records(rrset)]

    def transfer(self, origin: str) -> Generator[tuple[str, Record], None, None]:
        """Yield (name, record) for all records of a zone, read by AXFR. Raises ExchangeError.

        A caller that stops early must close the generator.
        """
        try:
            address = self._resolved(socket.SOCK_STREAM)[1]
            with closing(inbound.transfer(address, origin, self.key)) as records:
                yield from records
        except inbound.UnsignedError:
            raise ExchangeError("bad_signature", "expected a signed transfer, its end is not signed") from None
        except dns.xfr.TransferError as error:
            if error.rcode in _NO_TRANSFER:
                raise TransferRefusedError("refused", f"transfer: {dns.rcode.to_text(error.rcode)}") from None
            raise failed(error.rcode, "transfer") from None
        except dns.tsig.PeerBadKey:  # Knot DNS answers BADKEY to a key it knows but that may not transfer
            raise TransferRefusedError("refused", "transfer: BADKEY") from None
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise _translated(error) from None

    def _resolved(self, kind: socket.SocketKind) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
        family, _, _, _, address = socket.getaddrinfo(self._address.host, self._address.port, type=kind)[0]
        return family, address

    def _by_udp(self, wire: bytes) -> bytes:
        """Return the answer, or b"" if none arrived in `UDP_SECONDS`."""
        family, address = self._resolved(socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as connection:
            connection.connect(address)  # filters datagrams of other sources, and reports a closed port at once
            connection.send(wire)
            deadline = time.monotonic() + UDP_SECONDS
            answer = b""
            while answer[:2] != wire[:2] and (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                try:
                    answer = connection.recv(_MAX_BYTES)
                except TimeoutError:
                    return b""
            return answer

    def _by_tcp(self, wire: bytes) -> bytes:
        deadline = time.monotonic() + ANSWER_SECONDS
        with socket.create_connection((self._address.host, self._address.port), ANSWER_SECONDS) as connection:
            connection.sendall(len(wire).to_bytes(2, "big") + wire)
            size = int.from_bytes(inbound.received(connection, 2, deadline), "big")
            return inbound.received(connection, size, deadline)


def failed(rcode: int, what: str) -> ExchangeError:
    """Return the error for an answer with this RCODE. what: the operation that failed."""
    text = dns.rcode.to_text(dns.rcode.Rcode.make(rcode))
    return ExchangeError(text.lower(), f"{what}: the server answers {text}")


def _records(rrset: dns.rrset.RRset) -> Iterator[Record]:
    kind = dns.rdatatype.to_text(rrset.rdtype)
    for rdata in rrset:
        text = rdata.to_text()
        # Names in record data are compared in lower case, as owner names are. TXT data keeps its case.
        yield Record(kind, rrset.ttl, text if rrset.rdtype == dns.rdatatype.TXT else text.lower())


def _translated(error: Exception) -> ExchangeError:
    if isinstance(error, dns.exception.Timeout | TimeoutError):
        return ExchangeError("timeout", f"no answer within {ANSWER_SECONDS:.0f} s")
    if isinstance(error, OSError):
        return ExchangeError("unreachable", error.strerror or str(error))
    if isinstance(error, EOFError):
        return ExchangeError("unreachable", "the server closed the connection without an answer")
    if isinstance(error, dns.tsig.PeerBadKey | dns.message.UnknownTSIGKey | dns.tsig.BadKey):
        return ExchangeError("bad_key", "the server does not know the key")
    if isinstance(error, dns.tsig.PeerBadSignature | dns.tsig.BadSignature | dns.tsig.BadAlgorithm):
        return ExchangeError("bad_signature", "the key has another secret or algorithm at the server")
    if isinstance(error, dns.tsig.PeerBadTime | dns.tsig.BadTime):
        return ExchangeError("bad_time", "the clocks here and at the server differ by more than 5 minutes")
    return ExchangeError("malformed", " ".join(str(error).split()) or type(error).__name__)
