"""Tells IP addresses of single hosts from special ones such as loopback and multicast."""

from __future__ import annotations

import socket

_IPV4_BYTES = 4
_MULTICAST = 224
_LINK_LOCAL = b"\xa9\xfe"
_IPV6_LINK_LOCAL, _IPV6_MULTICAST = 0xFE80, 0xFF00
_LINK_LOCAL_BITS, _MULTICAST_BITS = 0xFFC0, 0xFF00
_WITHOUT_HOSTS = tuple(
    socket.inet_pton(socket.AF_INET6, prefix)[:12]
    for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0")  # unspecified, loopback and compatible; mapped; translated
)
_NAT64 = socket.inet_pton(socket.AF_INET6, "64:ff9b::")[:12]
_6TO4 = b"\x20\x02"


def packed(text: str) -> bytes | None:
    """Return the 4 or 16 bytes of an address, None if the text is not an IP address."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL or a character beyond ASCII
        return None


def is_host_address(text: str) -> bool:
    """Return whether a text is the IP address of a single host."""
    address = packed(text)
    return address is not None and of_a_host(address)


def of_a_host(address: bytes) -> bool:
    """Return whether a packed address is that of a single host.

    Loopback, link-local, unspecified, multicast, reserved and broadcast addresses are not, nor are IPv6 forms of such
    IPv4 addresses (RFC 4291 §2.5.5, RFC 6052 §2.1, RFC 3056 §2), nor any IPv4-mapped address.
    """
    if len(address) == _IPV4_BYTES:
        return address[0] not in {0, 127} and address[0] < _MULTICAST and not address.startswith(_LINK_LOCAL)
    first = int.from_bytes(address[:2], "big")
    if first & _LINK_LOCAL_BITS == _IPV6_LINK_LOCAL or first & _MULTICAST_BITS == _IPV6_MULTICAST:
        return False
    if first == 0:
        return address[:12] not in _WITHOUT_HOSTS
    if address.startswith(_NAT64):
        return of_a_host(address[12:])
    if address.startswith(_6TO4):
        return of_a_host(address[2:6])
    return True
