"""LXC, LXD and Incus: `lxc.payload.NAME`, `lxc.payload/NAME`, `/lxc/NAME`; `lxc.monitor.NAME` is the monitor.

LXD and Incus use PROJECT_NAME for a container outside the default project; neither part may contain a `_`. Names in
LXC itself may contain one; whether LXC has a configuration of that name tells them apart. LXC appends `-1`, `-2`, … to
the name if an earlier run has left its cgroup behind.
"""

from __future__ import annotations

import re
from pathlib import Path

from pymon.containers.files import UnreadableError, read_bytes, text
from pymon.containers.model import Details, Form, Home, Match, Place, Runtime

NAME = "lxc"

_PROJECT = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*)_([A-Za-z][A-Za-z0-9-]*)")
_AGAIN = re.compile(r"(.+)-[0-9]{1,3}")
_HOST_NAME = re.compile(rb"^[ \t]*lxc\.(?:uts\.name|utsname)[ \t]*=[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


def match(path: str, name: str) -> Match:
    """Return the match of an LXC, LXD or Incus container."""
    project = _PROJECT.fullmatch(name)
    if project:
        return Match(path, NAME, name, project[2], namespace=project[1])
    return Match(path, NAME, name, name)


def match_at_root(path: str, name: str) -> Match | None:
    """Return the match of `/lxc/NAME`, or None elsewhere than at the root of the hierarchy."""
    return match(path, name) if path == f"/lxc/{name}" else None


FORMS = (
    Form("lxc_payload", r"lxc\.payload[./]{}", "[^/]+", match),
    Form("lxc_root", "lxc/{}", "[^/]+", match_at_root),
)


def describe(container: Match, home: Home) -> Details:
    """Return the host name in LXC's configuration as the container's name, or else the name in the cgroup's path.

    LXD and Incus keep their configuration in a database that is not read; `reason` says so. Raises UnreadableError if
    the configuration exists but cannot be read.
    """
    paths = files(container, home)
    for path in paths:
        try:
            found = _HOST_NAME.search(read_bytes(path, home.uid))
        except UnreadableError as error:
            if not error.missing:
                raise
            continue
        return Details(name=text(found[1].decode("utf-8", "replace")) if found and found[1] else path.parent.name)
    reason = (
        f"{_directories(home)[-1] / container.runtime_id / 'config'}: not there; those of LXD and Incus are not read"
    )
    return Details(name=container.name, namespace=container.namespace, reason=reason)


def files(container: Match, home: Home) -> list[Path]:
    """Return where LXC's configuration of a container can be: below its name, and its name without a number."""
    names = [container.runtime_id]
    if again := _AGAIN.fullmatch(container.runtime_id):
        names.append(again[1])
    names = [name for name in names if name not in (".", "..")]
    return [directory / name / "config" for directory in _directories(home) for name in names]


def _directories(home: Home) -> list[Path]:
    return [*home.chosen, home.root / "var/lib/lxc"] if home.home is None else [home.home / ".local/share/lxc"]


def _places(home: Home) -> list[Place]:
    known = "names (there are no labels)"
    return [Place(directory, directory, "*/config", known) for directory in _directories(home)]


RUNTIME = Runtime(NAME, FORMS, describe, files, places=_places, directory="lxcpath")
