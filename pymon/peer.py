"""Addresses of peers: their usual text, and the key by which limits count them. Does no I/O."""

from __future__ import annotations

import ipaddress
import socket

_IPV6_PREFIX_BYTES = 8
_MAPPED_IPV4 = bytes(10) + b"\xff\xff"


def plain_address(address: str) -> str:
    """Return an address in its shortest form. An IPv4-mapped address, as an IPv6 socket gives it, becomes IPv4.

    A text that is not an address is returned unchanged.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def source_of(address: str) -> str:
    """Return the key for limits of one source: the IPv4 address, or the /64 of an IPv6 address.

    An IPv4-mapped address counts as IPv4. A text that is not an address is returned unchanged.
    """
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL
        return address
    if packed.startswith(_MAPPED_IPV4):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED_IPV4) :])
    return f"{packed[:_IPV6_PREFIX_BYTES].hex()}::/64"
