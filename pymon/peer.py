"""The address of a peer: as people write it, and who counts as one source. Pure."""

from __future__ import annotations

import ipaddress
import socket

_IPV6_PREFIX_BYTES = 8
_MAPPED_IPV4 = bytes(10) + b"\xff\xff"


def plain_address(address: str) -> str:
    """An address in its shortest form, IPv4 as such where an IPv6 socket took it. What is none stays as it is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def source_of(address: str) -> str:
    """Who counts as one source: an IPv4 address however it is written, the /64 of an IPv6 address, or else the text."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL in it
        return address
    if packed.startswith(_MAPPED_IPV4):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED_IPV4) :])
    return f"{packed[:_IPV6_PREFIX_BYTES].hex()}::/64"
