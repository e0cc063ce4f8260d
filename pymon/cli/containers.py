"""``pymon containers``: list the containers of this node as a table or JSON, or explain the owner of one of them."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import sys
import time
from typing import TYPE_CHECKING

import pymon
from pymon.agent.collectors import COLLECTORS
from pymon.agent.look import registry_of
from pymon.agent.options import load_with_agent_options
from pymon.agent.options import option_table as agent_table
from pymon.cli.table import age, fitted, table
from pymon.config import BOOL, STR, Option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.agent.rows import ContainerRows
    from pymon.containers.identity import Container

_COLUMNS = ("uuid", "name", "runtime", "owner", "state", "age", "cgroup")
_LEAST = {"cgroup": 12, "name": 12, "owner": 8}
"""Columns that are shortened, in this order, if the terminal is too narrow; and the minimum width, in characters."""

_SHORT_UUID = 8
"""Characters of a UUID that a narrow table shows. They are enough to tell the containers of a node apart.

`--explain` accepts such a prefix.
"""

_LONG_ID = re.compile(r"[0-9a-f]{64}")
_SHORT_ID = 12
"""Characters of a 64-character id that the table shows, as Docker and Podman do."""


def _check_filter(text: str) -> None:
    key, equals, _ = text.partition("=")
    filtered = [name for name in _COLUMNS if name != "age"]
    if not equals or key not in filtered:
        raise ValueError(f"KEY=VALUE with one of {', '.join(filtered)} as KEY")


_OWN = (
    Option("json", BOOL, False, "The agent's inventory, as /v1/containers has it."),
    Option("no-trunc", BOOL, False, "Whole ids, and no column cut to fit the terminal."),
    Option("sort", STR, "cgroup", "The column to sort by.", choices=_COLUMNS),
    Option("filter", STR, (), "KEY=VALUE: only containers whose column KEY is VALUE, in which * and ? stand for "
           "anything; owner= are those without one. Several must all be true.", repeatable=True, check=_check_filter),
    Option("explain", STR, None, "UUID, name or cgroup path of a container: show what each owner rule makes of it, "
           "and which decides."),
)  # fmt: skip


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return *_OWN, *agent_table(COLLECTORS)


def run(argv: Sequence[str]) -> int:
    """Print the containers, or explain the owner of one. Return the exit code, 1 unless `--explain` finds one."""
    settings, options = load_with_agent_options(
        _OWN,
        argv,
        os.environ,
        COLLECTORS,
        program="pymon containers",
        description="List the containers of this node.",
        version=f"pymon {pymon.__version__}",
    )
    with registry_of(options) as registry:
        if settings["explain"] is not None:
            from pymon.cli.explain import explain  # noqa: PLC0415  # rarely needed

            found = _named(registry.containers(), settings["explain"])
            if len(found) != 1:
                print(f"pymon: {settings['explain']!a}: {_how_many(found)}", file=sys.stderr)
                return 1
            sys.stdout.write(explain(options, found[0]))
            return 0
        chosen = _chosen(registry.containers(), settings["filter"], settings["sort"])
        if settings["json"]:
            sys.stdout.write(_json(registry, chosen))
        else:
            sys.stdout.write(_table(chosen, whole=settings["no-trunc"]))
    return 0


def _cell(container: Container, column: str) -> str:
    match column:
        case "uuid":
            return str(container.uuid)
        case "cgroup":
            return container.id
        case "owner":
            return container.owner or ""
        case _:
            text: str = getattr(container, column)
            return text


def _chosen(containers: Sequence[Container], filters: Sequence[str], column: str) -> list[Container]:
    for text in filters:
        key, _, wanted = text.partition("=")
        containers = [one for one in containers if fnmatch.fnmatchcase(_cell(one, key), wanted)]
    if column == "age":
        return sorted(containers, key=lambda one: -one.start_seconds)
    return sorted(containers, key=lambda one: _cell(one, column))


def _json(registry: ContainerRows, chosen: Sequence[Container]) -> str:
    document = json.loads(registry.document())
    by_uuid = {item["uuid"]: item for item in document["containers"]}
    document["containers"] = [by_uuid[str(one.uuid)] for one in chosen]
    return json.dumps(document, separators=(",", ":")) + "\n"


def _table(containers: Sequence[Container], *, whole: bool) -> str:
    now = time.time()
    headings = [name.upper() for name in _COLUMNS]
    rows = [
        [age(now - one.start_seconds) if name == "age" else _cell(one, name) or "-" for name in _COLUMNS]
        for one in containers
    ]
    if whole:
        return table(headings, rows)
    rows = [[_LONG_ID.sub(lambda found: found[0][:_SHORT_ID], cell) for cell in row] for row in rows]
    text = table(headings, rows)
    width = _width()
    if not width or max(map(len, text.splitlines())) <= width:
        return text
    rows = [[row[0][:_SHORT_UUID], *row[1:]] for row in rows]
    return table(headings, fitted(headings, rows, width, {_COLUMNS.index(name): n for name, n in _LEAST.items()}))


def _width() -> int:
    """Return the width of the terminal in columns, or 0 if the output is not a terminal and COLUMNS is not set."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return 0


def _named(containers: Sequence[Container], wanted: str) -> list[Container]:
    """Return the containers with a name or cgroup path, or, if there are none, those whose UUID begins with `wanted`.

    A prefix of a UUID must have at least 8 characters.
    """
    found = [one for one in containers if wanted in (one.name, one.id)]
    if found or len(wanted) < _SHORT_UUID:
        return found
    return [one for one in containers if str(one.uuid).startswith(wanted.lower())]


def _how_many(found: Sequence[Container]) -> str:
    if not found:
        return "no container here has this name or UUID; pymon containers lists them"
    return f"{len(found)} containers here have this name; use the UUID of one, such as {found[0].uuid}"
