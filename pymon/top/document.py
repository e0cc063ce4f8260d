"""The summary as it comes from a server, which may be hostile: bounded, checked, and decoded into values with types."""

from __future__ import annotations

from typing import Any

import msgspec

MAX_BYTES = 16 << 20
"""A larger answer is an error. A proxy gives as much."""

MAX_CONTAINERS = 10_000
"""Further ones are counted and not shown."""

MAX_NODES = 1024
MAX_FAILING = 64
"""Collectors of a node that failed. Further ones are left out."""

_MAX_ITEMS, _MAX_LISTS = 3_000_000, 200_000
"""Most items and lists that the JSON may have, as memory for them is many times their text."""


class SummaryError(Exception):
    """An answer that is no summary. The text is one line."""


class Row(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A container. Names and units are those of `pymon.summary_document`; None where there is no value."""

    uuid: str
    name: str
    image: str
    runtime: str
    state: str
    health: str
    owner: str
    start_seconds: float | None
    cpu_seconds: float | None
    throttled_seconds: float | None
    memory_bytes: float | None
    memory_limit_bytes: float | None
    swap_bytes: float | None
    oom_kills: float | None
    receive_bytes: float | None
    transmit_bytes: float | None
    read_bytes: float | None
    write_bytes: float | None
    cpu_waiting_seconds: float | None
    memory_waiting_seconds: float | None
    io_waiting_seconds: float | None
    processes: float | None
    end_seconds: float | None
    exit_code: float | None


class Machine(msgspec.Struct, gc=False, frozen=True):
    """What a node has. load: of the last 1, 5 and 15 minutes."""

    cpus: int | None
    memory_bytes: float
    load: tuple[float, float, float]


class Node(msgspec.Struct, gc=False, frozen=True):
    """A node with its containers. error: why there are no numbers of it, "" if there are."""

    uuid: str
    hostname: str
    time: float
    error: str
    rows: list[Row]
    machine: Machine | None
    failing: list[str]


class Summary(msgspec.Struct, gc=False, frozen=True):
    """A whole answer. account: None if it is of an agent. left_out: containers above `MAX_CONTAINERS`."""

    account: str | None
    nodes: list[Node]
    left_out: int


class _Node(msgspec.Struct, gc=False):
    uuid: str
    hostname: str
    containers: msgspec.Raw
    time: float = 0.0
    error: str = ""
    machine: Machine | None = None
    collectors: dict[str, bool] = {}


class _Document(msgspec.Struct, gc=False):
    columns: list[str]
    nodes: list[_Node]
    account: str | None = None


_TEXTS = frozenset(("uuid", "name", "image", "runtime", "state", "health", "owner"))
_document = msgspec.json.Decoder(_Document)
_rows = msgspec.json.Decoder(list[Row])
_other_rows = msgspec.json.Decoder(list[list[str | float | None]])


def decoded(body: bytes) -> Summary:
    """Return the summary of an answer. Raises SummaryError."""
    if len(body) > MAX_BYTES:
        raise SummaryError(f"the summary has more than {MAX_BYTES >> 20} MiB")
    if body.count(b",") > _MAX_ITEMS:
        raise SummaryError(f"the summary has more than {_MAX_ITEMS} items")
    if body.count(b"[") > _MAX_LISTS:
        raise SummaryError(f"the summary has more than {_MAX_LISTS} lists")
    try:
        document = _document.decode(body)
        if len(document.nodes) > MAX_NODES:
            raise SummaryError(f"the summary has more than {MAX_NODES} nodes")
        left = MAX_CONTAINERS
        left_out = 0
        nodes = []
        for node in document.nodes:
            rows, more = _decoded_rows(node.containers, document.columns, left)
            left -= len(rows)
            left_out += more
            failing = [name for name, good in node.collectors.items() if not good][:MAX_FAILING]
            nodes.append(Node(node.uuid, node.hostname, node.time, node.error, rows, node.machine, failing))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SummaryError(f"the answer is no summary: {' '.join(str(error).split())[:200]}") from None
    return Summary(document.account, nodes, left_out)


def _decoded_rows(raw: msgspec.Raw, columns: list[str], most: int) -> tuple[list[Row], int]:
    """Return at most `most` rows of a node, and how many more there are."""
    fields = Row.__struct_fields__
    if tuple(columns[: len(fields)]) == fields:
        rows = _rows.decode(raw)
        return rows[:most], max(0, len(rows) - most)
    # A server of another version: columns in another order, or fewer of them.
    where = {name: at for at, name in enumerate(columns)}
    if "uuid" not in where:
        raise SummaryError("the summary has no column uuid")
    order = [(where.get(name), "" if name in _TEXTS else None) for name in fields]
    found = []
    others = _other_rows.decode(raw)
    for items in others[:most]:
        if len(items) != len(columns):
            raise SummaryError(f"a row of the summary has {len(items)} items for {len(columns)} columns")
        values: list[Any] = [other if at is None else items[at] for at, other in order]
        found.append(msgspec.convert(values, Row))
    return found, max(0, len(others) - most)
