"""Podman: `libpod-ID.scope` (systemd), `libpod_parent/libpod-ID` (cgroupfs), `libpod-payload-ID` (`--cgroups=split`).

`libpod-conmon-ID` holds the monitor, not the container. A pod is `machine-libpod_pod_ID.slice` or `libpod_parent/ID`.

The storage library keeps names and images in `containers.json`, or in `volatile-containers.json` with `--rm`. Podman
keeps labels, start and pod in its database. From Podman 4.8 on this is by default `db.sql`, an SQLite file. Before, as
in Podman 4.3 of Debian 12, it is a BoltDB file, which is not read; the annotations in the container's OCI `config.json`
then take the place of labels. The result of a health check is in `healthcheck.log`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pymon.containers import engine
from pymon.containers.files import (
    LIMIT,
    UnreadableError,
    epoch,
    is_there,
    mapping,
    parse_json,
    read_bytes,
    read_json,
    read_with_mtime,
    text,
    texts,
    whole,
)
from pymon.containers.http_client import HttpClient
from pymon.containers.model import HEX_ID, Daemon, Details, Form, Home, Match, Place, Runtime

from . import docker

if TYPE_CHECKING:
    import sqlite3

NAME = "podman"

_POD = re.compile(rf"/(?:[^/]*-libpod_pod_({HEX_ID})\.slice|libpod_parent/({HEX_ID}))/")
_DRIVERS = ("overlay-containers", "vfs-containers", "btrfs-containers")
_INDEXES = ("containers.json", "volatile-containers.json")
# libpod/define/containerstate.go. In the other states the database does not describe the present run yet.
_STATES = {3: "running", 5: "paused", 8: "stopping"}
_ENDED = (4, 6, 7)  # stopped, exited, removing
_DATABASE_LIMIT = 16 * 1024 * 1024
_DATABASE_STEPS = 200_000
_QUERY = """
    SELECT config.JSON, state.JSON, pod.Name FROM ContainerConfig AS config
    LEFT JOIN ContainerState AS state ON state.ID = config.ID
    LEFT JOIN PodConfig AS pod ON pod.ID = config.PodID
    WHERE config.ID = ?
