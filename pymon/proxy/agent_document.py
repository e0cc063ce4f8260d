"""Parses and checks an agent's answer to ``GET /v1/containers``."""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple, TypeVar

import msgspec
from msgspec.structs import force_setattr

from pymon._native.documents import array_items
from pymon.inventory_document import UUID, Container, checked
from pymon.service_labels import MAX_SERVICES

MAX_CONTAINERS = 100_000
"""Limit of an inventory. A document with more containers is refused."""

MAX_CONTAINER_BYTES = 256 << 10
"""Limit of a container's JSON. A container above it is left out."""

BYTES_EACH = 1200
"""Memory for the texts of a node's containers, for each container that it may have. Above the total, the containers
with the longest texts are left out, so that a few of them do not cost the node its other containers."""

_LEAST_BYTES = 8 << 20
"""Minimum of that total, for a node with a low limit of containers."""

_WIDEST = 4
"""Assumed bytes for each character of a text that is not ASCII."""

_SERVICE_BYTES = 250
_SERVICES_AT_ONCE = 4
"""Memory that each service of a container takes in DNS, and the number of services that are not counted."""

_HEAD_BYTES = 64 << 10
"""Limit of the text before the containers, and half the limit of all text beside them."""

_SORTED_AT_ONCE = 500

_DECODED_AT_ONCE = 8
_DECODED_BYTES = 32 << 10
"""Containers of a document that are decoded and checked in one step, and the limit of their JSON. A longer part is
decoded one container after the other."""

_ARRAY = re.compile(rb'"containers"[ \t\r\n]*:[ \t\r\n]*\[')
_CHANGED = re.compile(rb'"changed"[ \t\r\n]*:[ \t\r\n]*\[')
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)


CONTAINER_FIELDS = ",".join(Container.__struct_fields__)


class NodeDocument(msgspec.Struct, gc=False):
    """The node in an agent's document."""

    uuid: str
    hostname: str


class Document(msgspec.Struct):
    """The fields of an inventory that are read."""

    node: NodeDocument
    containers: list[Container]


class _Changes(msgspec.Struct):
    node: NodeDocument
    since: str
    total: int
    changed: list[Container]
    removed: list[str]


class _Head(msgspec.Struct, gc=False):
    uuid: str


class Inventory(NamedTuple):
    """A checked inventory.

    uuid, hostname: of the node. containers: by UUID. refused: number of containers left out because they have no UUID,
    an impossible start, too long a JSON, or the UUID of another container of this node. left_out: number of containers
    left out because there are more than the node may have, or because the texts of all take too much memory.
    document: the accepted text as the agent sent it.
    """

    uuid: str
    hostname: str
    containers: dict[str, Container]
    refused: int = 0
    left_out: int = 0
    document: bytes = b""


class Difference(NamedTuple):
    """The changes of an inventory.

    uuid, hostname: of the node. since: the version before the changes. total: number of containers after them.
    changed: new and changed containers by UUID. removed: UUIDs of removed containers.
    """

    uuid: str
    hostname: str
    since: str
    total: int
    changed: Mapping[str, Container]
    removed: frozenset[str]

    def fits(self, known: Collection[str]) -> bool:
        """Return whether `total` matches after applying the changes to containers with the UUIDs `known`."""
        gone = sum(uuid in known for uuid in self.removed)
        come = sum(uuid not in known for uuid in self.changed)
        return self.total == len(known) - gone + come


_Kind = TypeVar("_Kind")

_document = msgspec.json.Decoder(Document)
_changes = msgspec.json.Decoder(_Changes)
_head = msgspec.json.Decoder(_Head)
_container = msgspec.json.Decoder(Container)
_some = msgspec.json.Decoder(list[Container])


def decode_inventory(body: bytes, known: Collection[str] = (), limit: int = MAX_CONTAINERS) -> Inventory:
    """Parse an agent's answer to ``GET /v1/containers``. Raises ValueError with a text of one line.

    Above `limit` containers, those with a UUID in `known` are kept first, then those with the lowest UUIDs.
    """
    steps = read_inventory(body, find_containers(body), known, limit)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Inventory = end.value
            return found


class Offsets(NamedTuple):
    """The positions of containers in a document, as byte offsets.

    items: start and end of each container. refused: number of containers above `MAX_CONTAINER_BYTES`, which `items`
    lacks. before: end of the text before all containers. after: start of the text after all containers.
    """

    items: list[tuple[int, int]]
    refused: int
    before: int
    after: int


def find_containers(body: bytes) -> Offsets:
    """Find the containers of an inventory: the first part of `decode_inventory`. Raises ValueError.

    Nearly all of the work runs without the GIL.
    """
    return _find_items(body, _ARRAY)


