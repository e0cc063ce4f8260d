"""What the terminal shows, as lines of text with styles. Nothing here knows how they get there."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pymon.top import table, text
from pymon.top.charts import chart
from pymon.top.model import POINTS, RATES, SERIES, Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymon.top.model import Container

LEAST_WIDTH, LEAST_HEIGHT = 40, 8
"""A smaller terminal is told so, in place of the table."""

Line = list[tuple[str, str]]
"""Pieces of a line: a text and the name of its style: "", bold, dim, chosen (under the cursor), good or bad."""

_CHARTS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "cpu": ("CPU cores", text.cores),
    "throttled": ("throttled", text.percent),
    "memory": ("memory", text.size),
    "receive": ("received/s", text.size),
    "transmit": ("sent/s", text.size),
    "read": ("read/s", text.size),
    "write": ("written/s", text.size),
    "cpu_waiting": ("wait for CPU", text.percent),
    "memory_waiting": ("wait for mem.", text.percent),
    "io_waiting": ("wait for I/O", text.percent),
}
_PROBLEM_LINES, _MAX_AWAY = 3, 5
_LABEL, _NUMBER, _MAX_CHART_HEIGHT = 14, 7, 4

_KEYS = {
    "table": "q end  / filter  <> sort  r reverse  Enter one  ? keys",
    "one": "Escape back  up/down next  q end",
    "help": "Escape back  q end",
}
_HELP = (
    ("up, down, Page Up, Page Down, Home, End", "choose a container"),
    ("Enter", "the last minutes of the chosen one"),
    ("Escape", "back to the table; there, no filter"),
    ("/", "filter: words in name, image, UUID, account, state or node"),
    ("left, right (< and >)", "sort by the column before, after"),
    ("r", "sort the other way round"),
    ("q", "end"),
)


@dataclass(slots=True)
class Watch:
    """All that the screen depends on.

    source: what is watched. problem: why there are no new numbers, "" if there are. read_at: when the last ones came,
    None for never. mode: table, one or help. chosen: the UUID of the container under the cursor, None if that is on
    whichever is first. top: the first row in view. notes: what is true of the whole session.
    """

    source: str
    sort: str = "cpu"
    down: bool = True
    words: str = ""
    ascii_only: bool = False
    notes: str = ""
    problem: str = ""
    read_at: float | None = None
    mode: str = "table"
    chosen: str | None = None
    top: int = 0
    model: Model = field(default_factory=Model)
    rows: list[Container] = field(default_factory=list)

    def order(self) -> None:
        """Choose and order the rows again."""
        self.rows = table.ordered(self.model.containers.values(), self.words, self.sort, down=self.down)

    def at(self) -> int:
        """Return the row under the cursor."""
        return next((at for at, one in enumerate(self.rows) if one.row.uuid == self.chosen), 0)

    def move(self, steps: int) -> None:
        """Move the cursor down by a number of rows, up if it is negative, as far as there are rows."""
        if self.rows:
            self.chosen = self.rows[min(len(self.rows) - 1, max(0, self.at() + steps))].row.uuid

    def sort_by(self, steps: int) -> None:
        """Sort by a column before or after the present one."""
        names = table.NAMES
        self.sort = names[(names.index(self.sort) + steps) % len(names)]
        self.down = table.starts_down(self.sort)
        self.order()

    def one(self) -> Container | None:
        """Return the container under the cursor."""
        return self.model.containers.get(self.chosen) if self.chosen is not None else None

    def show(self, name: str) -> str:
        """Return a text of the server as this terminal can show it."""
        return text.shown(name, ascii_only=self.ascii_only)


def rows_in_view(height: int) -> int:
    """Return the rows of a table that a terminal has room for."""
    return max(1, height - 4)


def draw(watch: Watch, width: int, height: int) -> list[Line]:
    """Return the lines of a terminal, `height` of at most `width` columns."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return _too_small(width, height)
    head = [_first(watch, width), *_second(watch, width)]
    body = {"table": _table, "one": _one, "help": _help}[watch.mode](watch, width, height - len(head) - 1)
    body = body[: height - len(head) - 1]
    blank: list[Line] = [[] for _ in range(height - len(head) - 1 - len(body))]
    return [*head, *body, *blank, _last(watch, width)]


