"""A container as the inventory of a node tells of it: written by the agent, read by the proxy.

A field that is added here, with a default for agents of earlier versions, and to `pymon.containers.identity.Container`
by the same name, is in the agent's inventory and in what the proxy knows.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

import msgspec

from pymon.app_labels import MAX_PORTS, is_path, is_port

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_MAX_START_SECONDS = 1e11
_GROUPS_LIMIT = 100
_ADDRESSES_LIMIT = 64
_LOOKED_AT = 4
"""Times as many are looked at; of those that are no groups or addresses there may be any number."""

_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PORTS_LIMIT = 64
_PORT = re.compile(r"[1-9][0-9]{0,4}/(?:tcp|udp|sctp)")
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


class Container(msgspec.Struct, frozen=True, gc=False):
    """A container as its agent tells of it. start: seconds since the epoch. owner: an account's name or UUID.
    addresses: IPv4 and IPv6, as RFC 5952 spells them; an agent of an earlier version tells of none. cns_*: the labels
    ``triton.cns.*``, None without one. uuid_name: the text of which, with its node's UUID, the UUID is made; None for
    one that cannot be checked, and of an agent of an earlier version. ports: what it offers as its runtime tells, such
    as ``80/tcp``; None without one. ended: when a container in the state ``stopped`` ended, in seconds since the epoch,
    as long as its agent answers scrapes of it; None for others. app_ports, app_path: where its application answers
    scrapes, as its labels say; None without such labels. app_fetched: true if its agent fetches that for others; None
    if not.
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
    uuid_name: str | None = None
    ended: float | None = None
    ports: tuple[str, ...] | None = None
    app_ports: tuple[int, ...] | None = None
    app_path: str | None = None
    app_fetched: bool | None = None


_OPTIONAL = frozenset(field.name for field in msgspec.structs.fields(Container) if field.default is None)


def told(container: Container) -> dict[str, object]:
    """A container as it stands in an inventory, without the fields that are None where nothing is told."""
    members = msgspec.structs.asdict(container)
    return {name: value for name, value in members.items() if value is not None or name not in _OPTIONAL}


def checked(found: Container) -> Container | None:
    """A container in the form that others rely on; None when it cannot be one."""
    uuid, owner, groups, addresses = found.uuid, found.owner, found.groups, found.addresses
    if not 0 <= found.start < _MAX_START_SECONDS:
        return None
    if not UUID.fullmatch(uuid):
        uuid = uuid.lower() if uuid.isascii() else ""
        if not UUID.fullmatch(uuid):
            return None
    if owner is not None and owner.isascii():  # lower() turns some other letters into ASCII ones
        owner = owner.lower()
    # Most have one group and one address, which take a third of the time when they are good.
    if groups and not (len(groups) == 1 and _GROUP.fullmatch(groups[0])):
        groups = tuple(dict.fromkeys(filter(_GROUP.fullmatch, groups[: _LOOKED_AT * _GROUPS_LIMIT])))[:_GROUPS_LIMIT]
    if addresses and not (len(addresses) == 1 and _IPV4.fullmatch(addresses[0])):
        addresses = tuple(dict.fromkeys(filter(None, map(_address, addresses[: _LOOKED_AT * _ADDRESSES_LIMIT]))))
        addresses = addresses[:_ADDRESSES_LIMIT]
    if found.ended is not None and not (found.state == "stopped" and 0 <= found.ended < _MAX_START_SECONDS):
        found = msgspec.structs.replace(found, ended=None)
    if found.ports is not None:
        ports = tuple(filter(_PORT.fullmatch, found.ports[:_PORTS_LIMIT])) or None
        if ports != found.ports:
            found = msgspec.structs.replace(found, ports=ports)
    declares = found.app_ports is not None or found.app_path is not None
    if declares and not _is_app(found.app_ports or (), found.app_path or ""):
        found = msgspec.structs.replace(found, app_ports=None, app_path=None, app_fetched=None)
    if uuid == found.uuid and owner == found.owner and groups == found.groups and addresses == found.addresses:
        return found
    return msgspec.structs.replace(found, uuid=uuid, owner=owner, groups=groups, addresses=addresses)


def _is_app(ports: tuple[int, ...], path: str) -> bool:
    return 0 < len(ports) <= MAX_PORTS and all(map(is_port, ports)) and is_path(path)


def _address(text: str) -> str:
    """An address in the form that others rely on; "" when it is none, or one with a zone (RFC 4007 §11)."""
    if _IPV4.fullmatch(text):
        return text
    try:
        return "" if "%" in text else str(ip_address(text))
    except ValueError:
        return ""
