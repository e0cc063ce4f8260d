"""A zone that is served: its records in native memory, its serial, and its latest changes for IXFR.

The native part stores the records and answers queries. Owner names in the wire form that it returns end in a pointer to
offset 12. So the records can be copied unchanged into any message whose question is the zone's name.
"""

from __future__ import annotations

import re
import socket
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from pymon._native.responder import Zones, ZoneTable
from pymon.dns.content import WHOLE, groups
from pymon.dns.rrsets import Content, Record

HISTORY_BYTES = 4 << 20
"""Limit of the changes that are kept for IXFR. A secondary that needs older ones transfers the whole zone."""

HISTORY_CHANGES = 1000

_POINTER = b"\xc0\x0c"
_SERIALS = 1 << 32
_SERIALS_PER_SECOND = 100
_HEAD = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")
_NAMES = frozenset((dns.rdatatype.CNAME, dns.rdatatype.NS, dns.rdatatype.PTR))
_PLAIN_LABEL = re.compile(rb"[a-z0-9_-]+")
_PLAIN_TEXT = re.compile(rb"[A-Za-z0-9 :_.-]*")


def serial_after(first: int, second: int) -> bool:
    """Return whether the first serial is greater than the second (RFC 1982).

    If they differ by exactly half of the range, neither is greater.
    """
    return 0 < (first - second) % _SERIALS < _SERIALS // 2


def next_serial(serial: int, now: float) -> int:
    """Return the serial after a given one. now: seconds since the epoch. The result is never 0, which means no serial.

    The serial is the time in hundredths of a second if that is greater, so that serials continue after a restart. Else
    it is the previous one plus one.

    With whole seconds, the serial of a zone that changes more than once a second would run ahead of the clock. After a
    restart, secondaries would then ignore the zone until the clock has caught up. Hundredths of a second repeat after
    497 days. Half of that is far longer than EXPIRE.
    """
    wanted = int(now * _SERIALS_PER_SECOND) % _SERIALS
    return wanted if wanted and (not serial or serial_after(wanted, serial)) else (serial + 1) % _SERIALS or 1


@dataclass(frozen=True, slots=True)
class Difference:
    """One change of a zone: the removed and added records in wire form, their numbers, and both SOA records."""

    old_serial: int
    serial: int
    old_soa: bytes
    soa: bytes
    removed_count: int
    removed: bytes
    added_count: int
    added: bytes


class Zone:
    """One zone. Not thread-safe, but the responder's thread may answer from it at any time.

    origin: absolute name in lower case. serial: 0 until the zone has a SOA record. soa: that record in wire form.
    """

    def __init__(self, zones: Zones, origin: str, *, clock: Callable[[], float]) -> None:
        self._zones = zones
        self._clock = clock
        self._table: ZoneTable = zones.add(origin, encode)
        self.origin = self._table.origin
        self.serial = 0
        self.soa = b""
        self._soa: Record | None = None
        self._history: deque[Difference] = deque()
        self._history_bytes = 0

    def close(self) -> None:
        """Stop serving the zone."""
        self._zones.remove(self._table)

    def __len__(self) -> int:
        """Return the number of records, with the SOA."""
        return self._table.record_count + bool(self.serial)

    def replace(self, content: Content) -> list[str]:
        """Replace the whole content. The serial increases if anything changes.

        Returns one line for each name whose records cannot be served; such a name is removed. A content without SOA
        keeps the current SOA.
        """
        return self._change(content, whole=True)

    def update(self, changes: Content) -> list[str]:
        """Set the records of some names; () removes a name. The serial increases if anything changes.

        Returns one line for each name whose records cannot be served; such a name is not changed.
        """
        return self._change(changes, whole=False)

    def get(self, name: str) -> tuple[Record, ...]:
        """Return the records of a name, SOA first. Raises ValueError if the name is not absolute."""
        name = name.lower()
        soa = [Record("SOA", *self._soa_data())] if name == self.origin and self.serial else []
        return (*soa, *(_record(*found) for found in self._table.get(name)))

    def differences(self, serial: int) -> list[Difference] | None:
        """Return the changes since a serial, oldest first; [] if it is current, None if they are not known."""
        if serial == self.serial:
            return []
        wanted: list[Difference] = []
        for difference in reversed(self._history):
            wanted.append(difference)
            if difference.old_serial == serial:
                return wanted[::-1]
        return None

    def transfer(self, chunk_bytes: int) -> Generator[bytes, None, None]:
        """Yield the current records without SOA in wire form, in parts of at most `chunk_bytes` or of one record.

        A caller that stops early must close the generator. Until then, memory that the zone no longer uses is kept.
        """
        snapshot = self._table.snapshot()
        return _parts(snapshot.read, snapshot.close, chunk_bytes)

    def text(self) -> Iterator[str]:
        """Yield the lines of the zone as a master file, the SOA first and the rest in no certain order."""
        if not self.serial:
            return
        yield _line(self.origin, Record("SOA", *self._soa_data()))
        for part in self.transfer(1 << 16):
            for name, record in parse_records(part, self.origin):
                yield _line(name, record)

    def _change(self, content: Content, *, whole: bool) -> list[str]:
        table = self._table
        problems: list[str] = []
        table.record(HISTORY_BYTES if self.serial else 0)
        if whole:
            table.begin()
        changed = table.put_all(groups(content, self.origin), problems)
        soa = self._soa
        records = content.get(self.origin)
        if records is not None:
            given = [record for record in records if record.type == "SOA"]
            rest = tuple(record for record in records if record.type != "SOA")
            changed += table.put_all([((self.origin,), WHOLE, rest)], problems)
            if len(given) == 1:
                soa = given[0]
            else:
                problems.append(f"{self.origin}: expected one SOA record, got {len(given)}")
        if whole:
            changed += table.sweep()
        if soa is not None and (changed or soa != self._soa):
            self._advance(soa)
        table.record(0)
        return problems

    def _advance(self, soa: Record) -> None:
        """Set a new serial, and add the change to the history."""
        _, rdata = encode("SOA", soa.data)
        old_serial, old_soa = self.serial, self.soa
        self.serial = next_serial(old_serial, self._clock())
        rdata = rdata[:-20] + self.serial.to_bytes(4, "big") + rdata[-16:]
        self._table.set_soa(soa.ttl, rdata)
        self._soa = soa
        self.soa = _POINTER + _HEAD.pack(dns.rdatatype.SOA, dns.rdataclass.IN, soa.ttl, len(rdata)) + rdata
        if not old_serial:
            return
        found = self._table.recorded_difference()
        if found is None:
            self._history.clear()
            self._history_bytes = 0
            return
        difference = Difference(old_serial, self.serial, old_soa, self.soa, *found)
        self._history.append(difference)
        self._history_bytes += _size(difference)
        while self._history_bytes > HISTORY_BYTES or len(self._history) > HISTORY_CHANGES:
            self._history_bytes -= _size(self._history.popleft())

    def _soa_data(self) -> tuple[int, str]:
        data = self.soa[2 + _HEAD.size :]
        return _HEAD.unpack_from(self.soa, 2)[2], _shown(dns.rdatatype.SOA, data)


