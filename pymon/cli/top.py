"""``pymon top``: the containers of a node, or of an account through a proxy, live or once."""

from __future__ import annotations

import asyncio
import errno
import json
import locale
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pymon
from pymon.config import BOOL, PATH, SECONDS, STR, ConfigError, Option, Settings, load
from pymon.top import table, text
from pymon.top.client import AskError, Client, Target
from pymon.top.document import SummaryError, decoded
from pymon.top.model import RATES, Container, Model
from pymon.top.screen import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

LIVE_SECONDS, ONCE_SECONDS = 3.0, 1.0
"""Time between two readings where none is given: of the live view, and of the two from which one output is made."""

_HOST = re.compile(r"[A-Za-z0-9._:%-]+")


def _check_url(value: str) -> None:
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if (
        parts.scheme not in ("http", "https")
        or not _HOST.fullmatch(parts.hostname or "")
        or port == 0
        or parts.username is not None
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise ValueError("http://HOST:PORT or https://HOST:PORT, without a name, password or path")


def _check_interval(value: float) -> None:
    if not 1 <= value <= 3600:  # noqa: PLR2004
        raise ValueError("a duration from 1s to 1h")


_OPTIONS = (
    Option("url", STR, "http://127.0.0.1:9164", "The agent, or the proxy, to ask.", check=_check_url),
    Option("token-file", PATH, None, "File with a token of the account (pymon token create). It is read again for each "
           "request."),
    Option("cert-file", PATH, None, "Client certificate in PEM (pymon cert create)."),
    Option("key-file", PATH, None, "Its key. Default: in the file of the certificate."),
    Option("ca-file", PATH, None, "Authority of the server's certificate in PEM. Default: those of this machine."),
    Option("interval", SECONDS, None, "Time between two readings. Default: 3s, at least 5s above 1,000 containers; 1s "
           "for --once and --json.", check=_check_interval),
    Option("sort", STR, "cpu", "The column to sort by, the largest or the first of the alphabet at the top.",
           choices=table.NAMES),
    Option("filter", STR, "", "Words that must all be in name, image, UUID, account, state or node."),
    Option("once", BOOL, False, "Print the table once, from two readings, and exit. All columns, unless the output is "
           "a terminal or COLUMNS is set."),
    Option("json", BOOL, False, "The same as JSON, with the raw values."),
)  # fmt: skip


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return _OPTIONS


def run(argv: Sequence[str]) -> int:
    """Watch until the user ends it, or print once. Return the exit code."""
    settings = load(
        _OPTIONS, argv, os.environ,
        program="pymon top",
        description="Show the containers of a node, or of an account through a proxy, live.",
        version=f"pymon {pymon.__version__}",
    )  # fmt: skip
    target = _target(settings)
    if settings["once"] or settings["json"]:
        return asyncio.run(_once(settings, target))
    return _live(settings, target)


def _target(settings: Settings) -> Target:
    url: str = settings["url"].rstrip("/")
    files: dict[str, Path | None] = {
        name: settings[name] for name in ("token-file", "ca-file", "cert-file", "key-file")
    }
    for name, file in files.items():
        if file is None:
            continue
        if url.startswith("http:"):
            raise ConfigError(f"url: expected https:// with --{name}, got {url}")
        if not os.access(file, os.R_OK):
            why = os.strerror(errno.EACCES if file.exists() else errno.ENOENT)
            raise ConfigError(f"{name}: {file}: cannot be read: {why}")
    if files["key-file"] is not None and files["cert-file"] is None:
        raise ConfigError("cert-file: expected one with --key-file")
    return Target(url, *files.values())


# --- live ----------------------------------------------------------------------------------------


def _live(settings: Settings, target: Target) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise ConfigError("top: expected a terminal as input, output and errors; --once and --json need none")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise ConfigError(f"top: TERM={os.environ.get('TERM', '')} has no cursor to move; --once and --json need none")
    try:
        from pymon.top.view import Asked, watch_live  # noqa: PLC0415  # Textual is optional
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        print(
            f"pymon: {module} is not installed, which the live view needs: pip install 'pymon[top]'; --once and --json "
            "work without",
            file=sys.stderr,
        )
        return 1
    encoding = locale.getencoding()
    ascii_only = encoding.lower().replace("-", "") != "utf8"
    watch = Watch(
        target.url,
        sort=settings["sort"],
        down=table.starts_down(settings["sort"]),
        words=settings["filter"],
        ascii_only=ascii_only,
        notes=f"{encoding} is not UTF-8: ASCII only" if ascii_only else "",
    )
    for name in ("COLUMNS", "LINES"):  # the terminal itself knows its size, and when it changes
        os.environ.pop(name, None)
    failed = watch_live(watch, Asked(target, settings["interval"] or LIVE_SECONDS))
    if failed is not None:
        print(f"pymon: {text.shown(failed, ascii_only=True)}", file=sys.stderr)
        return 1
    return 0


# --- once ----------------------------------------------------------------------------------------


async def _once(settings: Settings, target: Target) -> int:
    model = Model()
    try:
        async with Client(target) as client:
            model.update(decoded(await client.summary()))
            await asyncio.sleep(settings["interval"] or ONCE_SECONDS)
            model.update(decoded(await client.summary()))
    except (AskError, SummaryError) as error:
        print(f"pymon: {text.shown(str(error), ascii_only=True)}", file=sys.stderr)
        return 1
    sort: str = settings["sort"]
    rows = table.ordered(model.containers.values(), settings["filter"], sort, down=table.starts_down(sort))
    if settings["json"]:
        sys.stdout.write(json.dumps(_document(model, rows, target.url), separators=(",", ":")) + "\n")
    else:
        _print(model, rows, sort)
    away = list(model.away())
    for host in away:
        said = f"{host.hostname} does not answer: {host.error}"
        print(f"pymon: {text.shown(said, ascii_only=True)}", file=sys.stderr)
    if model.left_out:
        print(f"pymon: {model.left_out} more containers are not shown", file=sys.stderr)
    return 1 if away and len(away) == len(model.hosts) else 0


def _print(model: Model, rows: Sequence[Container], sort: str) -> None:
    ascii_only = sys.stdout.encoding.lower().replace("-", "") != "utf8"
    terminal = sys.stdout.isatty() or os.environ.get("COLUMNS")
    room = max(table.NAME_WIDTH, shutil.get_terminal_size().columns) if terminal else None
    columns = table.columns_for(room, sort, model.containers.values())
    width = table.width_of(columns, table.widest_name(rows, ascii_only=ascii_only))
    width = width if room is None else min(width, room)
    lines = [table.headings(columns, width, sort, down=table.starts_down(sort))]
    lines += (table.row(one, columns, width, ascii_only=ascii_only) for one in rows)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in lines))


_RATE_NAMES = {
    "cpu": "cpu_cores",
    "throttled": "throttled_ratio",
    "receive": "receive_bytes_per_second",
    "transmit": "transmit_bytes_per_second",
    "read": "read_bytes_per_second",
    "write": "write_bytes_per_second",
    "cpu_waiting": "cpu_waiting_ratio",
    "memory_waiting": "memory_waiting_ratio",
    "io_waiting": "io_waiting_ratio",
}
"""The names of the rates in JSON, with their units."""


def _document(model: Model, rows: Sequence[Container], url: str) -> dict[str, object]:
    nodes = [
        {"uuid": host.uuid, "hostname": host.hostname, "error": host.error or None} for host in model.hosts.values()
    ]
    containers = []
    for one in rows:
        item: dict[str, object] = {name: getattr(one.row, name) for name in one.row.__struct_fields__}
        item["node"] = one.host.uuid
        item |= {_RATE_NAMES[name]: value for name, value in zip(RATES, one.rates, strict=True)}
        containers.append(item)
    return {"url": url, "account": model.account, "nodes": nodes, "containers": containers}
