"""Who may transfer zones."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import dns.name

from pymon.dns.options import DnsOptions, Source
from pymon.peer import plain_address


class TransferPolicy:
    """Those whose address is in a list. signed: with a signature too, by the key that stands beside the address."""

    def __init__(self, sources: Iterable[Source], *, signed: bool) -> None:
        self._sources = tuple(sources)
        self._signed = signed

    def allows(self, peer: str, key: dns.name.Name | None) -> bool:
        """Whether the peer, whose request is signed with this key, may."""
        if self._signed and key is None:
            return False
        address = ipaddress.ip_address(plain_address(peer.partition("%")[0]))
        return any(
            address in source.network
            for source in self._sources
            if source.network.version == address.version and source.key in {None, key}
        )


def transfer_policy(options: DnsOptions) -> TransferPolicy:
    """That of the options."""
    secondaries = (Source(ipaddress.ip_network(item.address.host), item.key) for item in options.secondaries)
    return TransferPolicy((*secondaries, *options.transfer_from), signed=options.keys is not None)
