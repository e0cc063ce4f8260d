"""What an agent answers to ``GET /v1/containers``, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

import msgspec
from msgspec.structs import force_setattr

MAX_CONTAINERS = 100_000
"""An inventory with more is no node's."""

_MAX_START_SECONDS = 1e11
_GROUPS_LIMIT = 100
_ADDRESSES_LIMIT = 64
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)


class Container(msgspec.Struct, frozen=True, gc=False):
    """A container as its agent tells of it. start: seconds since the epoch. owner: an account's name or UUID.
    addresses: IPv4 and IPv6, as RFC 5952 spells them; an agent of an earlier version tells of none. cns_*: the labels
    ``triton.cns.*``, None without one.
    """

    uuid: str
    id: str
    name: str
    runtime: str
    runtime_id: str
    image: str
    start: float
    owner: str | None
    state: str
    health: str
    groups: tuple[str, ...]
    services: str
    namespace: str
    pod: str
    pod_id: str
    addresses: tuple[str, ...] = ()
    cns_status: str | None = None
    cns_disable: str | None = None
    cns_reverse_ptr: str | None = None


class _NodeDocument(msgspec.Struct, gc=False):
    uuid: str
    hostname: str


class _Document(msgspec.Struct):
    node: _NodeDocument
    containers: list[Container]


class Inventory(NamedTuple):
    """A document that was checked. refused: containers left out, as they have no UUID, no possible start, or one UUID
    with another of this node.
    """

    uuid: str
    hostname: str
    containers: Mapping[str, Container]
    refused: int = 0


_COMMON = ("runtime", "image", "owner", "state", "health", "groups", "services", "namespace", "pod")

_decode = msgspec.json.Decoder(_Document).decode


def decode_inventory(body: bytes) -> Inventory:
    """The inventory that an agent's ``GET /v1/containers`` answers; ValueError with one line when it is none."""
    try:
        document = _decode_text(body)
    except RecursionError:
        raise ValueError("expected an inventory, got JSON nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"expected an inventory: {' '.join(str(error).split())}") from None
    uuid = document.node.uuid.lower()
    if not _UUID.fullmatch(uuid):
        raise ValueError("expected an inventory: the node's uuid is none")
    if len(document.containers) > MAX_CONTAINERS:
        raise ValueError(f"expected an inventory of at most {MAX_CONTAINERS} containers")
    containers: dict[str, Container] = {}
    for found in document.containers:
        container = checked(found)
        if container is None:
            continue
        known = containers.setdefault(container.uuid, container)
        if known.start < container.start:
            containers[container.uuid] = container
    return Inventory(uuid, document.node.hostname, containers, len(document.containers) - len(containers))


def _decode_text(body: bytes) -> _Document:
    """Python writes the bytes of a path that are not UTF-8 as lone surrogates, which are valid JSON and no text. Users
    choose such paths, so they must not spoil the inventory of a node.
    """
    try:
        return _decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if b"\0" in body or not _LONE_SURROGATE.search(body):
            raise
    # With escaped backslashes out of the way every backslash begins an escape. NUL cannot stand in JSON.
    return _decode(_LONE_SURROGATE.sub(rb"\\ufffd", body.replace(b"\\\\", b"\0")).replace(b"\0", b"\\\\"))


def checked(found: Container) -> Container | None:
    """A container in the form that others rely on; None when it cannot be one."""
    uuid, owner, groups, addresses = found.uuid, found.owner, found.groups, found.addresses
    if not 0 <= found.start < _MAX_START_SECONDS:
        return None
    if not _UUID.fullmatch(uuid):
        uuid = uuid.lower() if uuid.isascii() else ""
        if not _UUID.fullmatch(uuid):
            return None
    if owner is not None and owner.isascii():  # lower() turns some other letters into ASCII ones
        owner = owner.lower()
    if groups:
        groups = tuple(dict.fromkeys(group for group in groups if _GROUP.fullmatch(group)))[:_GROUPS_LIMIT]
    if addresses:
        addresses = tuple(dict.fromkeys(filter(None, map(_address, addresses))))[:_ADDRESSES_LIMIT]
    if uuid == found.uuid and owner == found.owner and groups == found.groups and addresses == found.addresses:
        return found
    return msgspec.structs.replace(found, uuid=uuid, owner=owner, groups=groups, addresses=addresses)


def share(container: Container) -> None:
    """Let a container that is kept have what is equal to another's from that one: a third of what it takes."""
    for name in _COMMON:
        force_setattr(container, name, _same(getattr(container, name)))


@lru_cache(16384)
def _same(value: object) -> object:
    return value


def _address(text: str) -> str:
    """An address in the form that others rely on; "" when it is none, or one with a zone (RFC 4007 §11)."""
    if _IPV4.fullmatch(text):
        return text
    try:
        return "" if "%" in text else str(ip_address(text))
    except ValueError:
        return ""
