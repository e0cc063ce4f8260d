"""LXC, LXD and Incus: `lxc.payload.NAME`, `lxc.payload/NAME`, `/lxc/NAME`; `lxc.monitor.NAME` is the monitor.

LXD and Incus use PROJECT_NAME for a container outside the default project; neither part may contain a `_`. Names in
LXC itself may contain one; whether LXC has a configuration of that name tells them apart. LXC appends `-1`, `-2`, … to
the name if an earlier run has left its cgroup behind.

LXD and Incus have a database in place of files, and are asked over their sockets, which are root's. Their events come
over WebSockets alone, so they are asked again every ten seconds. Of an instance's configuration, `user.*` and `image.*`
are labels, but what cloud-init reads there, which may be secret.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pymon.containers import engine
from pymon.containers.engine import Event
from pymon.containers.files import UnreadableError, epoch, mapping, parse_json, read_bytes, text, texts
from pymon.containers.http_client import HttpClient
from pymon.containers.model import Daemon, Details, Form, Home, Match, Place, Runtime

NAME = "lxc"

_PROJECT = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*)_([A-Za-z][A-Za-z0-9-]*)")
_AGAIN = re.compile(r"(.+)-[0-9]{1,3}")
# The names that LXD and Incus allow.
_INSTANCE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
_SOCKETS = ("var/lib/incus/unix.socket", "var/snap/lxd/common/lxd/unix.socket", "var/lib/lxd/unix.socket")
_STATES = {"Running": "running", "Frozen": "paused"}
_LABELS = ("user.", "image.")
_OF_CLOUD_INIT = {f"user.{name}" for name in ("meta-data", "network-config", "user-data", "vendor-data")}

ASK_AGAIN_SECONDS = 10.0
"""Interval at which LXD and Incus are asked again about their instances."""

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

    LXD and Incus have no such file; `reason` says so. Raises UnreadableError if the configuration exists but cannot be
    read.
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


def sockets(home: Home) -> tuple[Path, ...]:
    """Return where Incus and LXD listen. Users have none."""
    return () if home.home is not None else tuple(home.root / path for path in _SOCKETS)


def ask(path: Path, container: Match, client: HttpClient) -> Details:
    """Return what LXD or Incus says of an instance. Raises UnreadableError."""
    name, project = container.name, container.namespace or "default"
    if not _INSTANCE.fullmatch(name) or not _PROJECT_NAME.fullmatch(project):
        raise UnreadableError(path, "has no instance of such a name", missing=True)
    target = f"/1.0/instances/{name}?project={project}"
    answer = mapping(parse_json(client.get(target, engine.ANSWER_LIMIT, engine.ASK_SECONDS), path))
    instance = mapping(answer.get("metadata"))
    if instance.get("name") != name:
        raise UnreadableError(path, "answered about another instance")
    config = texts(instance.get("config"))
    state = _STATES.get(text(instance.get("status")), "")
    return Details(
        name=name,
        namespace=container.namespace,
        image=config.get("image.description", ""),
        labels=_labels(config),
        started_at=epoch(instance.get("last_used_at")) if state else None,
        state=state,
    )


def add(details: Details, said: Details) -> Details:
    """Return what LXD or Incus says. There are no files beside it."""
    del details
    return replace(said, asked=True)


def events(connection: socket.socket, path: Path) -> Iterator[Event]:
    """Yield "" every `ASK_AGAIN_SECONDS`. Ends with the connection. Raises UnreadableError."""
    connection.settimeout(ASK_AGAIN_SECONDS)
    yield ""
    while True:
        try:
            if connection.recv(1):
                raise UnreadableError(path, "sent what was not asked for")
        except TimeoutError:
            yield ""
        else:
            return


def _labels(config: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in config.items() if key.startswith(_LABELS) and key not in _OF_CLOUD_INIT}


def _directories(home: Home) -> list[Path]:
    return [*home.chosen, home.root / "var/lib/lxc"] if home.home is None else [home.home / ".local/share/lxc"]


def _places(home: Home) -> list[Place]:
    known = "names (there are no labels)"
    return [Place(directory, directory, "*/config", known) for directory in _directories(home)]


DAEMON = Daemon(sockets, HttpClient, ask, add, events)
RUNTIME = Runtime(NAME, FORMS, describe, files, DAEMON, _places, directory="lxcpath")
