"""Messages to one server and its answers, all signed (RFC 8945). Blocks: for a thread of its own."""

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
"""Then TCP is tried: the datagram may be what does not get through."""

UDP_BYTES = 1232
"""What passes everywhere without fragments."""

_MAX_BYTES = 65_535

_NO_TRANSFER = frozenset({dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.NOTIMP})


class ExchangeError(Exception):
    """It did not work. reason: a word for a metric; the text is one line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class TransferRefusedError(ExchangeError):
    """The server answers, and gives nobody with this key the whole zone."""


class Peer:
    """A server, and the key that it knows us by."""

    def __init__(self, address: Address, key: dns.tsig.Key) -> None:
        self.key = key
        self._address = address
        self._keyring = {key.name: key}

    def exchange(self, message: dns.message.Message) -> dns.message.Message:
        """The answer to a message. One without signature is taken only when it is an error. Raises ExchangeError."""
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
        """The message of an answer; None of no octets."""
        if not wire:
            return None
        answer = dns.message.from_wire(wire, keyring=False)
        if answer.had_tsig:
            return dns.message.from_wire(wire, keyring=self._keyring, request_mac=message.mac)
        if answer.rcode() == dns.rcode.NOERROR:
            raise ExchangeError("bad_signature", "expected a signed answer, got one without signature")
        return answer

    def query(self, name: str, type: str) -> list[Record]:
        """The records of one name and type, or the CNAME that is there instead. Raises ExchangeError."""
        query = dns.message.make_query(name, type, flags=0, use_edns=0, payload=UDP_BYTES)
        query.use_tsig(self.key)
        answer = self.exchange(query)
        if answer.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            raise failed(answer.rcode(), f"query of {type} {name}")
        asked = query.question[0].name
        return [record for rrset in answer.answer if rrset.name == asked for record in _records(rrset)]

    def transfer(self, origin: str) -> Generator[tuple[str, Record], None, None]:
        """All records of a zone by AXFR. Raises ExchangeError; to be closed where it is not read to its end."""
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
        except dns.tsig.PeerBadKey:  # Knot's answer to a key that it knows and that may do other things
            raise TransferRefusedError("refused", "transfer: BADKEY") from None
        except (OSError, EOFError, dns.exception.DNSException) as error:
            raise _translated(error) from None

    def _resolved(self, kind: socket.SocketKind) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
        family, _, _, _, address = socket.getaddrinfo(self._address.host, self._address.port, type=kind)[0]
        return family, address

    def _by_udp(self, wire: bytes) -> bytes:
        """No octets when there was no answer in time."""
        family, address = self._resolved(socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as connection:
            connection.connect(address)  # so that others' datagrams do not arrive and a closed port is known at once
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
    """The error of an answer that says no."""
    text = dns.rcode.to_text(dns.rcode.Rcode.make(rcode))
    return ExchangeError(text.lower(), f"{what}: the server answers {text}")


def _records(rrset: dns.rrset.RRset) -> Iterator[Record]:
    kind = dns.rdatatype.to_text(rrset.rdtype)
    for rdata in rrset:
        text = rdata.to_text()
        # Names in data are compared in lower case as owner names are; text is text.
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
