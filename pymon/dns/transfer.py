"""Zone transfers as messages: AXFR (RFC 5936) and IXFR (RFC 1995). No I/O."""

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
"""Of the records of one message: no more of a zone is copied at a time."""

_PART_BYTES = MESSAGE_BYTES - 1024
_POINTER = 0xC0
_HEAD = 12

Records: TypeAlias = Generator[tuple[int, bytes], None, None]
"""Numbers of records, and their wire form."""


def kind(request: Request, zone: Zone) -> str:
    """What answers a request for a transfer: ``axfr``, ``ixfr``, or ``current`` where there is nothing to transfer."""
    if request.type != dns.rdatatype.IXFR or request.serial is None:
        return "axfr"
    if request.serial == zone.serial or serial_after(request.serial, zone.serial):
        return "current"
    return "ixfr" if _differences(zone, request.serial) is not None else "axfr"


def messages(
    request: Request, zone: Zone, signing: Signing | None, clock: Callable[[], float], count: Callable[[str], None]
) -> Generator[bytes, None, None]:
    """The messages, made as they are taken, of the zone as it is when the first one is. To be closed.

    count: is told the kind of transfer when it begins.
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
    """The answer over UDP, whatever there is to transfer: the serial, to come by TCP for if it is not known."""
    return frame(request, dns.rcode.NOERROR, 1, zone.soa, edns=request.version is not None)


def whole(zone: Zone) -> Records:
    """All records, between two copies of SOA."""
    soa = zone.soa
    with contextlib.closing(zone.transfer(_PART_BYTES)) as parts:
        yield 1, soa
        for part in parts:
            yield from _cut(part)
        yield 1, soa


def incremental(soa: bytes, differences: Iterable[Difference] | None) -> Records:
    """The changes, oldest first: each what it took, after the SOA before it, and what it brought, after its own. None:
    SOA alone, which says that there are none.
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
    """The changes since a serial; None when they are not known, or are more than the zone itself."""
    found = zone.differences(serial)
    if found is not None and sum(one.removed_count + one.added_count for one in found) > len(zone):
        return None
    return found


def _cut(wire: bytes) -> Records:
    """Records in parts that fit a message. Owner names end in a pointer."""
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
    """Parts put together as far as they fit a message."""
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
