"""Details of containers, such as name, image and labels, from the files that runtimes write.

A runtime's daemon is asked for what its files do not say.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple

from pymon.containers.engine import Asked, Engines, Event, connect, may_connect
from pymon.containers.files import UnreadableError, is_there, read_bytes
from pymon.containers.model import Daemon, Details, Home, Match, Runtime
from pymon.containers.stamps import Stamps, stamps_of

_modules = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]

RUNTIMES: tuple[Runtime, ...] = tuple(module.RUNTIME for module in _modules if hasattr(module, "RUNTIME"))
"""All runtimes: each module of this package that has a RUNTIME, by its name."""

KINDS: Mapping[str, str] = {item.name: item.directory for item in RUNTIMES if item.directory}
"""The runtimes of which the operator may name a directory, and what directory that is."""

_RUNTIME_OF: Mapping[str, Runtime] = {name: item for item in RUNTIMES for name in (item.name, *item.names)}
_PASSWD_FIELDS = 7

MAX_TEXT = 1024
"""The most characters of a name, image, state, health, namespace or pod. Longer text is replaced with ""."""

MAX_LABEL = 4096
"""The most characters of a label's value. Labels with longer values are left out."""

MAX_LABELS = 65536
"""The most characters of all labels of a container, keys included. The longest labels beyond it are left out."""


def has_events(name: str) -> bool:
    """Return whether a runtime can have a daemon whose events say which containers have changed."""
    return name in _RUNTIME_OF and _RUNTIME_OF[name].daemon is not None


def tells_all(name: str) -> bool:
    """Return whether a runtime can have a daemon whose events tell of every change that its files show."""
    runtime = _RUNTIME_OF.get(name)
    return runtime is not None and runtime.daemon is not None and runtime.daemon.tells_all


def knows_more(name: str) -> bool:
    """Return whether a runtime can have a daemon that knows what is in no file."""
    runtime = _RUNTIME_OF.get(name)
    return runtime is not None and runtime.daemon is not None and runtime.daemon.always


def has_files(match: Match) -> bool:
    """Return whether the runtime of a container describes it in files. Reading these files can block."""
    runtime = _RUNTIME_OF.get(match.runtime)
    return runtime is not None and runtime.describe is not None


def outline(match: Match) -> Details:
    """Return the details that a container's path gives. If its runtime has files, `unread` is true."""
    if not has_files(match):
        return _of_path(match)
    return replace(_of_path(match), unread=True, reason="its description has not been read yet")


def _of_path(match: Match) -> Details:
    return Details(name=match.name, namespace=match.namespace)


class ChosenPath(NamedTuple):
    """A directory of a runtime on the node that the operator has named (`--runtime.path`)."""

    runtime: str
    directory: Path


def parse_path(text: str) -> ChosenPath:
    """Parse `KIND=DIR`. Raises ValueError with what was expected."""
    kind, _, directory = text.partition("=")
    if kind not in KINDS or not directory.startswith("/"):
        raise ValueError(f"KIND=/DIR, with KIND {', '.join(KINDS)}")
    return ChosenPath(kind, Path(directory))


def system_home(runtime: Runtime, root: Path, chosen: Sequence[ChosenPath]) -> Home:
    """Return the file tree of the system's runtime. root: the node's root directory."""
    named = (item.directory for item in chosen if item.runtime == runtime.name)
    return Home(root, chosen=tuple(root / directory.relative_to("/") for directory in named))


