"""Zones in native memory, and the thread that answers queries about them.

One thread at a time changes zones, which the GIL ensures. Queries are answered at the same time.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from typing_extensions import Buffer

class HandOver(Exception):  # noqa: N818 - not an error: the query is for the Python part
    """Raised for a transfer, update, notification or signed query, which the native part does not answer."""

class HasFileno(Protocol):
    def fileno(self) -> int: ...

class Zones:
    """A set of zones."""

    def add(self, origin: str, encode: Callable[[str, str], tuple[int, bytes]]) -> ZoneTable:
        """Add an empty zone and return it. Until it has a SOA record, queries for it get SERVFAIL.

        encode: converts (type, data in master file format) to (type number, wire form), for types that the native part
        does not parse; raises ValueError with one line. Raises ValueError if the name is not valid or exists already.
        """
    def remove(self, table: ZoneTable) -> None: ...
    def answer(self, query: Buffer, *, udp: bool) -> bytes | None:
        """Return the answer to a message, None if there is none. Raises HandOver.

        An answer has at most 65535 octets. Over UDP the limit is that of the query's EDNS, and at most 1232 octets. A
        longer answer is truncated.
        """

class ZoneTable:
    """The content of one zone, which is changed name by name while queries are answered. Created by Zones.add."""

    zones: Zones
    origin: str
    record_count: int
    """The number of records, without SOA."""

    def put(self, owner: str, records: tuple[tuple[str, int, str], ...]) -> bool:
        """Set the records of a name; () removes it. Returns whether anything changed.

        records: (type, TTL in seconds, data in master file format). Duplicates are removed, and a record set gets the
        smallest of its TTLs. Raises ValueError with one line, and leaves the name unchanged, for a SOA, an NS below the
        zone's name, a wildcard, a DNAME, a record above 8192 octets, and a CNAME with other records.
        """
    def put_all(
        self,
        groups: Iterable[tuple[Collection[str], Collection[str], tuple[tuple[str, int, str], ...]]],
        problems: list[str],
    ) -> int:
        """Set the records of many names. Returns the number of changed names.

        groups: (labels, suffixes, records); the names are each label followed by each suffix. problems: gets one line
        for each name that cannot have its records; such a name is not changed.
        """
    def begin(self) -> None:
        """Start a replacement of the whole content: no name counts as set."""
    def sweep(self) -> int:
        """Remove every name that was not set since `begin`. Returns the number of removed records."""
    def set_soa(self, ttl: int, rdata: bytes) -> None:
        """Set the SOA record. rdata: wire form without compression."""
    def get(self, owner: str) -> list[tuple[int, int, bytes]]:
        """Return the records of a name in order, without SOA: (type number, TTL, data in wire form)."""
    def record(self, max_bytes: int) -> None:
        """Start to record changes, in at most `max_bytes` of memory; 0 stops it."""
    def recorded_difference(self) -> tuple[int, bytes, int, bytes] | None:
        """Return the changes since `record`, None if they exceeded its limit.

        They are number and wire form of the removed records, and of the added records. Owner names end in a pointer to
        offset 12, so the records can be copied into a message whose question is the zone's name.
        """
    def snapshot(self) -> Snapshot:
        """Return a snapshot of the current records. Raises OSError if too many snapshots are open."""

class Snapshot:
    """The records of a zone at one time, without SOA. It can be read in parts while the zone changes.

    Until it is closed, memory that the zone no longer uses is kept.
    """

    def read(self, limit: int) -> tuple[int, bytes]:
        """Return number and wire form of the next records, (0, b"") at the end.

        There are as many as fit into `limit` octets, but at least one. Owner names are as in a difference.
        """
    def close(self) -> None: ...

class Query:
    """A message that a responder has handed over."""

    wire: bytes
    source: tuple[str, int]
    """Address, with its scope if it has one, and port."""

class Responder:
    """A thread that answers queries on bound UDP sockets. The sockets are duplicated.

    responses_per_second: limit of equal answers to one source, 0 for none. A source is an IPv4 /24 or an IPv6 /56.
    Loopback is not limited. excess_bytes_per_second: limit of answer octets minus query octets for one source, 0 for
    none. handed_per_second: limit of messages that are handed over, for each IPv4 address or IPv6 /56, with loopback.
    All limits allow a burst of two seconds. slip: one in this many limited queries gets a truncated answer, the others
    get none; 0 for no truncated answers.
    """

    def __init__(
        self,
        zones: Zones,
        sockets: Sequence[HasFileno],
        *,
        responses_per_second: int,
        excess_bytes_per_second: int,
        handed_per_second: int,
        slip: int,
    ) -> None: ...
    def fileno(self) -> int:
        """Return a descriptor that is readable while `take` has messages."""
    def take(self) -> Query | None:
        """Return the next message that was handed over, None if there is none. The queue has at most 1024 messages."""
    def reply(self, query: Query, message: bytes) -> None:
        """Send the answer from the address that the query was sent to. Raises OSError."""
    def counters(self) -> dict[str, int]:
        """Return counts of messages.

        queries: datagrams received. handed: handed over. handed_lost: dropped because the queue was full. truncated:
        answers that did not fit. limited: dropped because of a limit. slipped: truncated answers because of a limit.
        ignored: not queries. unsent: answers that the kernel did not accept.
        """
    def responses(self) -> dict[str, int]:
        """Return RCODE -> number of answers."""
    def close(self) -> None:
        """Stop the thread."""
