"""Bodies of service discovery, and their queries.

Entries are sorted by UUID and a body contains no creation time. Equal inventories therefore give equal bytes in every
proxy, and an ETag stays valid.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import parse_qsl
from zlib import crc32

import msgspec

from pymon.config import nearest, shown
from pymon.host_address import is_host_address
from pymon.proxy.places import NodeView
from pymon.service_labels import parse

if TYPE_CHECKING:
    from uuid import UUID

    from pymon.inventory_document import Container
    from pymon.proxy.places import Place

Role = Literal["container", "node", "app"]
Via = Literal["name", "path"]

PARAMETERS = frozenset(("groups", "shard", "shards", "role", "stopped", "via"))
"""All query parameters. Each endpoint accepts a subset."""

MAX_SHARDS = 1000

_MAX_GROUPS = 100
_MAX_FIELDS = 32
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class QueryError(ValueError):
    """An invalid query. The text is one line that names the parameter."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f'invalid "{name}": {expected}')


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query.

    groups: containers in any of these, all containers when empty. shard: index of the wanted shard of `shards`, from 0.
    role: kind of targets. stopped: include stopped containers. via: address targets by name or by path on the proxy.
    """

    groups: frozenset[str] = frozenset()
    shard: int = 0
    shards: int = 1
    role: Role = "container"
    stopped: bool = False
    via: Via = "name"


def parse_query(query: str, allowed: Collection[str] = PARAMETERS) -> Query:
    """Parse the query of a URL. allowed: the accepted parameters. Raises QueryError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise QueryError("query", f"expected at most {_MAX_FIELDS} parameters") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in allowed:
            raise QueryError(shown(name)[1:-1], f"unknown parameter{nearest(name, allowed)}")
        if name in values:
            raise QueryError(name, "given twice")
        values[name] = value
    shards = _number("shards", values.get("shards", "1"), 1, MAX_SHARDS)
    if ("shard" in values) != ("shards" in values):
        raise QueryError("shard" if "shards" in values else "shards", "expected both shard and shards")
    role: Role = "container"
    for known in get_args(Role):
        if _choice("role", values.get("role", role), get_args(Role)) == known:
            role = known
    via = _choice("via", values.get("via", "name"), ("name", "path"))
    return Query(
        groups=_groups(values["groups"]) if "groups" in values else frozenset(),
        shard=_number("shard", values.get("shard", "0"), 0, shards - 1),
        shards=shards,
        role=role,
        stopped=_choice("stopped", values.get("stopped", "false"), ("true", "false")) == "true",
        via="path" if via == "path" else "name",
    )


def _groups(text: str) -> frozenset[str]:
    """Parse a list of groups by the rules of the tag `triton.cmon.groups`, as Triton's proxy does.

    Raises QueryError.
    """
    words = text.split(",")
    if len(words) > _MAX_GROUPS:
        raise QueryError("groups", f"expected at most {_MAX_GROUPS} groups, got {len(words)}")
    for word in words:
        if not _GROUP.fullmatch(word):
            raise QueryError("groups", f"expected groups of 1 to 100 letters, digits, _ and -, got {shown(word)}")
    if len(set(words)) < len(words):
        raise QueryError("groups", "a group is named twice")
    return frozenset(words)


def _number(name: str, text: str, lowest: int, highest: int) -> int:
    if not _NUMBER.fullmatch(text) or not lowest <= int(text) <= highest:
        raise QueryError(name, f"expected a number from {lowest} to {highest}, got {shown(text)}")
    return int(text)


