"""Zones in native memory, and the thread that answers from them.

One thread at a time changes zones (the GIL sees to it); answers are given meanwhile.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from typing_extensions import Buffer

class HandOver(Exception):  # noqa: N818 - no error: the query is somebody else's
    """A transfer, update, notification or signed query: not for the native part to answer."""

class HasFileno(Protocol):
    def fileno(self) -> int: ...

class Zones:
    """The zones that are answered from."""

    def add(self, origin: str, encode: Callable[[str, str], tuple[int, bytes]]) -> ZoneTable:
        """A new, empty zone; until it has a SOA record the answer is SERVFAIL. ValueError: no name, or there already.

        `encode` turns (type, data) as in a master file into (type, wire form) where the native part does not do it
        itself; ValueError with one line where it cannot be done.
        """
    def remove(self, table: ZoneTable) -> None: ...
    def answer(self, query: Buffer, *, udp: bool) -> bytes | None:
        """The answer to a message; None when there is none to be given. Raises HandOver.

        Over UDP it fits what the query's EDNS says, at most 1232 octets, else 65535; what does not fit is truncated.
        """

class ZoneTable:
    """The content of one zone, changed name by name while it is answered from. Made by Zones.add."""

    zones: Zones
    origin: str
    record_count: int
    """Records, without SOA."""

    def put(self, owner: str, records: tuple[tuple[str, int, str], ...]) -> bool:
        """Make these the records of a name (none removes it): (type, TTL in seconds, data as in a master file). Whether
        that changed anything. ValueError with one line: they cannot be, and the name stays as it is.

        Equal ones count once; of differing TTLs in a set the least holds. No SOA, no NS below the zone's name, no
        wildcard, no DNAME, no record above 8192 octets, no CNAME beside others.
        """
    def put_all(
        self,
        groups: Iterable[tuple[Collection[str], Collection[str], tuple[tuple[str, int, str], ...]]],
        problems: list[str],
    ) -> int:
        """The same for many names: each of the first, with each of the second behind it, has the records. The number of
        names changed. What cannot be is left as it is, its line appended.
        """
    def begin(self) -> None:
        """Forget which names were put."""
    def sweep(self) -> int:
        """Remove every name that was not put since `begin`; the number of records removed."""
    def set_soa(self, ttl: int, rdata: bytes) -> None:
        """The SOA record, its data in wire form without compression."""
    def get(self, owner: str) -> list[tuple[int, int, bytes]]:
        """The records of a name, without SOA: (type, TTL, data in wire form), in order."""
    def record(self, max_bytes: int) -> None:
        """Begin to note what changes, as far as that needs no more memory than this; 0: no longer."""
    def recorded_difference(self) -> tuple[int, bytes, int, bytes] | None:
        """What changed since `record`: number and wire form of the records removed, and of those added; None when it
        was too much. Their owners end in a pointer to octet 12: they fit a message whose question is the zone's name.
        """
    def snapshot(self) -> Snapshot:
        """The records of this moment. OSError when too many snapshots are open."""

class Snapshot:
    """The records of a zone at one moment, without SOA, to be read in parts while it changes.

    What the zone drops in the meantime keeps its memory until the snapshot is closed.
    """

    def read(self, limit: int) -> tuple[int, bytes]:
        """The next records, owners as in a difference: as many as fit into `limit` octets, but at least one. Number and
        wire form; (0, b"") at the end.
        """
    def close(self) -> None: ...

class Query:
    """A message handed over by a responder."""

    wire: bytes
    source: tuple[str, int]
    """Address, with the scope where it has one, and port."""

class Responder:
    """A thread that answers what comes to bound UDP sockets; the sockets are duplicated.

    Limits hold for a source (IPv4 /24, IPv6 /56; not loopback), with a burst of two seconds: responses of one answer,
    and octets by which answers are longer than their queries. 0: no limit. Of what is over a limit every `slip`-th
    query is told to come by TCP, the others get no answer; 0: none does.
    """

    def __init__(
        self,
        zones: Zones,
        sockets: Sequence[HasFileno],
        *,
        responses_per_second: int,
        excess_bytes_per_second: int,
        slip: int,
    ) -> None: ...
    def fileno(self) -> int:
        """Readable while `take` has anything to give."""
    def take(self) -> Query | None:
        """A message that the thread does not answer; at most 1024 wait."""
    def reply(self, query: Query, message: bytes) -> None:
        """Send the answer, from the address that the query was sent to. OSError when the kernel does not take it."""
    def counters(self) -> dict[str, int]:
        """queries: datagrams received; handed: to `take`; handed_lost: too many waited; truncated: answers that did not
        fit; limited: over a limit, not answered; slipped: over a limit, told to come by TCP; ignored: no queries, or
        above 4096 octets; unsent: the kernel did not take the answer.
        """
    def responses(self) -> dict[str, int]:
        """Answers by RCODE."""
    def close(self) -> None:
        """Stop the thread."""
