"""The words of this package: what a path tells (Match), what a runtime's files tell (Details)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Match:
    """A cgroup that is a container, and what its path alone tells about it.

    path: the cgroup, relative to the root of its hierarchy, with a leading "/".
    runtime: docker, podman, containerd, crio, lxc, nspawn, libvirt, systemd, pattern or cgroup.
    runtime_id: the runtime's own id or name of it; "" for plain cgroups.
    name: the best name that the path has; the runtime's files may know a better one.
    descend: whether cgroups below may be containers of their own.
    account: the owner that an operator's pattern captured.
    namespace: containerd namespace or LXD project, where the path has one.
    pod_id: UID of the Kubernetes pod, or id of the Podman pod.
    uid: the user whose slice holds the container; he names the cgroups in it, and writes the files that describe them.
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


@dataclass(frozen=True, slots=True)
class Details:
    """What a runtime's files say of a container.

    name, image, namespace, pod: "" without one.
    started_at: seconds since the epoch; None when the files do not tell, or tell of a run before this one only.
    state: running, paused or stopping; "" when the runtime has not written of this run yet.
    health: healthy, unhealthy, starting, or none when no check is set up; "" when not known.
    reason: one line that says what could not be read, or "".
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


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a runtime names its cgroups.

    group: name of the capturing group that stands for it.
    regex: matches the end of a path from behind a "/" on, without capturing.
    make: makes the match of a path and the text captured; None when what surrounds it says that it is no container.
    capture: the part of `regex` that is captured is written `{}` there, and its expression is here.
    """

    group: str
    regex: str
    capture: str
    make: Callable[[str, str], Match | None]


@dataclass(frozen=True, slots=True)
class Home:
    """The file tree that describes a container: the node's root, and for rootless ones the user's home.

    root: the node's root directory.
    uid: owner that every file read must have, so that a user cannot point at another's; None for the system's runtimes.
    home: the user's home directory, set together with `uid`.
    """

    root: Path
    uid: int | None = None
    home: Path | None = None


HEX_ID = "[0-9a-f]{64}"
"""Container ids of Docker, Podman, CRI-O and containerd's CRI: 256 random bits."""