def find_changes(body: bytes) -> Offsets | None:
    """Find the changed containers of a difference. Return None when the document is not a difference.

    Raises ValueError. Pass the result to `read_changes`.
    """
    return None if _CHANGED.search(body, 0, _HEAD_BYTES) is None else _find_items(body, _CHANGED)


def _find_items(body: bytes, array: re.Pattern[bytes]) -> Offsets:
    found = array.search(body, 0, _HEAD_BYTES)
    if found is None or found.end() == len(body):
        return Offsets([], 0, len(body), len(body))
    bounds, end = array_items(body, found.end(), MAX_CONTAINERS + 1)
    if len(bounds) > 2 * MAX_CONTAINERS:
        raise ValueError(f"expected an inventory of at most {MAX_CONTAINERS} containers")
    if end < 0:
        raise ValueError("expected an inventory: its containers have no end")
    every = zip(bounds[::2], bounds[1::2], strict=True)
    items = [item for item in every if item[1] - item[0] <= MAX_CONTAINER_BYTES]
    return Offsets(items, len(bounds) // 2 - len(items), found.end(), end)


def read_inventory(
    body: bytes, offsets: Offsets, known: Collection[str], limit: int
) -> Generator[None, None, Inventory]:
    """Parse an inventory in short steps: the second part of `decode_inventory`. Raises ValueError."""
    items, refused, before, after = offsets
    if before + len(body) - after > 2 * _HEAD_BYTES:
        raise ValueError("expected an inventory: too much beside its containers")
    document = _decode(_document, body[:before] + body[after:])
    uuid = document.node.uuid.lower()
    if not UUID.fullmatch(uuid):
        raise ValueError("expected an inventory: the node's uuid is none")
    left_out = max(0, len(items) - limit)
    chosen = (yield from _chosen(body, items, known, limit)) if left_out else items
    containers: dict[str, Container] = {}
    most = most_text_bytes(limit)
    # Few containers in a short document cannot be too much, and so need not be measured one by one.
    longest = _Longest(most) if _WIDEST * len(body) + len(chosen) * MAX_SERVICES * _SERVICE_BYTES > most else None
    found = 0
    for first in range(0, len(chosen), _DECODED_AT_ONCE):
        some = chosen[first : first + _DECODED_AT_ONCE]
        for told in _decoded(body, some) if chosen is items else _each(body, some):
            container = checked(told)
            if container is None:
                continue
            other = containers.get(container.uuid)
            if other is not None and other.start >= container.start:
                continue
            found += other is None
            containers[container.uuid] = container
            if longest is not None:
                longest.add(container, containers)
        yield
    refused += len(chosen) - found
    if left_out:
        body = body[:before] + b",".join(body[start:end] for start, end in chosen) + body[after:]
    if longest is not None:
        left_out += longest.left_out
    return Inventory(uuid, document.node.hostname, containers, refused, left_out, body)


def _decoded(body: bytes, items: list[tuple[int, int]]) -> Iterable[Container]:
    """Decode containers that follow each other in a document. Raises ValueError."""
    start, end = items[0][0], items[-1][1]
    if end - start <= _DECODED_BYTES:
        # Perhaps what lies between them is not JSON, or one of them has a lone surrogate.
        with suppress(ValueError, RecursionError):
            found = _some.decode(b"[%b]" % body[start:end])
            if len(found) == len(items):
                return found
    return _each(body, items)


def _each(body: bytes, items: list[tuple[int, int]]) -> Iterator[Container]:
    return (_decode(_container, body[start:end]) for start, end in items)


def read_changes(body: bytes, offsets: Offsets) -> Generator[None, None, Difference]:
    """Parse the difference in an answer to ``GET /v1/containers?since=VERSION``, in short steps.

    Raises ValueError with a text of one line when it is malformed, or when any change in it cannot be applied.
    """
    items, refused, before, after = offsets
    if before + len(body) - after > 2 * _HEAD_BYTES:
        raise ValueError("expected an inventory: too much beside its containers")
    document = _decode(_changes, body[:before] + body[after:])
    changed: dict[str, Container] = {}
    for start, end in items:
        container = checked(_decode(_container, body[start:end]))
        if container is not None:
            changed[container.uuid] = container
        yield
    removed = frozenset(document.removed)
    if refused or len(changed) != len(items) or not removed.isdisjoint(changed):
        raise ValueError("expected an inventory: not every change can be taken over")
    node = document.node
    return Difference(node.uuid.lower(), node.hostname, document.since, document.total, changed, removed)


def _chosen(
    body: bytes, items: list[tuple[int, int]], known: Collection[str], limit: int
) -> Generator[None, None, list[tuple[int, int]]]:
    """Choose `limit` containers of a document, as `decode_inventory` describes. Return their byte ranges."""
    chosen: list[tuple[int, int]] = []
    others: list[list[tuple[str, tuple[int, int]]]] = [[]]
    for item in items:
        uuid = _decode(_head, body[item[0] : item[1]]).uuid.lower()
        if uuid in known:
            chosen.append(item)
        else:
            others[-1].append((uuid, item))
            if len(others[-1]) == _SORTED_AT_ONCE:
                others[-1].sort()
                others.append([])
        yield
    others[-1].sort()
    for _, item in heapq.merge(*others):
        if len(chosen) >= limit:
            break
        chosen.append(item)
        yield
    return chosen[:limit]


def most_text_bytes(limit: int) -> int:
    """Return the limit of the memory for texts of a node that may have `limit` containers, in bytes."""
    return max(_LEAST_BYTES, limit * BYTES_EACH)


class _Longest:
    """Keeps the texts of containers below a memory limit by removing the containers with the longest texts.

    left_out: number of removed containers.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._sizes: list[tuple[int, str]] = []
        self.left_out = 0

    def add(self, container: Container, containers: dict[str, Container]) -> None:
        """Count a container that was added to `containers`. Remove the longest ones above the limit."""
        size = text_bytes(container)
        self._left -= size
        heapq.heappush(self._sizes, (-size, container.uuid))
        while self._left < 0:
            longest, uuid = heapq.heappop(self._sizes)
            self._left -= longest
            self.left_out += containers.pop(uuid, None) is not None


def text_bytes(found: Container) -> int:
    """Estimate the memory of a container's texts and services, in bytes."""
    cns = found.cns_status or "", found.cns_disable or "", found.cns_reverse_ptr or ""
    own = found.id, found.name, found.runtime, found.runtime_id, found.image, found.owner or "", found.state
    others = found.health, found.services, found.namespace, found.pod, found.pod_id, found.uuid_name or ""
    text = "".join((*own, *others, *cns))
    size = len(text) + len(found.app_path or "")
    if not text.isascii():
        size += (_WIDEST - 1) * sum(len(one) for one in (*own, *others, *cns) if not one.isascii())
    if found.groups or found.addresses:
        size += sum(map(len, found.groups)) + sum(map(len, found.addresses))
    if found.ports:
        size += sum(map(len, found.ports))
    services = min(found.services.count(","), MAX_SERVICES) - _SERVICES_AT_ONCE
    return size + _SERVICE_BYTES * max(0, services)


def _decode(decoder: msgspec.json.Decoder[_Kind], text: bytes) -> _Kind:
    try:
        return _decode_text(decoder, text)
    except RecursionError:
        raise ValueError("expected an inventory, got JSON nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"expected an inventory: {' '.join(str(error).split())}") from None


def _decode_text(decoder: msgspec.json.Decoder[_Kind], body: bytes) -> _Kind:
    """Decode JSON, with each lone surrogate replaced by U+FFFD.

    An agent writes the bytes of a path that are not UTF-8 as lone surrogates, which are valid JSON but not valid text.
    Users choose such paths, so these must not invalidate the inventory of a node.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if b"\0" in body or not _LONE_SURROGATE.search(body):
            raise
    # With escaped backslashes replaced by NUL, every backslash starts an escape. JSON contains no NUL.
    return decoder.decode(_LONE_SURROGATE.sub(rb"\\ufffd", body.replace(b"\\\\", b"\0")).replace(b"\0", b"\\\\"))


def share(container: Container) -> None:
    """Replace common values of a container by equal, cached objects. This saves about two thirds of its memory."""
    # One by one, because a loop over the names takes half as long again, for each container at the start.
    force_setattr(container, "runtime", _same(container.runtime))
    force_setattr(container, "image", _same(container.image))
    force_setattr(container, "owner", _same(container.owner))
    force_setattr(container, "state", _same(container.state))
    force_setattr(container, "health", _same(container.health))
    force_setattr(container, "groups", _same(container.groups))
    force_setattr(container, "services", _same(container.services))
    force_setattr(container, "namespace", _same(container.namespace))
    force_setattr(container, "pod", _same(container.pod))
    if container.app_ports is not None:
        force_setattr(container, "app_ports", _same(container.app_ports))
        force_setattr(container, "app_path", _same(container.app_path))


@lru_cache(16384)
def _same(value: object) -> object:
    return value
