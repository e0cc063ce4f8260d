"""Which addresses are published, and their names in reverse zones (RFC 1035 §3.5, RFC 3596 §2.5)."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from itertools import combinations

from pymon.config import shown
from pymon.host_address import of_a_host, packed

MAX_ADDRESSES = 16
"""Limit for one instance. The limit is needed because root in a container can set any number of addresses."""

_IPV4_BYTES = 4
_IPV4_LONGEST_PREFIX = 24


def shown_address(address: bytes) -> str:
    """Return the text of a packed address of 4 or 16 bytes, IPv6 as in RFC 5952."""
    return socket.inet_ntop(socket.AF_INET if len(address) == _IPV4_BYTES else socket.AF_INET6, address)


def published(addresses: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses of an instance that go into DNS, and one line for each problem with the others.

    The addresses are unique and sorted by number, IPv4 first.
    """
    if len(addresses) == 1:  # the common case
        address = packed(addresses[0])
        # An IPv4 address has only one accepted spelling, so it needs no conversion.
        if address is not None and len(address) == _IPV4_BYTES and of_a_host(address):
            return addresses, ()
    found = {text: address for text in addresses if (address := packed(text)) is not None and of_a_host(address)}
    refused = [text for text in addresses if text not in found]
    problems: tuple[str, ...] = ()
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        problems = (f"expected addresses of a host, got {shown(refused[0])}{more}",)
    ordered = sorted(set(found.values()), key=_order) if len(found) > 1 else found.values()
    texts = tuple(map(shown_address, ordered))
    if len(texts) > MAX_ADDRESSES:
        problems += (f"{len(texts)} addresses, {MAX_ADDRESSES} are in DNS",)
        texts = texts[:MAX_ADDRESSES]
    return addresses if texts == addresses else texts, problems


def _order(address: bytes) -> tuple[int, bytes]:
    return len(address), address


class ReverseZones:
    """The reverse zones of a set of prefixes.

    A prefix that does not end at a label boundary gets several zones: 172.16.0.0/12 gets 16.
    """

    def __init__(self, prefixes: Iterable[IPv4Network | IPv6Network]) -> None:
        """Raise ValueError if two prefixes overlap or an IPv4 prefix is longer than /24, which would need RFC 2317."""
        prefixes = tuple(prefixes)
        for one, other in combinations(prefixes, 2):
            if one.version == other.version and one.overlaps(other):
                raise ValueError(f"expected prefixes that do not overlap, got {one} and {other}")
        origins: dict[str, None] = {}
        below: tuple[set[int], set[int]] = (set(), set())
        for prefix in prefixes:
            ipv6 = prefix.version == 6  # noqa: PLR2004
            if not ipv6 and prefix.prefixlen > _IPV4_LONGEST_PREFIX:
                raise ValueError(f"expected an IPv4 prefix of at most {_IPV4_LONGEST_PREFIX} bits, got {prefix}")
            bits = 4 if ipv6 else 8
            labels = max(1, -(-prefix.prefixlen // bits))
            hosts = prefix.max_prefixlen // bits - labels
            below[ipv6].add(hosts)
            for zone in prefix.subnets(new_prefix=labels * bits):
                origins[_reverse_name(str(zone.network_address)).split(".", hosts)[hosts]] = None
        self.origins = tuple(origins)
        self._origins = frozenset(origins)
        self._below = tuple(map(tuple, below))

    def places(self, addresses: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return (zone, name) for each published address that is in one of the reverse zones."""
        found = []
        for address in addresses:
            below = self._below[":" in address]
            if below:
                name = _reverse_name(address)
                for labels in below:
                    origin = name.split(".", labels)[labels]
                    if origin in self._origins:
                        found.append((origin, name))
        return found


def _reverse_name(address: str) -> str:
    if ":" in address:
        return ".".join(socket.inet_pton(socket.AF_INET6, address).hex()[::-1]) + ".ip6.arpa."
    labels = address.split(".")
    labels.reverse()
    return ".".join(labels) + ".in-addr.arpa."