class Runtimes:
    """Details of containers, read below the node's root directory (`--path.rootfs`)."""

    def __init__(self, rootfs: Path | str = "/", chosen: Sequence[ChosenPath] = ()) -> None:
        """chosen: directories that the operator has named."""
        self._root = Path(rootfs)
        self._chosen = chosen
        self._engines = Engines()
        self._homes: tuple[Stamps | None, Mapping[str, Path]] = (None, {})

    def describe(self, match: Match) -> Details:
        """Return the details of a container.

        Never raises: a field that cannot be read is "", None or empty, and `reason` says why. `name` is the name that
        cAdvisor shows (its first alias, such as Docker's container name), or else the name in the path. For a container
        in a user's slice, only files of this user are read: the user chooses the ids in the slice, and could use those
        of other users' containers.
        """
        runtime = _RUNTIME_OF.get(match.runtime)
        if runtime is None or runtime.describe is None:
            return _of_path(match)
        try:
            details = self._read(runtime, match)
        except (UnreadableError, OSError) as error:
            details = replace(_of_path(match), reason=" ".join(str(error).split()))
        daemon = runtime.daemon
        if daemon is not None and (details.reason or daemon.always):
            details = self._asked(runtime, daemon, match, details)
        details = bounded(details)
        return details if details.name else replace(details, name=match.name)

    def _asked(self, runtime: Runtime, daemon: Daemon, match: Match, details: Details) -> Details:
        """Return what files and daemon say of a container; `reason` says it if the daemon does not answer."""
        try:
            for path in self._sockets(runtime, daemon, match.uid):
                try:
                    opened = partial(self._client, daemon, path, match.uid)
                    said = self._engines.ask(path, opened, partial(daemon.ask, path, match))
                except UnreadableError as error:
                    if error.missing:
                        continue  # it may be another's
                    raise
                return daemon.add(details, said)
        except (UnreadableError, OSError) as error:
            return replace(details, reason=details.reason or " ".join(str(error).split()))
        return details

    def events(self, name: str, uid: int | None, opened: Callable[[socket.socket], None]) -> Iterator[Event]:
        """Yield what `Daemon.events` does, of a runtime's daemon. Raises UnreadableError or OSError.

        opened: called with the connection. Shutting it down ends the events.
        """
        runtime = _RUNTIME_OF[name]
        daemon = runtime.daemon
        if daemon is None:
            return
        for path in self._sockets(runtime, daemon, uid):
            try:
                with connect(self._root, path, uid) as connection:
                    opened(connection)
                    yield from daemon.events(connection, path)
            except UnreadableError as error:
                if not error.missing:
                    raise

    def _client(self, daemon: Daemon, path: Path, uid: int | None) -> Asked:
        connection = connect(self._root, path, uid)
        try:
            return daemon.client(connection, path)
        except BaseException:
            connection.close()
            raise

    def _sockets(self, runtime: Runtime, daemon: Daemon, uid: int | None) -> Iterable[Path]:
        """Return the sockets of a daemon that may be asked. Raises UnreadableError."""
        return filter(may_connect, daemon.sockets(self._home(runtime, uid)))

    def stamps(self, match: Match) -> Stamps | None:
        """Return the stamps of the files that describe a container, as `stamps_of` does. Never raises.

        If they equal those that were taken before `describe`, its result is still true.
        """
        runtime = _RUNTIME_OF.get(match.runtime)
        if runtime is None:
            return ()
        try:
            files = [*runtime.files(match, self._home(runtime, match.uid))]
            other = _other(runtime, match)
            if other is not None and not any(map(is_there, files)):
                files += other.files(match, self._home(other, match.uid))
        except (UnreadableError, OSError):
            return ()
        return stamps_of(files)

    def _read(self, runtime: Runtime, match: Match) -> Details:
        if runtime.describe is None:
            return _of_path(match)
        try:
            return runtime.describe(match, self._home(runtime, match.uid))
        except UnreadableError as error:
            other = _other(runtime, match)
            if other is None or other.describe is None or not error.missing:
                raise
            try:
                return other.describe(match, self._home(other, match.uid))
            except UnreadableError:
                raise error from None

    def _home(self, runtime: Runtime, uid: int | None) -> Home:
        if uid is None:
            return system_home(runtime, self._root, self._chosen)
        path = self._root / "etc/passwd"
        now = stamps_of((path,))
        seen, homes = self._homes
        if now is None or now != seen:
            homes = _homes(path)
            self._homes = now, homes
        home = homes.get(str(uid))
        if home is None:
            raise UnreadableError(path, f"has no user {uid}, whose home would describe the container")
        return Home(self._root, uid, self._root / home)


def _other(runtime: Runtime, match: Match) -> Runtime | None:
    """Return the other runtime that may have made a container's cgroup, None if there is none."""
    return _RUNTIME_OF.get(runtime.same_paths) if match.path.endswith(f"/{match.runtime_id}") else None


def _homes(passwd: Path) -> Mapping[str, Path]:
    """Return the home directories by uid, relative to the root. Raises UnreadableError."""
    homes: dict[str, Path] = {}
    for line in read_bytes(passwd).decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) == _PASSWD_FIELDS:
            homes.setdefault(fields[2], Path(fields[5].lstrip("/")))
    return homes


def bounded(details: Details) -> Details:
    """Return the details without text that is too long; `reason` says what was left out.

    Tenants choose this text, and it is part of every inventory and exposition.
    """
    fields = ("name", "image", "state", "health", "namespace", "pod")
    long = {name: len(getattr(details, name)) for name in fields if len(getattr(details, name)) > MAX_TEXT}
    labels: dict[str, str] = {}
    left = MAX_LABELS
    for key, value in sorted(details.labels.items(), key=lambda item: len(item[0]) + len(item[1])):
        left -= len(key) + len(value)
        if left >= 0 and len(value) <= MAX_LABEL:
            labels[key] = value
    said = [f"{name} of {length} characters" for name, length in long.items()]
    names = details.kubernetes
    if names is not None and max(map(len, names)) > MAX_TEXT:
        names = None
        said.append("names in Kubernetes")
    if gone := len(details.labels) - len(labels):
        said.append(f"{gone} labels")
    if not said:
        return details
    reason = "; ".join(filter(None, (details.reason, f"too long, left out: {', '.join(said)}")))
    texts: dict[str, Any] = dict.fromkeys(long, "")
    return replace(details, **texts, labels=labels, reason=reason, kubernetes=names)
