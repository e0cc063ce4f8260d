"""What the records are made of. UUIDs are text in lower case; a name of a zone may be written as people do."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple


class Instance(NamedTuple):
    """A container.

    alias: the name its runtime has for it. account: UUID of the owner, None without one. down: marked as not to be
    used. addresses: in any order; those it had last when it does not run. services: its ``triton.cns.services`` label.
    hidden: it has no name but the one in ``.cmon``. reverse_ptr: the host name in its PTR records, where that is none
    of its own.
    """

    uuid: str
    alias: str
    account: str | None
    account_name: str
    running: bool
    down: bool
    addresses: tuple[str, ...]
    services: str
    hidden: bool = False
    reverse_ptr: str = ""


class Proxy(NamedTuple):
    """A proxy that is alive, and the addresses at which others reach it."""

    name: str
    addresses: tuple[str, ...]


class View(NamedTuple):
    """All that is known. Of instances with one UUID the last counts.

    zone: the forward zone. nodes: UUIDs. reverse: prefixes whose addresses get PTR records. name_servers: names of the
    zones' servers where these are not the proxies themselves; they must be outside the zone.
    """

    zone: str
    instances: Iterable[Instance] = ()
    nodes: Iterable[str] = ()
    proxies: tuple[Proxy, ...] = ()
    reverse: tuple[IPv4Network | IPv6Network, ...] = ()
    name_servers: tuple[str, ...] = ()


class Problem(NamedTuple):
    """Something that is not in DNS as asked for. uuid: of the instance or the account; empty for the zone itself."""

    uuid: str
    text: str
