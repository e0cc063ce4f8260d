"""Docker: `docker-ID.scope` or `…:docker:ID` (systemd driver), a bare ID below any parent (cgroupfs driver).

The daemon keeps `containers/ID/config.v2.json` in its data directory, and replaces it when state or
health changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pymon.containers import engine
from pymon.containers.files import UnreadableError, epoch, first_json, mapping, read_json, text, texts, whole
from pymon.containers.model import HEX_ID, Daemon, Details, Form, Home, Match, Place, Runtime

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
        exit_code=code if over else None,
        finished_at=finished if over else None,
        oom_killed=over and state.get("OOMKilled") is True,
        end_state=("dead" if state.get("Dead") is True else "exited") if over else "",
    )


def files(container: Match, home: Home) -> list[Path]:
    """Return where the file that describes a container can be."""
    return [root / "containers" / container.runtime_id / "config.v2.json" for root in _data_roots(home)]


def ask(root: Path, path: Path, container: Match) -> Details:
    """Return what a daemon with Docker's API says of a container. Raises UnreadableError."""
    return details_of(engine.inspect(root, path, container.uid, container.runtime_id), container)


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
    try:
        chosen = text(mapping(read_json(home.root / "etc/docker/daemon.json")).get("data-root"))
    except UnreadableError:
        # The file is missing, or so broken that Docker cannot have started with it.
        chosen = ""
    return *home.chosen, home.root / (chosen.lstrip("/") or "var/lib/docker")


def _places(home: Home) -> list[Place]:
    known = "names and labels"
    return [Place(root / "containers", root / "containers", "*/config.v2.json", known) for root in _data_roots(home)]


DAEMON = Daemon(sockets, ask, add, engine.events)
RUNTIME = Runtime(NAME, FORMS, describe, files, DAEMON, _places, directory="data-root", same_paths="containerd")
"""With the cgroupfs driver, nerdctl and Docker use the same paths."""
