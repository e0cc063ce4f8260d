"""Podman: `libpod-ID.scope` (systemd), `libpod_parent/libpod-ID` (cgroupfs), `libpod-payload-ID` (`--cgroups=split`).

`libpod-conmon-ID` holds the monitor, not the container. A pod is `machine-libpod_pod_ID.slice` or `libpod_parent/ID`.

Names and images are in the storage library's `containers.json` (`volatile-containers.json` with `--rm`). Labels, start
and pod are in Podman's database: `db.sql`, SQLite, the default from Podman 4.8 on. Before that, as in Debian 12's 4.3,
it is BoltDB, which is not read: the annotations in the container's OCI `config.json` stand in for labels then.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from .files import (
    LIMIT,
    UnreadableError,
    epoch,
    mapping,
    parse_json,
    read_bytes,
    read_json,
    read_with_mtime,
    text,
    texts,
)
from .model import HEX_ID, Details, Form, Home, Match

RUNTIME = "podman"

_POD = re.compile(rf"/(?:[^/]*-libpod_pod_({HEX_ID})\.slice|libpod_parent/({HEX_ID}))/")
_DRIVERS = ("overlay-containers", "vfs-containers", "btrfs-containers")
_INDEXES = ("containers.json", "volatile-containers.json")
# libpod/define/containerstate.go; in the other states the database has not heard of this run.
_STATES = {3: "running", 5: "paused", 8: "stopping"}
_DATABASE_LIMIT = 16 * 1024 * 1024
_DATABASE_STEPS = 200_000
_QUERY = """
    SELECT config.JSON, state.JSON, pod.Name FROM ContainerConfig AS config
    LEFT JOIN ContainerState AS state ON state.ID = config.ID
    LEFT JOIN PodConfig AS pod ON pod.ID = config.PodID
    WHERE config.ID = ?
"""


def match(path: str, identifier: str) -> Match:
    """A Podman container whose id is known."""
    pod = _POD.search(path)
    return Match(path, RUNTIME, identifier, identifier, pod_id=(pod[1] or pod[2]) if pod else "")


FORMS = (Form("podman", r"(?:[^/]*:libpod:|libpod-(?:payload-)?){}(?:\.scope)?", HEX_ID, match),)


def describe(container: Match, home: Home) -> Details:
    """Details of a container, of the database where it can be read and of the storage's index otherwise."""
    identifier = container.runtime_id
    if home.home is None:
        storage = home.root / "var/lib/containers/storage"
        run = home.root / "run/containers/storage"
    else:
        storage = home.home / ".local/share/containers/storage"
        run = home.root / f"run/user/{home.uid}/containers"
    details = _indexed(storage, identifier, home.uid)
    try:
        row = _row(storage / "db.sql", identifier, home.uid)
    except UnreadableError as error:
        return _with_annotations(
            details,
            [path / "config.json" for path in _userdata(storage, identifier)],
            [path / "pidfile" for path in _userdata(run, identifier)],
            error,
            home.uid,
        )
    number = row.state.get("state")
    state = _STATES.get(number, "") if isinstance(number, int) else ""
    return replace(
        details,
        name=text(row.config.get("name")) or details.name,
        image=text(row.config.get("rootfsImageName")) or details.image,
        labels=texts(row.config.get("labels")),
        started_at=epoch(row.state.get("startedTime")) if state else None,
        state=state,
        pod=row.pod,
        reason="",
    )


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
            # conmon writes it when the runtime has made the container.
            _, started = read_with_mtime(path, uid)
            break
    reasons = filter(None, (details.reason, str(error), "labels are OCI annotations" if annotations else ""))
    return replace(details, labels=annotations, started_at=started, reason="; ".join(reasons))


def _userdata(storage: Path, identifier: str) -> Iterator[Path]:
    return (storage / driver / identifier / "userdata" for driver in _DRIVERS)


def _indexed(storage: Path, identifier: str, uid: int | None) -> Details:
    """Name and image that the storage library has for a container; both "" when no index has it."""
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
    try:
        with closing(_open(path, uid)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LIMIT)
            # The lookup takes a hundred steps. A schema made to waste time is cut off.
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
    """The database, never written. A user's is copied first, so that he can neither swap the file nor hold its lock."""
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
