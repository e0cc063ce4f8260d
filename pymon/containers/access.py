"""Checks whether this user can read the files in which container runtimes describe their containers.

Without these files, a container has no labels, and only the name that its path has. Owner rules that use labels then do
not apply to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from .engine import may_connect
from .files import UnreadableError, is_there
from .runtimes import RUNTIMES, ChosenPath, system_home

FIX = "run pymon as root, or with the capabilities that deploy/pymon-agent.service gives it"

_LOOK = 16
"""The most containers of a runtime that are tried. A container that has just been removed has no files to read."""


class Access(NamedTuple):
    """Access to the files of a runtime that is on this node.

    directory: where the runtime describes its containers.
    known: what pymon reads there, such as "names and labels".
    problem: one line that says what cannot be read, or "".
    lacking: one line that says what the runtime has not written and why, or "". It is "" where
        the runtime's daemon can be asked.
    """

    runtime: str
    directory: Path
    known: str
    problem: str
    lacking: str = ""


def runtime_access(root: Path, chosen: Sequence[ChosenPath] = ()) -> list[Access]:
    """Return the access to each runtime that is on the node.

    root: the node's root directory. chosen: directories that the operator has named.
    """
    found: dict[str, Access] = {}
    for runtime in RUNTIMES:
        home = system_home(runtime, root, chosen)
        for place in runtime.places(home):
            if runtime.name not in found and is_there(place.marker):
                problem = _unreadable(place.directory, place.file.split("/"))
                sockets = runtime.daemon.sockets(home) if runtime.daemon is not None else ()
                lacking = "" if any(map(may_connect, sockets)) else place.lacking
                found[runtime.name] = Access(runtime.name, place.directory, place.known, problem, lacking)
    return list(found.values())


class Answer(NamedTuple):
    """What a runtime's daemon answers that is asked about every container.

    socket: where it listens. version: its name and version, "" if it does not answer. problem: why not, in one line, or
    "". missing: it answers, but not in the interface that pymon speaks.
    """

    runtime: str
    socket: Path
    version: str
    problem: str = ""
    missing: bool = False


def daemon_answers(root: Path, chosen: Sequence[ChosenPath] = ()) -> list[Answer]:
    """Ask the daemons that are on the node for their versions. Takes up to a second for each that hangs.

    root: the node's root directory. chosen: directories that the operator has named.
    """
    found: list[Answer] = []
    for runtime in RUNTIMES:
        daemon = runtime.daemon
        if daemon is None or daemon.version is None:
            continue
        for path in filter(is_there, daemon.sockets(system_home(runtime, root, chosen))):
            try:
                found.append(Answer(runtime.name, path, daemon.version(root, path)))
            except UnreadableError as error:
                found.append(Answer(runtime.name, path, "", " ".join(str(error).split()), error.missing))
    return found


def reads_namespaces(procfs: Path) -> bool:
    """Return whether this process can read the network namespaces of other users' processes."""
    return os.geteuid() == 0 or os.access(procfs / "1/ns/net", os.R_OK, effective_ids=True)


def _unreadable(path: Path, below: list[str]) -> str:
    """Return why the files below a directory cannot be read, or "". Missing files are not a problem.

    below: the components of the files' path, of which `*` stands for every name.
    """
    try:
        inside = [path / below[0]]
        if below[0] == "*":
            with os.scandir(path) as entries:
                fit = (entry for entry in entries if len(below) > 1 or entry.is_file(follow_symlinks=False))
                inside = [Path(entry.path) for entry in islice(fit, _LOOK)]
        if len(below) == 1:
            for file in inside:
                os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW))
                break
            return ""
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return next((problem for each in inside if (problem := _unreadable(each, below[1:]))), "")
