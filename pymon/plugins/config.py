"""Reads a directory of plugins: its executable files and their options in plugin.json."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pymon.config import shown
from pymon.exposition.families import Labels, valid_name

if TYPE_CHECKING:
    from pymon.plugins.output import Output
    from pymon.plugins.run import Ended

CONFIG_NAME = "plugin.json"
DEFAULT_TIMEOUT_SECONDS = 3.0
DEFAULT_TTL_SECONDS = 60.0
MAX_CONFIG_BYTES = 1 << 20


PLUGIN = "plugin"
"""The collector of the operator's plugins."""


class Target(NamedTuple):
    """A container, or the node, for which plugins are run.

    uuid: "" for the node. argument: argv[1] of the plugin: the zone's name, on Linux the UUID, "global" for the node.
    labels: of the container, for expositions of several containers.
    """

    uuid: str
    argument: str
    labels: Labels


class Measured(NamedTuple):
    """A measurement: how it ended, and the families, or None and one line that says why there are none."""

    ended: Ended
    output: Output | None
    text: str


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin: a program to run, or a function of pymon's own.

    name: part of the names of its metrics. uuids: the containers that it is run for, None for all. prefix: of the names
    of the gauges of its status. collector: that switches it on and off. measure: None for a program. Else it is called
    on the loop with a target, and returns a function that measures in a thread. That function takes a descriptor which
    becomes readable when it must end at once.
    """

    name: str
    path: Path
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ttl_seconds: float = DEFAULT_TTL_SECONDS
    uuids: Container[str] | None = None
    prefix: str = ""
    collector: str = PLUGIN
    measure: Callable[[Target], Callable[[int], Measured]] | None = None


class Refused(NamedTuple):
    """A file or directory that is not used.

    plugin: the file's name without extension, "" for the whole directory. reason: for a metric label: "owner" (owned by
    another user or writable by others), "config", "name", "oserror". text: one line that names the file.
    """

    plugin: str
    reason: str
    text: str


class Loaded(NamedTuple):
    """The content of a plugin directory."""

    plugins: tuple[Plugin, ...]
    refused: tuple[Refused, ...]


class _RefusedError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def load_directory(directory: Path, owner_uid: int) -> Loaded:
    """Return the plugins of a directory, sorted by file name. A directory that does not exist has none.

    The directory and each file in it must belong to `owner_uid` and must not be writable by others, because whoever can
    write them can run programs as that user. Errors are in the result; nothing is raised.
    """
    try:
        _check_owner(directory, directory.stat(), owner_uid)
        entries = sorted(entry for entry in directory.iterdir() if entry.name != CONFIG_NAME)
        entry_options = _read_config(directory / CONFIG_NAME, owner_uid)
    except FileNotFoundError:
        return Loaded((), ())
    except OSError as error:
        return Loaded((), (Refused("", "oserror", f"{directory}: {error.strerror}"),))
    except _RefusedError as error:
        return Loaded((), (Refused("", error.reason, str(error)),))
    plugins: dict[str, Plugin] = {}
    refused = []
    for path in entries:
        try:
            plugin = _plugin(path, entry_options.get(path.name, {}), owner_uid)
        except _RefusedError as error:
            refused.append(Refused(path.stem, error.reason, str(error)))
        except OSError as error:
            refused.append(Refused(path.stem, "oserror", f"{path}: {error.strerror}"))
        else:
            if plugin is not None and plugins.setdefault(plugin.name, plugin) is not plugin:
                other = plugins[plugin.name].path.name
                refused.append(Refused(path.stem, "name", f"{path}: expected a name of its own, got that of {other}"))
    return Loaded(tuple(plugins.values()), tuple(refused))


def _plugin(path: Path, options: Any, owner_uid: int) -> Plugin | None:
    """Return the plugin of a file, None if it is not an executable regular file. Raises _RefusedError, OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        return None
    _check_owner(path, status, owner_uid)
    target = path.resolve(strict=True)
    if target.parent != path.parent.resolve():
        _check_owner(target.parent, target.parent.stat(), owner_uid)
    if not valid_name(f"plugin_{path.stem}_"):
        raise _RefusedError("name", f"{path}: expected letters, digits and _ before the extension")
    return _configured(path, options)


def _configured(path: Path, options: Any) -> Plugin:
    where = f"{path.parent / CONFIG_NAME}: {path.name}"
    if not isinstance(options, dict):
        raise _RefusedError("config", f"{where}: expected an object, got {shown(options)}")
    timeout_ms = options.get("timeout", DEFAULT_TIMEOUT_SECONDS * 1000)
    if not _is_number(timeout_ms) or timeout_ms <= 0:
        raise _RefusedError("config", f"{where}: timeout: expected milliseconds above 0, got {shown(timeout_ms)}")
    ttl_seconds = options.get("ttl", DEFAULT_TTL_SECONDS)
    if not _is_number(ttl_seconds):
        raise _RefusedError("config", f"{where}: ttl: expected seconds, got {shown(ttl_seconds)}")
    uuids = options.get("vms")
    if uuids is not None and not (isinstance(uuids, list) and all(isinstance(uuid, str) for uuid in uuids)):
        raise _RefusedError("config", f"{where}: vms: expected an array of UUIDs, got {shown(uuids)}")
    only = None if uuids is None else frozenset(uuid.lower() for uuid in uuids)
    return Plugin(path.stem, path, timeout_ms / 1000, float(ttl_seconds), only)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_config(path: Path, owner_uid: int) -> dict[str, Any]:
    """Return file name -> options from plugin.json, {} without the file. Raises _RefusedError, OSError."""
    try:
        _check_owner(path, status := path.stat(), owner_uid)
        if not stat.S_ISREG(status.st_mode):
            raise _RefusedError("config", f"{path}: expected a file")
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return {}
    if len(data) > MAX_CONFIG_BYTES:
        raise _RefusedError("config", f"{path}: expected at most {MAX_CONFIG_BYTES} bytes, got more")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _RefusedError("config", f"{path}: expected JSON: {error}") from None
    if not isinstance(document, dict):
        raise _RefusedError("config", f"{path}: expected an object, got {shown(document)}")
    return document


def _check_owner(path: Path, status: os.stat_result, owner_uid: int) -> None:
    if status.st_uid != owner_uid:
        raise _RefusedError("owner", f"{path}: expected to be owned by user {owner_uid}, got {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise _RefusedError("owner", f"{path}: expected not to be writable by group and others, got mode {mode:04o}")
