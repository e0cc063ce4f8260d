"""Bodies of service discovery, and the queries that ask for them.

The order is that of the UUIDs, and nothing in a body tells when it was made, so equal knowledge makes equal bytes, in
every proxy, and an ETag holds.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import parse_qsl
from zlib import crc32

import msgspec

from pymon.config import nearest, shown
from pymon.proxy.fleet import NodeView
from pymon.services import parse

if TYPE_CHECKING:
    from uuid import UUID

    from pymon.proxy.fleet import Place

Role = Literal["container", "node", "app"]
Via = Literal["name", "path"]

PARAMETERS = frozenset(("groups", "shard", "shards", "role", "stopped", "via"))
"""All that a query may have, where the endpoint knows it."""

MAX_SHARDS = 1000

_MAX_GROUPS = 100
_MAX_FIELDS = 32
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_ADDRESS = re.compile(r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class QueryError(ValueError):
    """A query that cannot be answered; the text is one line that names the parameter."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f'invalid "{name}": {expected}')


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for. groups: in any of them; none is all. shard: of `shards`, from 0."""

    groups: frozenset[str] = frozenset()
    shard: int = 0
    shards: int = 1
    role: Role = "container"
    stopped: bool = False
    via: Via = "name"


def parse_query(query: str, allowed: Collection[str] = PARAMETERS) -> Query:
    """A query as it stands in the URL, with these parameters at most. Raises QueryError."""
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
    if role == "app" and via == "path":
        raise QueryError("via", "expected name with role=app, whose targets are the containers themselves")
    return Query(
        groups=_groups(values["groups"]) if "groups" in values else frozenset(),
        shard=_number("shard", values.get("shard", "0"), 0, shards - 1),
        shards=shards,
        role=role,
        stopped=_choice("stopped", values.get("stopped", "false"), ("true", "false")) == "true",
        via="path" if via == "path" else "name",
    )


def _groups(text: str) -> frozenset[str]:
    """As a `triton.cmon.groups` tag, whose rules Triton's proxy applies to this parameter."""
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
    """The JSON of ``/v1/discover``. cached_date is when the container started, in milliseconds."""
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
    """The JSON of ``/v1/gz/discover``."""
    found = sorted(nodes, key=lambda node: node.uuid)
    return msgspec.json.encode({"cns": [_FoundNode(node.uuid, node.hostname) for node in found]})


# --- Prometheus's HTTP discovery ---------------------------------------------------------------


class _Labels(
    msgspec.Struct,
    gc=False,
    omit_defaults=True,
    rename={
        "metrics_path": "__metrics_path__",
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
    instance: str = ""


class _Target(msgspec.Struct, gc=False):
    targets: tuple[str]
    labels: _Labels


def http_sd(
    things: Iterable[Place] | Iterable[NodeView], query: Query, *, zone: str, port: int, proxy: str = ""
) -> bytes:
    """The JSON of ``/v1/sd``: places, or nodes when that is the query's role, with the labels of `triton_sd_configs`.

    Places also have their owner and state. port: the proxy's. proxy: its HOST:PORT, for targets by path.
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


def http_sd_apps(places: Iterable[Place], query: Query) -> bytes:
    """The JSON of ``/v1/sd?role=app``: what runs in the containers, for whoever is in their network.

    A target for each service with a port that `triton.cns.services` names, at the container's first address, with the
    labels of the container and the service's name.
    """
    owners = _Owners()
    targets = []
    for place in places:
        container = place.container
        if not container.addresses or container.state != "running":
            continue
        if query.groups and query.groups.isdisjoint(container.groups):
            continue
        if query.shards > 1 and shard_of(container.uuid, query.shards) != query.shard:
            continue
        address = container.addresses[0]
        host = f"[{address}]" if ":" in address else address
        for service in parse(container.services).services:
            if service.port is not None:
                labels = _place_labels(place, owners)
                labels.service = service.label
                targets.append(_Target((f"{host}:{service.port}",), labels))
    targets.sort(key=lambda target: (target.labels.machine_id, target.targets))
    return msgspec.json.encode(targets)


def is_address(text: str) -> bool:
    """Whether a Host can stand in a target: a name or an address, and a port if any (RFC 9110 §7.2)."""
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
    """The shard of a UUID: CRC-32 of its text, modulo the number of shards."""
    return crc32(uuid.encode()) % shards


class _Owners(dict["UUID | None", str]):
    """Text of the UUIDs of accounts; there are few, and Python is slow to write them."""

    def __missing__(self, owner: UUID | None) -> str:
        text = self[owner] = "" if owner is None else str(owner)
        return text
