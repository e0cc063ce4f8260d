"""The records of one name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import NamedTuple

from pymon.config import shown
from pymon.dns.addresses import packed, shown_address
from pymon.dns.entry import Entry
from pymon.dns.view import Proxy

TTL_SECONDS = 30
NS_TTL_SECONDS = 3600
REFRESH_SECONDS, RETRY_SECONDS, EXPIRE_SECONDS = 30, 60, 2_592_000

MAX_RECORDS = 100
"""Of one type for one name: BIND refuses zones with more (max-records-per-type), and no answer exceeds 64 KiB."""

NOWHERE = "invalid."
"""The name server of a zone while none is known: it has to have one, and this is never anybody's (RFC 6761)."""


class Record(NamedTuple):
    """A record of a name. data: as in a master file, names absolute. ttl: seconds. The serial of a SOA is 0 here."""

    type: str
    ttl: int
    data: str


_new = tuple.__new__  # a tuple's own does not go through Python code

Content = Mapping[str, tuple[Record, ...]]
"""What is in a zone, by absolute name in lower case."""


def apex(zone: str, servers: tuple[str, ...]) -> tuple[Record, ...]:
    """SOA and NS of a zone. zone: the forward zone."""
    times = f"0 {REFRESH_SECONDS} {RETRY_SECONDS} {EXPIRE_SECONDS} {TTL_SECONDS}"
    soa = Record("SOA", TTL_SECONDS, f"{servers[0]} hostmaster.{zone} {times}")
    return (soa, *(Record("NS", NS_TTL_SECONDS, name) for name in servers))


def instance(entry: Entry) -> tuple[Record, ...]:
    """Addresses of an instance, and its UUID as text."""
    text = _record("TXT", f'"{entry.uuid}"')
    if len(entry.addresses) == 1:  # as nearly all have
        data = entry.addresses[0]
        return _record("AAAA" if ":" in data else "A", data), text
    return (*(_record("AAAA" if ":" in data else "A", data) for data in entry.addresses), text)


def service(label: str, members: Sequence[Entry], inst: str) -> tuple[tuple[Record, ...], bool]:
    """Addresses and locations of a service (RFC 2782), and whether these are all. inst: what follows the UUIDs."""
    ipv4: dict[str, None] = {}
    ipv6: dict[str, None] = {}
    locations: list[str] = []
    for entry in members[:MAX_RECORDS]:
        for address in entry.addresses:
            (ipv6 if ":" in address else ipv4)[address] = None
        for name, port, priority, weight in entry.services.services:
            if name == label and port is not None:
                locations.append(f"{priority} {weight} {port} {entry.uuid}{inst}")
    made = (*_made("A", ipv4), *_made("AAAA", ipv6), *_made("SRV", locations))
    return made, max(len(members), len(ipv4), len(ipv6), len(locations)) <= MAX_RECORDS


class Service(NamedTuple):
    """What the records of a service are made of, at one moment."""

    label: str
    members: tuple[Entry, ...]
    inst: str

    def records(self) -> tuple[Record, ...]:
        """Its records then."""
        return service(self.label, self.members, self.inst)[0]


def is_large(members: list[Entry]) -> bool:
    """Whether a service of these may have more records of a type than are in DNS."""
    if len(members) > MAX_RECORDS:
        return True
    addresses = services = 0
    for entry in members:
        addresses += len(entry.addresses)
        services += len(entry.services.services)
    return max(addresses, services) > MAX_RECORDS


def proxies(alive: tuple[Proxy, ...]) -> tuple[tuple[Record, ...], list[str]]:
    """Addresses of proxies, and why there are no more. Loopback is one where all runs on one machine."""
    found: set[bytes] = set()
    problems = []
    for proxy in alive:
        for text in proxy.addresses:
            address = packed(text)
            if address is not None and any(address):
                found.add(address)
            else:
                problems.append(f"proxy {proxy.name}: expected an address that reaches it, got {shown(text)}")
    ordered = list(map(shown_address, sorted(found)))
    ipv4, ipv6 = ([text for text in ordered if (":" in text) is wanted] for wanted in (False, True))
    if max(len(ipv4), len(ipv6)) > MAX_RECORDS:
        problems.append(f"{len(ordered)} addresses of proxies, at most {MAX_RECORDS} of a type are in DNS")
    return (*_made("A", ipv4), *_made("AAAA", ipv6)), problems


def _record(type: str, data: str) -> Record:
    return _new(Record, (type, TTL_SECONDS, data))


def _made(type: str, data: Iterable[str]) -> Iterator[Record]:
    return map(_record, repeat(type), islice(data, MAX_RECORDS))
