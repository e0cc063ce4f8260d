"""The input of the DNS records. UUIDs are text in lower case. Zone names need no final dot and no certain case."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from pymon.inventory_document import Container


class Instance(NamedTuple):
    """A container as its node reports it, and its owner.

    account: UUID of the owner, None without one. account_name: "" if another account has its DNS label.
    """

    container: Container
    account: str | None
    account_name: str


class Proxy(NamedTuple):
    """A proxy that is alive. addresses: at which clients reach it."""

    name: str
    addresses: tuple[str, ...]


class View(NamedTuple):
    """Everything from which the zones are made. If two instances have the same UUID, the last one counts.

    zone: the forward zone. nodes: UUIDs. reverse: networks whose addresses get PTR records. reverse_ptr_allow: names
    that the PTR records of any instance may point to, with all names below them. name_servers: names of the zones'
    servers, outside the zone; empty for the proxies themselves.
    """

    zone: str
    instances: Iterable[Instance] = ()
    nodes: Iterable[str] = ()
    proxies: tuple[Proxy, ...] = ()
    reverse: tuple[IPv4Network | IPv6Network, ...] = ()
    name_servers: tuple[str, ...] = ()
    reverse_ptr_allow: tuple[str, ...] = ()


class Problem(NamedTuple):
    """A request that DNS does not fulfil. uuid: of the instance or the account, "" for the zone. text: one line."""

    uuid: str
    text: str
