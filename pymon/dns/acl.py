"""Who may transfer zones."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import dns.name

from pymon.dns.options import DnsOptions, Source

_IPV6_SOURCE_BITS = 64


class TransferPolicy:
    """Those whose address is in a list. signed: with a signature too, by the key that stands beside the address."""

    def __init__(self, sources: Iterable[Source], *, signed: bool) -> None:
        self._sources = tuple(sources)
        self._signed = signed

    def allows(self, peer: str, key: dns.name.Name | None) -> bool:
        """Whether the peer, whose request is signed with this key, may."""
        if self._signed and key is None:
            return False
        address = plain_address(peer)
        return any(
            address in source.network
            for source in self._sources
            if source.network.version == address.version and source.key in {None, key}
        )


def transfer_policy(options: DnsOptions) -> TransferPolicy:
    """That of the options."""
    secondaries = (Source(ipaddress.ip_network(item.address.host), item.key) for item in options.secondaries)
    return TransferPolicy((*secondaries, *options.transfer_from), signed=options.keys is not None)


def plain_address(peer: str) -> IPv4Address | IPv6Address:
    """A peer's address without its scope; IPv4 as such where an IPv6 socket took it."""
    address = ipaddress.ip_address(peer.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def source_of(peer: str) -> str:
    """Who counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    address = plain_address(peer)
    if isinstance(address, IPv4Address):
        return str(address)
    return f"{int(address) >> _IPV6_SOURCE_BITS:016x}::/{_IPV6_SOURCE_BITS}"
