"""The access list for zone transfers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import dns.name

from pymon.dns.options import DnsOptions, Source
from pymon.peer import plain_address


class TransferPolicy:
    """Allows a transfer to a peer whose address is in a list of sources.

    signed: the request must also be signed. A source that names a key allows only that key.
    """

    def __init__(self, sources: Iterable[Source], *, signed: bool) -> None:
        self._sources = tuple(sources)
        self._signed = signed

    def allows(self, peer: str, key: dns.name.Name | None) -> bool:
        """Return whether a peer may transfer zones. key: the name of the TSIG key of its request, None if unsigned."""
        if self._signed and key is None:
            return False
        address = ipaddress.ip_address(plain_address(peer.partition("%")[0]))
        return any(
            address in source.network
            for source in self._sources
            if source.network.version == address.version and source.key in {None, key}
        )


def transfer_policy(options: DnsOptions) -> TransferPolicy:
    """Return the policy that the options describe: all secondaries, and the sources of ``dns.transfer-from``."""
    secondaries = (Source(ipaddress.ip_network(item.address.host), item.key) for item in options.secondaries)
    return TransferPolicy((*secondaries, *options.transfer_from), signed=options.keys is not None)