def _too_small(width: int, height: int) -> list[Line]:
    said = f"{width}x{height} is too small: {LEAST_WIDTH}x{LEAST_HEIGHT} is the least. q ends."
    lines: list[Line] = [[(part, "")] for part in textwrap.wrap(said, max(1, width))[:height]]
    return lines + [[] for _ in range(height - len(lines))]


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _first(watch: Watch, width: int) -> Line:
    model = watch.model
    if model.account is not None:
        hosts = len(model.hosts)
        who = f"account {watch.show(model.account)}, {hosts} node{'s' * (hosts != 1)}"
    else:
        who = watch.show(", ".join(host.hostname for host in model.hosts.values()))
    left = f"pymon top  {watch.source}" + (f"  {who}" if who else "")
    right = "" if watch.read_at is None else _clock(watch.read_at)
    if watch.problem and right:
        right = f"last numbers: {right}"
    return [
        (text.fitted(left, width - len(right) - 1) + " ", "bold"),
        (right, "bad" if watch.problem else "bold"),
    ]


def _second(watch: Watch, width: int) -> list[Line]:
    """Totals; or, as they matter more, what goes wrong."""
    model = watch.model
    said = watch.show(watch.problem)
    if not said:
        away = [f"{watch.show(host.hostname)}: {watch.show(host.error)}" for host in model.away()]
        if away:
            said = f"not answering (last numbers, marked {table.AWAY}): {'; '.join(away[:_MAX_AWAY])}"
            said += f"; {len(away) - _MAX_AWAY} more" if len(away) > _MAX_AWAY else ""
    if said:
        parts = textwrap.wrap(said, width, break_on_hyphens=False)
        cut = [*parts[: _PROBLEM_LINES - 1], " ".join(parts[_PROBLEM_LINES - 1 :])]
        return [[(text.fitted(part, width), "bad")] for part in cut if part]
    if watch.read_at is None:
        return [[(text.fitted(f"asking {watch.source}", width), "dim")]]
    return [[(text.fitted(_totals(watch), width), "")]]


def _totals(watch: Watch) -> str:
    model = watch.model
    machines = [host.machine for host in model.hosts.values() if host.machine is not None]
    cpus, memory = sum(one.cpus or 0 for one in machines), sum(one.memory_bytes for one in machines)
    ended = sum(one.row.end_seconds is not None for one in model.containers.values())
    all_of_them = len(model.containers)
    count = all_of_them - ended
    parts = [f"{count} container{'s' * (count != 1)}"]
    if len(watch.rows) != all_of_them:
        parts[0] = f"{len(watch.rows)} of {all_of_them} container{'s' * (all_of_them != 1)}"
    elif ended:
        parts.append(f"{ended} ended")
    if model.left_out:
        parts.append(f"{model.left_out} more not shown")
    parts.append(f"CPU {text.cores(model.total('cpu'))}" + (f" of {text.count(cpus)}" if cpus else ""))
    parts.append(f"mem {text.size(model.memory())}" + (f" of {text.size(memory)}" if memory else ""))
    parts.append(f"net {text.size(model.total('receive'))}/s in {text.size(model.total('transmit'))}/s out")
    if len(machines) == 1:
        parts.append("load " + " ".join(map(text.cores, machines[0].load)))
    return "  ".join(parts)


def _last(watch: Watch, width: int) -> Line:
    said = _KEYS[watch.mode]
    if watch.words and watch.mode == "table":
        said = f"filter: {watch.show(watch.words)} (Escape: none)  {said}"
    if watch.notes:
        said = f"[{watch.notes}]  {said}"
    failing = sorted({watch.show(name) for host in watch.model.hosts.values() for name in host.failing})
    if not failing:
        return [(text.fitted(said, width), "dim")]
    left = min(width, len(said) + 2)
    return [
        (text.fitted(said, left), "dim"),
        (text.fitted(f"failed collectors: {', '.join(failing)}", width - left), "bad"),
    ]


# --- the table -----------------------------------------------------------------------------------


