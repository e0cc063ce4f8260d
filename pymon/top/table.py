"""The table of containers: its columns, which of them fit, and the order and choice of rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pymon.top import text
from pymon.top.charts import line
from pymon.top.model import RATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymon.top.model import Container

NAME_WIDTH = 16
"""The least width of the first column."""

AWAY = "!"
"""Before the name of a container whose node does not answer."""

Value = float | str | None


class Column(NamedTuple):
    """A column. value: what it is sorted by. shown: the text of a cell that is `width` columns wide."""

    name: str
    title: str
    width: int
    value: Callable[[Container], Value]
    shown: Callable[[Container, bool], str]
    about: str
    left: bool = False


def _rate(name: str, title: str, show: Callable[[float | None], str], about: str) -> Column:
    at = tuple(RATES).index(name)
    return Column(name, title, 5, lambda one: one.rates[at], lambda one, _: show(one.rates[at]), about)


def _text(name: str, title: str, width: int, get: Callable[[Container], str], about: str) -> Column:
    def cell(one: Container, ascii_only: bool) -> str:
        return text.shown(get(one), ascii_only=ascii_only) or text.NONE

    return Column(name, title, width, lambda one: get(one).lower() or None, cell, about, left=True)


def state(one: Container) -> str:
    """Return the state of a container, its exit code if it has ended, or its health if that is bad."""
    if one.row.end_seconds is not None and one.row.exit_code is not None:
        return f"exit {one.row.exit_code:.0f}"
    return one.row.health if one.row.health == "unhealthy" else one.row.state


def _name(one: Container, ascii_only: bool) -> str:
    return (AWAY if one.waits else "") + text.shown(one.row.name, ascii_only=ascii_only)


def _age(one: Container) -> float | None:
    started = one.row.start_seconds
    return time.time() - started if started else None


_CPU = tuple(RATES).index("cpu")

COLUMNS = (
    Column("name", "CONTAINER", NAME_WIDTH, lambda one: one.row.name.lower(), _name, "its name", left=True),
    _rate("cpu", "CPU", text.cores, "CPU cores in use"),
    Column("memory", "MEM", 5, lambda one: one.row.memory_bytes, lambda one, _: text.size(one.row.memory_bytes),
           "working set, in bytes"),
    _rate("receive", "RX/s", text.size, "bytes received by network"),
    _rate("transmit", "TX/s", text.size, "bytes sent by network"),
    _rate("read", "RD/s", text.size, "bytes read from block devices"),
    _rate("write", "WR/s", text.size, "bytes written to block devices"),
    Column("limit", "LIM", 5, lambda one: one.of_limit, lambda one, _: text.percent(one.of_limit),
           "memory as a part of its limit"),
    Column("history", "CPU PAST", 9, lambda one: one.rates[_CPU],
           lambda one, ascii_only: line(one.series("cpu", 9), 9, ascii_only=ascii_only), "CPU of the last readings"),
    _text("state", "STATE", 9, state, "its state, its exit code, or its health if that is bad"),
    _rate("throttled", "THR", text.percent, "time throttled by its CPU quota"),
    _rate("cpu_waiting", "PCPU", text.percent, "time some task waited for a CPU"),
    _rate("io_waiting", "PIO", text.percent, "time some task waited for I/O"),
    _rate("memory_waiting", "PMEM", text.percent, "time some task waited for memory"),
    Column("processes", "PROCS", 7, lambda one: one.row.processes, lambda one, _: text.count(one.row.processes),
           "processes"),
    Column("age", "AGE", 5, _age, lambda one, _: text.seconds(_age(one)), "time since its start"),
    _text("node", "NODE", 16, lambda one: one.host.hostname, "its node"),
    _text("owner", "ACCOUNT", 12, lambda one: one.row.owner, "its account"),
    _text("image", "IMAGE", 24, lambda one: one.row.image, "its image"),
)  # fmt: skip
"""In the order in which they give way: the last one first."""

NAMES = tuple(column.name for column in COLUMNS)
_BY_NAME = {column.name: column for column in COLUMNS}
_ORDINARY = frozenset(("running", ""))


def ordered(containers: Iterable[Container], words: str, sort: str, *, down: bool) -> list[Container]:
    """Return the containers that have all words, by a column. Those without a value are last in both directions."""
    wanted = words.lower().split()
    value = _BY_NAME[sort].value
    with_value: list[tuple[float | str, str, Container]] = []
    without: list[tuple[str, Container]] = []
    for one in containers:
        if wanted and not _has(one, wanted):
            continue
        found = value(one)
        if found is None:
            without.append((one.row.uuid, one))
        else:
            with_value.append((found, one.row.uuid, one))
    with_value.sort(key=lambda item: item[1])
    with_value.sort(key=lambda item: item[0], reverse=down)
    without.sort(key=lambda item: item[0])
    return [*(item[2] for item in with_value), *(item[1] for item in without)]


def _has(one: Container, words: Sequence[str]) -> bool:
    row = one.row
    texts = [row.name, row.image, row.uuid, row.owner, row.state, row.health, one.host.hostname]
    found = "\n".join(texts).lower()
    return all(word in found for word in words)


def starts_down(sort: str) -> bool:
    """Return whether a column is first sorted with the largest value at the top."""
    return not _BY_NAME[sort].left


def columns_for(width: int | None, sort: str, containers: Iterable[Container]) -> list[Column]:
    """Return the columns that fit a width, that of the order among them. width: None for all.

    The state is among them as well if a container is not running.
    """
    if width is None:
        return list(COLUMNS)
    first, *others = COLUMNS
    must = [_BY_NAME[sort]] if sort != first.name else []
    if any(one.row.state not in _ORDINARY or one.row.health == "unhealthy" for one in containers):
        must.append(_BY_NAME["state"])
    chosen = {first.name}
    left = width - first.width
    for column in (*must, *(column for column in others if column not in must)):
        if column.name in chosen:
            continue
        if column.width + 1 > left:
            break
        chosen.add(column.name)
        left -= column.width + 1
    return [column for column in COLUMNS if column.name in chosen]


def headings(columns: Sequence[Column], width: int, sort: str, *, down: bool) -> str:
    """Return the line of headings. The column of the order has a mark."""
    mark = "v" if down else "^"
    titles = [column.title + (mark if column.name == sort else "") for column in columns]
    return _joined(columns, titles, width)


def row(one: Container, columns: Sequence[Column], width: int, *, ascii_only: bool) -> str:
    """Return the line of a container in exactly `width` columns, or fewer if the columns need fewer."""
    return _joined(columns, [column.shown(one, ascii_only) for column in columns], width)


def widest_name(containers: Iterable[Container], *, ascii_only: bool) -> int:
    """Return the columns that the first column needs."""
    names = (text.columns_of(_name(one, ascii_only)) for one in containers)
    return max(len(COLUMNS[0].title) + 1, max(names, default=0))


def width_of(columns: Sequence[Column], name: int) -> int:
    """Return the width of a table. name: that of its first column."""
    return name + sum(column.width + 1 for column in columns[1:])


def _joined(columns: Sequence[Column], cells: Sequence[str], width: int) -> str:
    name = width - width_of(columns, 0)
    parts = [text.fitted(cells[0], name)]
    parts += [
        text.fitted(cell, column.width, right=not column.left)
        for column, cell in zip(columns[1:], cells[1:], strict=True)
    ]
    return " ".join(parts)