"""


def match(path: str, identifier: str) -> Match:
    """Return the match of a Podman container, with the id of its pod."""
    pod = _POD.search(path)
    return Match(path, NAME, identifier, identifier, pod_id=(pod[1] or pod[2]) if pod else "")


FORMS = (Form("podman", r"(?:[^/]*:libpod:|libpod-(?:payload-)?){}(?:\.scope)?", HEX_ID, match),)


def describe(container: Match, home: Home) -> Details:
    """Return the details of a container, from the database if that can be read, else from the storage library's index.

    Never raises UnreadableError: `reason` says what could not be read.
    """
    identifier = container.runtime_id
    storage, health = _storage(home, identifier), _health(_health_files(home, identifier), home.uid)
    try:
        row = _row(storage / "db.sql", identifier, home.uid)
    except UnreadableError as error:
        return _with_annotations(
            replace(_indexed(storage, identifier, home.uid), health=health),
            [path / "config.json" for path in _userdata(storage, identifier)],
            _pidfiles(home, identifier),
            error,
            home.uid,
        )
    number = row.state.get("state")
    state = _STATES.get(number, "") if isinstance(number, int) else ""
    finished = epoch(row.state.get("finishedTime")) if number in _ENDED else None
    code = whole(row.state.get("exitCode", 0)) if finished is not None else None  # 0 is left out
    return Details(
        name=text(row.config.get("name")),
        image=text(row.config.get("rootfsImageName")),
        labels=texts(row.config.get("labels")),
        started_at=epoch(row.state.get("startedTime")) if state else None,
        state=state,
        health=health,
        pod=row.pod,
        restarts=whole(row.state.get("restartCount", 0)),
        exit_code=code,
        finished_at=finished,
        oom_killed=code is not None and row.state.get("oomKilled") is True,
        end_state="" if code is None else "exited",
    )


def files(container: Match, home: Home) -> list[Path]:
    """Return the database, its journal and the container's own files; the indexes where there is no database.

    The indexes change whenever any container comes or goes.
    """
    identifier = container.runtime_id
    storage = _storage(home, identifier)
    database = storage / "db.sql"
    found = [database, storage / "db.sql-journal", *_health_files(home, identifier)]
    if is_there(database):
        return found
    found += (storage / driver / index for driver in _DRIVERS for index in _INDEXES)
    found += (path / "config.json" for path in _userdata(storage, identifier))
    return found + _pidfiles(home, identifier)


def sockets(home: Home) -> tuple[Path, ...]:
    """Return where `podman system service` listens."""
    run = home.root / "run" if home.uid is None else home.root / f"run/user/{home.uid}"
    return (run / "podman/podman.sock",)


def _storages(home: Home) -> list[Path]:
    """Return where Podman may keep containers."""
    if home.home is not None:
        return [home.home / ".local/share/containers/storage"]
    return [*home.chosen, home.root / "var/lib/containers/storage"]


def _storage(home: Home, identifier: str) -> Path:
    """Return where a container is kept; the last place if it is nowhere."""
    *others, last = _storages(home)
    return next((path for path in others if any(map(is_there, _userdata(path, identifier)))), last)


def _runs(home: Home) -> list[Path]:
    """Return where Podman may keep what lasts until the next boot."""
    if home.home is not None:
        return [home.root / f"run/user/{home.uid}/containers"]
    return [*home.chosen, home.root / "run/containers/storage"]


def _pidfiles(home: Home, identifier: str) -> list[Path]:
    return [path / "pidfile" for run in _runs(home) for path in _userdata(run, identifier)]


def _health_files(home: Home, identifier: str) -> list[Path]:
    return [run / driver / identifier / "healthcheck.log" for run in _runs(home) for driver in _DRIVERS]


def _health(paths: list[Path], uid: int | None) -> str:
    """Return the status in the file that Podman writes after each health check, "" without one."""
    for path in paths:
        with suppress(UnreadableError):
            return text(mapping(read_json(path, uid)).get("Status"))
    return ""


def _with_annotations(
    details: Details, specifications: list[Path], pidfiles: list[Path], error: UnreadableError, uid: int | None
) -> Details:
    annotations: dict[str, str] = {}
    for path in specifications:
        with suppress(UnreadableError):
            annotations = texts(mapping(read_json(path, uid)).get("annotations"))
            break
    started: float | None = None
    for path in pidfiles:
        with suppress(UnreadableError):
            # conmon writes this file after the OCI runtime has created the container.
            _, started = read_with_mtime(path, uid)
            break
    reasons = filter(None, (details.reason, str(error), "labels are OCI annotations" if annotations else ""))
    return replace(details, labels=annotations, started_at=started, reason="; ".join(reasons))


def _userdata(storage: Path, identifier: str) -> Iterator[Path]:
    return (storage / driver / identifier / "userdata" for driver in _DRIVERS)


def _indexed(storage: Path, identifier: str, uid: int | None) -> Details:
    """Return the name and image that the storage library has for a container; both "" if it is in no index."""
    reasons: list[str] = []
    for driver in _DRIVERS:
        for index in _INDEXES:
            path = storage / driver / index
            try:
                entries = read_json(path, uid)
            except UnreadableError as error:
                if not error.missing:
                    reasons.append(str(error))
                continue
            for entry in entries if isinstance(entries, list) else ():
                fields = mapping(entry)
                if fields.get("id") == identifier:
                    return _entry(fields, path)
    return Details(reason="; ".join(reasons))


def _entry(fields: Mapping[str, object], path: Path) -> Details:
    names = fields.get("names")
    try:
        metadata = mapping(parse_json(text(fields.get("metadata")) or "{}", path))
    except UnreadableError:
        metadata = {}
    first = text(names[0]) if isinstance(names, list) and names else ""
    return Details(name=text(metadata.get("name")) or first, image=text(metadata.get("image-name")))


@dataclass(frozen=True, slots=True)
class _Row:
    config: Mapping[str, object]
    state: Mapping[str, object]
    pod: str


def _row(path: Path, identifier: str, uid: int | None) -> _Row:
    import sqlite3  # noqa: PLC0415  # most nodes have no container of Podman's

    try:
        with closing(_open(path, uid)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LIMIT)
            # The lookup takes about a hundred steps. A hostile schema that takes more is interrupted.
            database.set_progress_handler(lambda: 1, _DATABASE_STEPS)
            row = database.execute(_QUERY, (identifier,)).fetchone()
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise UnreadableError(path, f"not readable as Podman's database ({' '.join(str(error).split())})") from error
    if row is None:
        raise UnreadableError(path, f"has no container {identifier}")
    config, state, pod = row
    return _Row(mapping(_member(config, path)), mapping(_member(state, path)), text(pod))


def _member(value: object, path: Path) -> object:
    return parse_json(value, path) if isinstance(value, str | bytes) else None


def _open(path: Path, uid: int | None) -> sqlite3.Connection:
    """Open the database for reading. Raises UnreadableError, or sqlite3.Error.

    The database of a user is copied into memory first, so that the user can neither replace the file nor lock it.
    """
    import sqlite3  # noqa: PLC0415

    if uid is None:
        if not path.exists():
            raise UnreadableError(path, "not there, as before Podman 4.8 (BoltDB is not read)", missing=True)
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.25)
    journal = path.with_name("db.sql-journal")
    data = read_bytes(path, uid, _DATABASE_LIMIT)
    if not data:
        raise UnreadableError(path, "empty")
    if journal.exists():
        raise UnreadableError(path, "being written")
    database = sqlite3.connect(":memory:")
    try:
        database.deserialize(data)
    except BaseException:
        database.close()
        raise
    return database


def _places(home: Home) -> list[Place]:
    return [_place(storage) for storage in _storages(home)]


def _place(storage: Path) -> Place:
    if is_there(storage / "overlay-containers") and not is_there(storage / "db.sql"):
        known = "names, and annotations for labels (Podman before 4.8)"
        lacking = f"{storage} has no db.sql, as before Podman 4.8, and podman.socket is not there for this user"
        described = storage / "overlay-containers/containers.json"
        return Place(storage, storage, str(described.relative_to(storage)), known, lacking if _any(described) else "")
    return Place(storage, storage, "db.sql", "names and labels")


def _any(described: Path) -> bool:
    """Return whether a file that lists containers, as JSON, may list one. It is True if the file cannot be read."""
    try:
        return described.stat().st_size > len("[]")
    except FileNotFoundError:
        return False
    except OSError:
        return True


DAEMON = Daemon(sockets, HttpClient, docker.ask, docker.add, engine.events)
RUNTIME = Runtime(NAME, FORMS, describe, files, DAEMON, _places, directory="root or runroot of the storage")
