"""Records about containers: what a cgroup's path says (Match), and what a runtime's files say (Details)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .engine import Asked, Event


@dataclass(frozen=True, slots=True)
class Match:
    """A cgroup that is a container, and what its path alone says of it; or one that is measured only.

    path: the cgroup, relative to the root of its hierarchy, with a leading "/".
    runtime: docker, podman, containerd, crio, lxc, nspawn, libvirt, systemd, pattern or cgroup.
    runtime_id: the runtime's id or name of the container; "" for plain cgroups.
    name: the best name that the path has; the runtime's files may have a better one.
    descend: whether cgroups below may be containers too.
    account: the owner that the operator's pattern captured, or None.
    namespace: containerd namespace or LXD project; "" if the path has none.
    pod_id: UID of the Kubernetes pod, or id of the Podman pod; "" without one.
    uid: uid of the user whose slice contains the cgroup, or None. The user names the cgroups in this slice, and writes
        the files that describe them.
    measured_only: it is no container: it has metrics, and no place in the inventory.
    """

    path: str
    runtime: str
    runtime_id: str = ""
    name: str = ""
    descend: bool = False
    account: str | None = None
    namespace: str = ""
    pod_id: str = ""
    uid: int | None = None
    measured_only: bool = False


class PodNames(NamedTuple):
    """What Kubernetes calls a container.

    namespace, pod: of the pod. container: the container in the pod's specification; "POD" or "" for the one that holds
    the pod's namespaces, as its runtime has it.
    """

    namespace: str
    pod: str
    container: str


@dataclass(frozen=True, slots=True)
class Details:
    """What a runtime's files say of a container.

    name, image, namespace, pod: "" without one.
    labels: empty if the runtime has none.
    started_at: seconds since the epoch; None if the files do not have it, or only have that of a previous run.
    state: running, paused or stopping; "" if the runtime has not recorded this run yet.
    health: healthy, unhealthy, starting, or none without a health check; "" if it is not known.
    reason: one line that says what could not be read, or "".
    unread: the files have not been read yet; everything here comes from the path.
    asked: the runtime's daemon said this, or what its files do not say.
    kubernetes: None if the kubelet has not started the container, or if that is not certain.
    restarts: how often the runtime has started it again; None if it does not count.
    exit_code, finished_at: of its last run, once that has ended; the end is in seconds since the epoch. None if the
        runtime does not tell.
    oom_killed: whether a process of its last run was killed for want of memory; False before the end, and if the
        runtime does not tell.
    addresses, ports: of the container in its networks, the latter as `80/tcp`; empty if the runtime does not tell.
    end_state: exited or dead, once its last run has ended; "" before, and if the runtime does not tell.
    """

    name: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    started_at: float | None = None
    state: str = ""
    health: str = ""
    namespace: str = ""
    pod: str = ""
    reason: str = ""
    unread: bool = False
    asked: bool = False
    kubernetes: PodNames | None = None
    restarts: int | None = None
    exit_code: int | None = None
    finished_at: float | None = None
    oom_killed: bool = False
    addresses: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    end_state: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a runtime names its cgroups.

    group: name of the capturing group of this form.
    regex: regular expression for the end of a path, after a "/". It has no groups; `{}` stands for the captured part.
    capture: regular expression of the captured part.
    make: takes the path and the captured text, and returns the match; None if the rest of the path rules one out.
    last: it matches so many names that the forms of all other runtimes come first.
    """

    group: str
    regex: str
    capture: str
    make: Callable[[str, str], Match | None]
    last: bool = False


@dataclass(frozen=True, slots=True)
class Home:
    """The file tree that describes a container: the node's root, and the user's home for rootless containers.

    root: the node's root directory.
    uid: the owner that every file must have, so that a user cannot refer to another user's files. None for the system's
        runtimes.
    home: the user's home directory; None if `uid` is None.
    chosen: directories of the runtime that the operator has named, which come before the usual ones.
    """

    root: Path
    uid: int | None = None
    home: Path | None = None
    chosen: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a runtime describes containers.

    marker: a path that exists if the runtime is on this node.
    file: path below `directory`, in which a component `*` stands for every name.
    known: what pymon reads there, such as "names and labels".
    lacking: one line that says what cannot be known there and why, or "".
    """

    marker: Path
    directory: Path
    file: str
    known: str
    lacking: str = ""


def _no_places(home: Home) -> tuple[Place, ...]:
    del home
    return ()


def _no_files(match: Match, home: Home) -> tuple[Path, ...]:
    del match, home
    return ()


@dataclass(frozen=True, slots=True)
class Daemon:
    """A runtime's daemon, which can be asked about containers.

    sockets: returns where it listens; nothing where the user of a home can have none.
    client: takes a connection and the path of its socket. Returns what asks over it. Raises UnreadableError.
    ask: takes the path of the socket, a container, and such a client. Returns what the daemon says of it. Raises
        UnreadableError, `missing` if the daemon does not know it or has no such interface.
    add: takes what the files say and what the daemon says. Returns both together.
    events: takes a connection and the path of its socket. Yields "" once it tells all changes, then what has changed.
        Raises UnreadableError or OSError.
    tells_all: whether its events tell of every change that its files show.
    always: whether it knows things that are in no file, so that it is asked about every container.
    version: takes the node's root and the path of the socket. Returns the daemon's name and version. None if it is not
        asked.
    """

    sockets: Callable[[Home], Iterable[Path]]
    client: Callable[[socket.socket, Path], Asked]
    ask: Callable[[Path, Match, Any], Details]
    add: Callable[[Details, Details], Details]
    events: Callable[[socket.socket, Path], Iterator[Event]]
    tells_all: bool = False
    always: bool = False
    version: Callable[[Path, Path], str] | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    """A container runtime: all that pymon knows about it.

    name: as in `Match.runtime`.
    forms: how it names its cgroups.
    describe: returns what its files say of a container, and raises UnreadableError if they cannot be read. None if the
        runtime has no files.
    daemon: what is asked for what the files do not say. None if there is none.
    files: returns the files that `describe` reads. A container is described again when one of them changes.
    places: returns where the system's runtime describes containers.
    directory: what the operator may name a directory of (`Home.chosen`), "" if the runtime takes none.
    names: further values of `Match.runtime` that its forms produce.
    same_paths: the runtime that may have created a cgroup too whose name is the bare id. Its files are tried when those
        of this runtime are missing.
    """

    name: str
    forms: tuple[Form, ...]
    describe: Callable[[Match, Home], Details] | None = None
    files: Callable[[Match, Home], Iterable[Path]] = _no_files
    daemon: Daemon | None = None
    places: Callable[[Home], Iterable[Place]] = _no_places
    directory: str = ""
    names: tuple[str, ...] = ()
    same_paths: str = ""


HEX_ID = "[0-9a-f]{64}"
"""Regular expression for container ids of Docker, Podman, CRI-O and containerd's CRI plugin: 256 random bits."""