def _choice(name: str, text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise QueryError(name, f"expected {' or '.join(choices)}, got {shown(text)}")
    return text


# --- Triton's discovery ------------------------------------------------------------------------


class _Found(msgspec.Struct, gc=False, omit_defaults=True):
    vm_uuid: str
    vm_alias: str
    vm_brand: str
    vm_state: str
    server_uuid: str
    groups: tuple[str, ...]
    cached_date: int
    vm_image_uuid: str = ""
    vm_owner_uuid: str = ""


class _FoundNode(msgspec.Struct, gc=False):
    server_uuid: str
    server_hostname: str


def discover(places: Iterable[Place], *, groups: Collection[str] = ()) -> bytes:
    """Return the JSON of ``/v1/discover``. groups: containers in any of these, all containers when empty.

    The field cached_date is the start of the container, in milliseconds since the epoch.
    """
    owners = _Owners()
    wanted = frozenset(groups)
    found = []
    for place in places:
        container = place.container
        if wanted and wanted.isdisjoint(container.groups):
            continue
        found.append(
            _Found(
                container.uuid,
                container.name,
                container.runtime,
                container.state,
                place.node.uuid,
                container.groups,
                int(container.start * 1000),
                container.image,
                owners[place.owner],
            )
        )
    found.sort(key=lambda container: container.vm_uuid)
    return msgspec.json.encode({"containers": found})


def discover_nodes(nodes: Iterable[NodeView]) -> bytes:
    """Return the JSON of ``/v1/gz/discover``: UUID and host name of each node, by UUID."""
    found = sorted(nodes, key=lambda node: node.uuid)
    return msgspec.json.encode({"cns": [_FoundNode(node.uuid, node.hostname) for node in found]})


# --- Prometheus's HTTP discovery ---------------------------------------------------------------


class _Labels(
    msgspec.Struct,
    gc=False,
    omit_defaults=True,
    rename={
        "metrics_path": "__metrics_path__",
        "param_port": "__param_port",
        "instance": "instance",
        **{
            name: f"__meta_triton_{name}"
            for name in (
                "machine_id machine_alias machine_brand machine_image machine_state server_id groups owner_id service"
            ).split()
        },
    },
):
    machine_id: str
    machine_alias: str = ""
    machine_brand: str = ""
    machine_image: str = ""
    machine_state: str = ""
    server_id: str = ""
    groups: str = ""
    owner_id: str = ""
    service: str = ""
    metrics_path: str = ""
    param_port: str = ""
    instance: str = ""


class _Target(msgspec.Struct, gc=False):
    targets: tuple[str]
    labels: _Labels


def http_sd(
    things: Iterable[Place] | Iterable[NodeView], query: Query, *, zone: str, port: int, proxy: str = ""
) -> bytes:
    """Return the JSON of ``/v1/sd``, with the labels of `triton_sd_configs`.

    things: places, or nodes when the query's role is ``node``. Places also have labels for their owner and state.
    port: of the proxy. proxy: its HOST:PORT, for targets by path.
    """
    owners = _Owners()
    suffix = f".cmon.{zone}:{port}"
    targets = []
    for thing in things:
        uuid = thing.uuid if isinstance(thing, NodeView) else thing.container.uuid
        if query.shards > 1 and shard_of(uuid, query.shards) != query.shard:
            continue
        if isinstance(thing, NodeView):
            labels = _Labels(uuid, thing.hostname)
        elif query.groups and query.groups.isdisjoint(thing.container.groups):
            continue
        else:
            labels = _place_labels(thing, owners)
        name = uuid + suffix
        if query.via == "path":
            labels.metrics_path = f"/v1/{uuid}/metrics"
            labels.instance = name
            name = proxy
        targets.append(_Target((name,), labels))
    targets.sort(key=lambda target: target.labels.machine_id)
    return msgspec.json.encode(targets)


def http_sd_apps(places: Iterable[Place], query: Query, *, proxy: str = "") -> bytes:
    """Return the JSON of ``/v1/sd?role=app``: the applications in the containers.

    By name, they are for clients in the containers' network: there is one target for each port that a container's
    labels declare, and for each service with another port in `triton.cns.services`. Its address is the first host
    address of the container. By path, there is one target for each declared port of a container whose agent fetches
    for others, at `proxy`. The labels are those of the container, and the name of the first service at the port.
    """
    owners = _Owners()
    targets = []
    for place in places:
        container = place.container
        if container.state != "running":
            continue
        if query.groups and query.groups.isdisjoint(container.groups):
            continue
        if query.shards > 1 and shard_of(container.uuid, query.shards) != query.shard:
            continue
        if query.via == "path":
            targets += [_Target((proxy,), labels) for labels in _relayed_apps(place, owners)]
        else:
            targets += [_Target((address,), labels) for address, labels in _apps(place, owners)]
    targets.sort(key=lambda target: (target.labels.machine_id, target.targets, target.labels.param_port))
    return msgspec.json.encode(targets)


def _apps(place: Place, owners: _Owners) -> Iterator[tuple[str, _Labels]]:
    """Yield address and labels of the targets in a container, nothing if it has no address."""
    container = place.container
    # Other machines connect to this address, so loopback and the like cannot be used.
    address = next(filter(is_host_address, container.addresses), None)
    if address is None:
        return
    host = f"[{address}]" if ":" in address else address
    declared = container.app_ports or ()
    for port in declared:
        labels = _place_labels(place, owners)
        labels.service = _service_at(container, port)
        labels.metrics_path = container.app_path or ""
        yield f"{host}:{port}", labels
    for service in parse(container.services).services:
        if service.port is not None and service.port not in declared:
            labels = _place_labels(place, owners)
            labels.service = service.label
            yield f"{host}:{service.port}", labels


def _relayed_apps(place: Place, owners: _Owners) -> Iterator[_Labels]:
    """Yield the labels of the targets in a container that its agent fetches for others."""
    container = place.container
    for port in (container.app_ports or ()) if container.app_fetched else ():
        labels = _place_labels(place, owners)
        labels.service = _service_at(container, port)
        labels.metrics_path = f"/v1/{container.uuid}/app/metrics"
        labels.param_port = str(port)
        labels.instance = f"{container.uuid}:{port}"
        yield labels


def _service_at(container: Container, port: int) -> str:
    """Return the first service of a container at a port, "" without one."""
    return next((service.label for service in parse(container.services).services if service.port == port), "")


def is_address(text: str) -> bool:
    """Return whether a Host may be used as a target: a name or an address, with an optional port (RFC 9110 §7.2)."""
    return _ADDRESS.fullmatch(text) is not None


def _place_labels(place: Place, owners: _Owners) -> _Labels:
    container = place.container
    groups = container.groups
    return _Labels(
        container.uuid,
        container.name,
        container.runtime,
        container.image,
        container.state,
        place.node.uuid,
        f",{','.join(groups)}," if groups else "",
        owners[place.owner],
    )


def shard_of(uuid: str, shards: int) -> int:
    """Return the shard of a UUID: CRC-32 of its text, modulo the number of shards."""
    return crc32(uuid.encode()) % shards


class _Owners(dict["UUID | None", str]):
    """Cache of account UUIDs as text, "" for None. There are few accounts, and `str` of a UUID is slow."""

    def __missing__(self, owner: UUID | None) -> str:
        text = self[owner] = "" if owner is None else str(owner)
        return text
