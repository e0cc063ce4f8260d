"""Finding a process of a container by which its network namespace can be entered."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pymon.sources.addresses import PROCESS_TRIES, processes

if TYPE_CHECKING:
    from pathlib import Path

_STAT_MAX_BYTES = 4096


class NetProcess(NamedTuple):
    """A process. start_ticks: when it started, as field 22 of /proc/PID/stat has it. namespace: inode of its network
    namespace. on_host: that is the host's.
    """

    pid: int
    start_ticks: int
    namespace: int
    on_host: bool


class NetProcesses:
    """Finds processes of containers by the path of the cgroup."""

    def __init__(self, procfs: Path, procs_root: Path) -> None:
        """procs_root: root of the hierarchy whose cgroup.procs is read (see `pymon.sources.cgroup.procs_root`)."""
        self._procfs = procfs
        self._root = os.fspath(procs_root)

    def find(self, path: str) -> NetProcess | None:
        """Return a process of the container whose cgroup is at `path`, None if it has none.

        Raises PermissionError if the namespaces of its processes may not be read.
        """
        for pid in islice(processes(self._root + path), PROCESS_TRIES):
            try:
                return self._look(self._procfs / str(pid), pid)
            except PermissionError:
                raise
            except (OSError, ValueError, IndexError):
                continue  # it has exited
        return None

    def _look(self, process: Path, pid: int) -> NetProcess:
        with (process / "stat").open("rb") as file:
            ticks = int(file.read(_STAT_MAX_BYTES).rpartition(b")")[2].split()[19])
        namespace = (process / "ns/net").stat()
        return NetProcess(pid, ticks, namespace.st_ino, os.path.samestat(namespace, self._host()))

    def _host(self) -> os.stat_result:
        try:
            return (self._procfs / "1/ns/net").stat()
        except PermissionError:
            return (self._procfs / "self/ns/net").stat()
