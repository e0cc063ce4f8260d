"""The messages of zone transfers: AXFR (RFC 5936) and IXFR (RFC 1995). Does no I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from typing import TypeAlias

import dns.rcode
import dns.rdatatype

from pymon.dns.message import Request, frame
from pymon.dns.tsig import Signing
from pymon.dns.zone import Difference, Zone, serial_after

MESSAGE_BYTES = 16384
"""Size of the records in one message. No more of a zone than this is copied at a time."""

_PART_BYTES = MESSAGE_BYTES - 1024
_POINTER = 0xC0
_HEAD = 12

Records: TypeAlias = Generator[tuple[int, bytes], None, None]
"""Yields (number of records, their wire form)."""


def kind(request: Request, zone: Zone) -> str:
    """Return the kind of answer to a transfer request.

    ``axfr``, ``ixfr``, or ``current`` if the client's serial is not older than the zone's.
    """
    if request.type != dns.rdatatype.IXFR or request.serial is None:
        return "axfr"
    if request.serial == zone.serial or serial_after(request.serial, zone.serial):
        return "current"
    return "ixfr" if _differences(zone, request.serial) is not None else "axfr"


def messages(
    request: Request, zone: Zone, signing: Signing | None, clock: Callable[[], float], count: Callable[[str], None]
) -> Generator[bytes, None, None]:
    """Yield the messages of a transfer. The content is that of the zone at the first message. To be closed.

    count: called with the kind of the transfer when it starts.
    """
    found = kind(request, zone)
    count(found)
    if found == "current":
        records = incremental(zone.soa, None)
    elif found == "ixfr" and request.serial is not None:
        records = incremental(zone.soa, _differences(zone, request.serial))
    else:
        records = whole(zone)
    edns = request.version is not None
    with contextlib.closing(_packed(records)) as packed:
        for number, part in packed:
            message = frame(request, dns.rcode.NOERROR, number, part, edns=edns)
            yield signing.sign(message, clock(), more=True) if signing is not None else message
            edns = False


def current(request: Request, zone: Zone) -> bytes:
    """Return the answer to IXFR over UDP: the SOA record alone. A client with another serial then uses TCP."""
    return frame(request, dns.rcode.NOERROR, 1, zone.soa, edns=request.version is not None)


def whole(zone: Zone) -> Records:
    """Yield all records of a zone, with the SOA at the start and at the end (AXFR)."""
    soa = zone.soa
    with contextlib.closing(zone.transfer(_PART_BYTES)) as parts:
        yield 1, soa
        for part in parts:
            yield from _cut(part)
        yield 1, soa


def incremental(soa: bytes, differences: Iterable[Difference] | None) -> Records:
    """Yield the records of an IXFR, oldest change first.

    Each change is the old SOA, the removed records, the new SOA, the added records. differences: None for an answer of
    the current SOA alone, which means that nothing has changed.
    """
    yield 1, soa
    if differences is None:
        return
    for difference in differences:
        yield 1, difference.old_soa
        yield from _cut(difference.removed)
        yield 1, difference.soa
        yield from _cut(difference.added)
    yield 1, soa


def _differences(zone: Zone, serial: int) -> list[Difference] | None:
    """Return the changes since a serial, None if they are unknown or have more records than the zone."""
    found = zone.differences(serial)
    if found is not None and sum(one.removed_count + one.added_count for one in found) > len(zone):
        return None
    return found


def _cut(wire: bytes) -> Records:
    """Split records in wire form into parts that fit a message. Owner names must end in a compression pointer."""
    start = at = count = 0
    while at < len(wire):
        begin = at
        while wire[at] < _POINTER:
            at += 1 + wire[at]
        at += _HEAD + (wire[at + 10] << 8 | wire[at + 11])
        if count and at - start > _PART_BYTES:
            yield count, wire[start:begin]
            start, count = begin, 0
        count += 1
    if count:
        yield count, wire[start:]


def _packed(records: Records) -> Records:
    """Join parts as long as they fit one message."""
    count = size = 0
    gathered: list[bytes] = []
    with contextlib.closing(records):
        for number, part in records:
            if gathered and size + len(part) > MESSAGE_BYTES:
                yield count, b"".join(gathered)
                gathered, count, size = [], 0, 0
            gathered.append(part)
            count += number
            size += len(part)
    yield count, b"".join(gathered)