def encode(kind: str, data: str) -> tuple[int, bytes]:
    """Encode record data in master file format. Returns the type number and the wire form, names in lower case.

    Raises ValueError with one line of text.
    """
    try:
        number = dns.rdatatype.from_text(kind)
        parsed = dns.rdata.from_text(dns.rdataclass.IN, number, data, relativize=False)
        return int(number), parsed.to_digestable()
    except (dns.exception.DNSException, ValueError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{kind} {data[:80]!r}: {text}") from None


def parse_records(wire: bytes, origin: str) -> Iterator[tuple[str, Record]]:
    """Parse the wire form that `Zone.transfer` and `Difference` contain. Yields (owner name, record)."""
    at = 0
    while at < len(wire):
        labels = []
        while wire[at] < _POINTER[0]:
            labels.append(wire[at + 1 : at + 1 + wire[at]].decode("ascii"))
            at += 1 + wire[at]
        kind, _, ttl, size = _HEAD.unpack_from(wire, at + 2)
        at += 2 + _HEAD.size
        yield (
            ".".join([*labels, origin]) if origin != "." else ".".join([*labels, ""]) or ".",
            _record(kind, ttl, wire[at : at + size]),
        )
        at += size


def _parts(
    read: Callable[[int], tuple[int, bytes]], close: Callable[[], None], chunk_bytes: int
) -> Generator[bytes, None, None]:
    try:
        while (part := read(chunk_bytes))[0]:
            yield part[1]
    finally:
        close()


def _size(difference: Difference) -> int:
    return len(difference.removed) + len(difference.added)


def _record(kind: int, ttl: int, rdata: bytes) -> Record:
    return Record(_type_name(kind), ttl, _shown(kind, rdata))


def _shown(kind: int, rdata: bytes) -> str:
    """Return record data in master file format. The frequent types are formatted here, since dnspython is slow."""
    if kind == dns.rdatatype.A:
        return socket.inet_ntoa(rdata)
    if kind in _NAMES and (name := _plain_name(rdata, 0)):
        return name
    if kind == dns.rdatatype.SRV and (name := _plain_name(rdata, 6)):
        priority, weight, port = _SRV.unpack_from(rdata)
        return f"{priority} {weight} {port} {name}"
    if kind == dns.rdatatype.TXT and rdata[0] + 1 == len(rdata) and _PLAIN_TEXT.fullmatch(rdata, 1):
        return f'"{rdata[1:].decode()}"'
    return _parsed(kind, rdata)


def _plain_name(rdata: bytes, at: int) -> str:
    """Return the name at an offset, or "" if it has characters that need escapes."""
    labels = []
    while rdata[at]:
        label = rdata[at + 1 : at + 1 + rdata[at]]
        if not _PLAIN_LABEL.fullmatch(label):
            return ""
        labels.append(label.decode())
        at += 1 + rdata[at]
    return ".".join([*labels, ""])


@lru_cache(maxsize=256)
def _type_name(kind: int) -> str:
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind))


@lru_cache(maxsize=4096)
def _parsed(kind: int, rdata: bytes) -> str:
    parsed = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(kind), rdata, 0, len(rdata))
    return parsed.to_text()


def _line(name: str, record: Record) -> str:
    return f"{name}\t{record.ttl}\tIN\t{record.type}\t{record.data}"
