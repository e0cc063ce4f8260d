"""Which plugins a directory holds: its executable files, and what its plugin.json says of them."""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pymon.config import shown
from pymon.exposition.families import valid_name

CONFIG_NAME = "plugin.json"
DEFAULT_TIMEOUT_SECONDS = 3.0
DEFAULT_TTL_SECONDS = 60.0
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Plugin:
    """A program to run.

    name: part of its metrics' names. uuids: the containers it is run for, None is all.
    """

    name: str
    path: Path
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ttl_seconds: float = DEFAULT_TTL_SECONDS
    uuids: frozenset[str] | None = None


class Refused(NamedTuple):
    """A file, or with an empty name the directory, that is not used.

    reason: one word to count by: "owner" (of another user, or open to others), "config", "name", "oserror".
    text: one line that names the file and what was expected.
    """

    plugin: str
    reason: str
    text: str


class Loaded(NamedTuple):
    """What a directory holds."""

    plugins: tuple[Plugin, ...]
    refused: tuple[Refused, ...]


class _RefusedError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def load_directory(directory: Path, owner_uid: int) -> Loaded:
    """The plugins of a directory, by name. One that is not there holds none.

    The directory, and each file in it, belongs to `owner_uid` and is not writable by others: whoever could write it
    would run as that user.
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
    """The plugin that a file is; None when it is none."""
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
    """What plugin.json says, by full file name. Nothing when there is none."""
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
