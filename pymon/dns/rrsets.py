"""The records that a name has: that of a zone, an instance, a service, an address or a proxy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import NamedTuple

from pymon.config import shown
from pymon.dns.addresses import shown_address
from pymon.dns.entry import Entry
from pymon.dns.view import Proxy
from pymon.host_address import packed

TTL_SECONDS = 30
PROXY_TTL_SECONDS = 5
"""The TTL of the addresses of proxies, so that clients soon leave one that ended."""

NS_TTL_SECONDS = 3600
REFRESH_SECONDS, RETRY_SECONDS, EXPIRE_SECONDS = 30, 60, 2_592_000

MAX_RECORDS = 100
"""Limit per type and name. BIND refuses zones with more (max-records-per-type), and it keeps answers below 64 KiB."""

NOWHERE = "invalid."
"""The name server of a zone while none is known. A zone must have one, and this name never exists (RFC 6761)."""


class Record(NamedTuple):
    """A record of a name. data: in master file format, with absolute names. ttl: seconds. The serial of a SOA is 0."""

    type: str
    ttl: int
    data: str


_new = tuple.__new__  # faster than Record(), which runs Python code

Content = Mapping[str, tuple[Record, ...]]
"""The content of a zone: absolute name in lower case -> records."""


def apex(zone: str, servers: tuple[str, ...]) -> tuple[Record, ...]:
    """Return the SOA and NS records of a zone. zone: the forward zone. servers: its name servers, at least one."""
    times = f"0 {REFRESH_SECONDS} {RETRY_SECONDS} {EXPIRE_SECONDS} {TTL_SECONDS}"
    soa = Record("SOA", TTL_SECONDS, f"{servers[0]} hostmaster.{zone} {times}")
    return (soa, *(Record("NS", NS_TTL_SECONDS, name) for name in servers))


def instance(entry: Entry) -> tuple[Record, ...]:
    """Return the address records of an instance, then a TXT record with its UUID."""
    text = _record("TXT", f'"{entry.uuid}"')
    if len(entry.addresses) == 1:  # the common case
        data = entry.addresses[0]
        return _record("AAAA" if ":" in data else "A", data), text
    return (*(_record("AAAA" if ":" in data else "A", data) for data in entry.addresses), text)


def service(label: str, members: Sequence[Entry], inst: str) -> tuple[tuple[Record, ...], bool]:
    """Return the address and SRV records of a service (RFC 2782), and whether these are all records.

    inst: the suffix after the UUID in the target of an SRV record.
    """
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
    """A snapshot of a service, from which its records can be made later. inst: the suffix after a UUID."""

    label: str
    members: tuple[Entry, ...]
    inst: str

    def records(self) -> tuple[Record, ...]:
        """Return the records that the service had at the time of the snapshot."""
        return service(self.label, self.members, self.inst)[0]


def is_large(members: list[Entry]) -> bool:
    """Return whether a service with these members may exceed `MAX_RECORDS` records of a type."""
    if len(members) > MAX_RECORDS:
        return True
    addresses = services = 0
    for entry in members:
        addresses += len(entry.addresses)
        services += len(entry.services.services)
    return max(addresses, services) > MAX_RECORDS


def proxies(alive: tuple[Proxy, ...]) -> tuple[tuple[Record, ...], list[str]]:
    """Return the address records of proxies, and one line for each problem.

    Loopback addresses are accepted for installations on one machine.
    """
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
    made = (*_made("A", ipv4), *_made("AAAA", ipv6))
    return tuple(record._replace(ttl=PROXY_TTL_SECONDS) for record in made), problems


def _record(type: str, data: str) -> Record:
    return _new(Record, (type, TTL_SECONDS, data))


def _made(type: str, data: Iterable[str]) -> Iterator[Record]:
    return map(_record, repeat(type), islice(data, MAX_RECORDS))
