"""Docker: `docker-ID.scope` or `…:docker:ID` (systemd driver), a bare ID below any parent (cgroupfs driver).

The daemon keeps `containers/ID/config.v2.json` in its data directory, and replaces it when state or
health changes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from pymon.containers import engine, network
from pymon.containers.files import (
    UnreadableError,
    epoch,
    first_json,
    mapping,
    parse_json,
    read_json,
    text,
    texts,
    whole,
)
from pymon.containers.http_client import HttpClient
from pymon.containers.model import HEX_ID, Daemon, Details, Form, Home, Match, Place, Runtime
from pymon.containers.stamps import Stamps, stamps_of

from . import kubernetes

NAME = "docker"


def match(path: str, identifier: str) -> Match:
    """Return the match of a Docker container."""
    return Match(path, NAME, identifier, identifier, pod_id=kubernetes.pod_uid(path))


FORMS = (Form("docker", r"(?:[^/]*:docker:|docker-){}(?:\.scope)?", HEX_ID, match),)


def describe(container: Match, home: Home) -> Details:
    """Return the details of a container. Raises UnreadableError if its config.v2.json cannot be read.

    The name has no leading slash. The image is the reference that the container was created with.
    """
    return details_of(first_json(files(container, home), home.uid), container)


_STATE = ("Running", "Paused", "StartedAt", "FinishedAt", "ExitCode", "OOMKilled", "Dead", "Health")
_State = TypedDict("_State", dict.fromkeys(_STATE, Any), total=False)  # type: ignore[misc]
_Config = TypedDict("_Config", dict.fromkeys(("Image", "Labels"), Any), total=False)  # type: ignore[misc]
_Network = TypedDict("_Network", dict.fromkeys(("Networks", "Ports"), Any), total=False)  # type: ignore[misc]
_MEMBERS = {"Name": Any, "RestartCount": Any, "State": _State, "Config": _Config, "NetworkSettings": _Network}
_Document = TypedDict("_Document", _MEMBERS, total=False)  # type: ignore[misc]
"""What is looked at of a container's document, which is a tenth of it."""


def _parsed(data: bytes, path: Path) -> object:
    """Return the JSON document that a daemon has answered, at least what is looked at. Raises UnreadableError."""
    import msgspec  # noqa: PLC0415  # only processes that serve load it

    try:
        return msgspec.json.decode(data, type=_Document)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return parse_json(data, path)  # it has another shape, of which the good parts are taken


def details_of(value: object, container: Match) -> Details:
    """Return the details in a config.v2.json, or in the daemon's answer to `docker inspect`, which is like it."""
    document = mapping(value)
    config = mapping(document.get("Config"))
    state = mapping(document.get("State"))
    # Docker sets Running after it has started the process. Until then StartedAt is that of the previous run.
    # Running is true for a paused container too.
    running = state.get("Running") is True
    labels = texts(config.get("Labels"))
    restarts = document.get("RestartCount")
    if isinstance(restarts, int) and restarts > 0:
        # cAdvisor adds this label, and dashboards use it.
        labels.setdefault("restartcount", str(restarts))
    namespace, pod = kubernetes.pod_of(labels)
    finished, code = epoch(state.get("FinishedAt")), whole(state.get("ExitCode"))
    over = not running and finished is not None and code is not None
    return Details(
        name=text(document.get("Name")).removeprefix("/"),
        image=text(config.get("Image")),
        labels=labels,
        started_at=epoch(state.get("StartedAt")) if running else None,
        state=("paused" if state.get("Paused") is True else "running") if running else "",
        health=text(mapping(state.get("Health")).get("Status")) or ("none" if "Health" in state else ""),
        namespace=namespace,
        pod=pod,
        kubernetes=kubernetes.names(container, labels, labels.get(kubernetes.CONTAINER_NAME, ""), cri=False),
        restarts=whole(restarts),
        addresses=network.addresses(document.get("NetworkSettings")) if running else (),
        ports=network.ports(document.get("NetworkSettings")),
        exit_code=code if over else None,
        finished_at=finished if over else None,
        oom_killed=over and state.get("OOMKilled") is True,
        end_state=("dead" if state.get("Dead") is True else "exited") if over else "",
    )


def files(container: Match, home: Home) -> list[Path]:
    """Return where the file that describes a container can be."""
    return [root / f"containers/{container.runtime_id}/config.v2.json" for root in _data_roots(home)]


def ask(path: Path, container: Match, client: HttpClient) -> Details:
    """Return what a daemon with Docker's API says of a container. Raises UnreadableError."""
    return details_of(_parsed(engine.inspect(client, container.runtime_id), path), container)


def add(details: Details, said: Details) -> Details:
    """Return what the daemon says, with what only the files of a container say."""
    return replace(
        said,
        started_at=said.started_at or details.started_at,
        health=details.health or said.health,
        pod=said.pod or details.pod,
        asked=True,
    )


def sockets(home: Home) -> tuple[Path, ...]:
    """Return the path of the daemon's socket: in /run, or in the user's own directory below it."""
    run = home.root / "run" if home.uid is None else home.root / f"run/user/{home.uid}"
    return (run / "docker.sock",)


def _data_roots(home: Home) -> tuple[Path, ...]:
    """Return the data directories: those that are named, and `data-root` in the configuration or the default."""
    if home.home is not None:
        return (home.home / ".local/share/docker",)
    file = home.root / "etc/docker/daemon.json"
    return *home.chosen, home.root / _data_root(file, stamps_of((file,)) or time.monotonic())


@lru_cache(maxsize=4)
def _data_root(file: Path, version: Stamps | float) -> str:
    """Return the data-root in a configuration, relative to the root. version: what differs when the file does."""
    del version
    try:
        chosen = text(mapping(read_json(file)).get("data-root"))
    except UnreadableError:
        # The file is missing, or so broken that Docker cannot have started with it.
        chosen = ""
    return chosen.lstrip("/") or "var/lib/docker"


def _places(home: Home) -> list[Place]:
    known = "names and labels"
    return [Place(root / "containers", root / "containers", "*/config.v2.json", known) for root in _data_roots(home)]


DAEMON = Daemon(sockets, HttpClient, ask, add, engine.events, tells_all=True)
RUNTIME = Runtime(NAME, FORMS, describe, files, DAEMON, _places, directory="data-root", same_paths="containerd")
"""With the cgroupfs driver, nerdctl and Docker use the same paths."""
