"""The runtimes' own files: what a container is called, and what it is made of. No daemon is asked, no socket opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from . import containerd, crio, docker, lxc, machines, podman
from .files import UnreadableError, read_bytes
from .model import Details, Home, Match

_DESCRIBE: Mapping[str, Callable[[Match, Home], Details]] = {
    docker.RUNTIME: docker.describe,
    podman.RUNTIME: podman.describe,
    containerd.RUNTIME: containerd.describe,
    crio.RUNTIME: crio.describe,
    lxc.RUNTIME: lxc.describe,
    machines.NSPAWN: machines.describe,
    machines.LIBVIRT: machines.describe,
}
# With the cgroupfs driver a path does not tell cri-dockerd's containers from containerd's, nor nerdctl's from Docker's.
_SAME_NAMES: Mapping[str, Callable[[Match, Home], Details]] = {
    docker.RUNTIME: containerd.describe,
    containerd.RUNTIME: docker.describe,
}
_PASSWD_FIELDS = 7


class Runtimes:
    """Details of containers, read below the node's root directory (`--path.rootfs`)."""

    def __init__(self, rootfs: Path | str = "/") -> None:
        self._root = Path(rootfs)

    def describe(self, match: Match) -> Details:
        """What is known of a container. Never raises: what cannot be read is "", None or empty, and `reason` says why.

        `name` is cAdvisor's (the first alias: Docker's container name) where there is one, and the name that the path
        has otherwise. A container in a user's slice is described by files of that user only: he chooses the ids in his
        part of the tree, and could name those of others.
        """
        read = _DESCRIBE.get(match.runtime)
        if read is None:
            return Details(name=match.name, namespace=match.namespace)
        try:
            details = self._read(read, match)
        except (UnreadableError, OSError) as error:
            return Details(name=match.name, namespace=match.namespace, reason=" ".join(str(error).split()))
        return details if details.name else replace(details, name=match.name)

    def _read(self, read: Callable[[Match, Home], Details], match: Match) -> Details:
        home = self._home(match.uid)
        try:
            return read(match, home)
        except UnreadableError as error:
            other = _SAME_NAMES.get(match.runtime)
            if other is None or not error.missing:
                raise
            try:
                return other(match, home)
            except UnreadableError:
                raise error from None

    def _home(self, uid: int | None) -> Home:
        if uid is None:
            return Home(self._root)
        path = self._root / "etc/passwd"
        for line in read_bytes(path).decode("utf-8", "replace").splitlines():
            fields = line.split(":")
            if len(fields) == _PASSWD_FIELDS and fields[2] == str(uid):
                return Home(self._root, uid, self._root / fields[5].lstrip("/"))
        raise UnreadableError(path, f"has no user {uid}, whose home would describe the container")