def _table(watch: Watch, width: int, height: int) -> list[Line]:
    columns = table.columns_for(width, watch.sort, watch.model.containers.values())
    view = height - 1
    at = watch.at()
    watch.top = max(0, min(watch.top, at, len(watch.rows) - view), at - view + 1)
    shown = watch.rows[watch.top : watch.top + view]
    lines: list[Line] = [[(table.headings(columns, width, watch.sort, down=watch.down), "bold")]]
    for index, one in enumerate(shown, watch.top):
        style = "chosen" if index == at else "dim" if watch.problem or one.waits or one.row.end_seconds else ""
        lines.append([(table.row(one, columns, width, ascii_only=watch.ascii_only), style)])
    if not shown and watch.read_at is not None:
        none = "no container has these words" if watch.words else "no containers"
        lines.append([(none, "dim")])
    return lines


# --- one container -------------------------------------------------------------------------------


def _one(watch: Watch, width: int, height: int) -> list[Line]:
    one = watch.one()
    if one is None:
        return [[(text.fitted("this container is gone", width), "bad")]]
    facts = list(_facts(watch, one, width))
    told = f"node {one.host.hostname} does not answer: these are its last numbers" if one.waits else ""
    lines: list[Line] = [[(text.fitted(watch.show(one.row.name), width), "bold")], *facts]
    if told:
        lines.append([(text.fitted(watch.show(told), width), "bad")])
    room = width - _LABEL - 2 * (_NUMBER + 1) - 1
    titles = f"{'':<{_LABEL}}{'now':>{_NUMBER}} {'most':>{_NUMBER}}  the last {min(POINTS, room)} readings"
    lines.append([(text.fitted(titles, width), "bold")])
    tall = max(1, min(_MAX_CHART_HEIGHT, (height - len(lines)) // len(SERIES)))
    for name in _CHARTS:
        lines += _chart(watch, one, name, room, tall)
    return lines


def _facts(watch: Watch, one: Container, width: int) -> Iterator[Line]:
    row = one.row
    pairs = [
        ("UUID", row.uuid),
        ("image", row.image),
        ("runtime", row.runtime),
        ("state", " ".join(filter(None, (row.state, row.health)))),
        ("account", row.owner),
        ("node", one.host.hostname),
        ("started", text.seconds(time.time() - row.start_seconds) + " ago" if row.start_seconds else ""),
        ("limit", text.size(row.memory_limit_bytes)),
        ("swap", text.size(row.swap_bytes)),
        ("ended", text.seconds(time.time() - row.end_seconds) + " ago" if row.end_seconds else ""),
        ("exit code", text.count(row.exit_code)),
        ("OOM kills", text.count(row.oom_kills)),
        ("processes", text.count(row.processes)),
    ]
    half = (width - 1) // 2
    cells = [f"{name:<10}{watch.show(value) or text.NONE}" for name, value in pairs]
    yield [(text.fitted(cells[0], width), "")]
    for left in range(1, len(cells), 2):
        right = cells[left + 1] if left + 1 < len(cells) else ""
        yield [(f"{text.fitted(cells[left], half)} {text.fitted(right, half)}", "")]


def _chart(watch: Watch, one: Container, name: str, room: int, tall: int) -> list[Line]:
    label, show = _CHARTS[name]
    values = one.series(name)
    now = one.row.memory_bytes if name == "memory" else one.rates[tuple(RATES).index(name)]
    most = max((value for value in values if value == value), default=None)  # noqa: PLR0124  # NaN is not itself
    rows = chart(values, min(room, POINTS), tall, ascii_only=watch.ascii_only)
    start = f"{label:<{_LABEL}}{show(now):>{_NUMBER}} {show(most):>{_NUMBER}}  "
    blank = " " * len(start)
    return [[(blank if index else start, ""), (row, "dim" if watch.problem or one.waits else "good")]
            for index, row in enumerate(rows)]  # fmt: skip


# --- help ----------------------------------------------------------------------------------------


def _help(_: Watch, width: int, height: int) -> list[Line]:
    lines: list[Line] = [[(text.fitted(f"{keys:<42}{what}", width), "")] for keys, what in _HELP]
    lines.append([])
    left = max(0, height - len(lines))
    return lines + [
        [(text.fitted(f"{column.title:<12}{column.about}", width), "dim")] for column in table.COLUMNS[:left]
    ]
