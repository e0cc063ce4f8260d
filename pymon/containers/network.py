"""Addresses and ports of a container, as its runtime tells them. Others than a host can have are left out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from itertools import islice

from .files import mapping, text

LIMIT = 64
"""The most addresses, and the most ports, that are taken. No more are looked at."""

_PORT = re.compile(r"([1-9][0-9]{0,4})/(tcp|udp|sctp)")
_MAX_PORT = 65535


def addresses(settings: object) -> tuple[str, ...]:
    """Return the addresses in `NetworkSettings` of a document of Docker: those of each network, IPv4 first."""
    networks = islice(mapping(mapping(settings).get("Networks")).values(), LIMIT)
    ends = [mapping(network) for network in networks]
    told = (text(end.get(key)) for key in ("IPAddress", "GlobalIPv6Address") for end in ends)
    return tuple(dict.fromkeys(filter(None, map(_address, told))))[:LIMIT]


def ports(settings: object) -> tuple[str, ...]:
    """Return the ports that a container offers, such as `80/tcp`, in `NetworkSettings` of a document of Docker."""
    return checked_ports(mapping(mapping(settings).get("Ports")))


def checked_ports(told: Iterable[object]) -> tuple[str, ...]:
    """Return what is a port among the first of some texts, sorted by number."""
    found = (_PORT.fullmatch(one) for one in islice(told, LIMIT) if isinstance(one, str))
    pairs = {(int(port[1]), port[2]) for port in found if port is not None and int(port[1]) <= _MAX_PORT}
    return tuple(f"{number}/{protocol}" for number, protocol in sorted(pairs))


def _address(told: str) -> str:
    """Return an address as RFC 5952 spells it, "" if it is none that another host can reach."""
    try:
        found = ip_address(told)
    except ValueError:
        return ""
    if "%" in told or found.is_loopback or found.is_link_local or found.is_multicast or found.is_unspecified:
        return ""
    return str(found)
