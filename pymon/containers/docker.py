"""Docker: `docker-ID.scope` or `…:docker:ID` (systemd driver), a bare ID below any parent (cgroupfs driver).

Its daemon keeps `containers/ID/config.v2.json` below its data directory, and writes it anew on each change of state.
"""

from __future__ import annotations

from pathlib import Path

from . import kubernetes
from .files import UnreadableError, epoch, mapping, read_json, text, texts
from .model import HEX_ID, Details, Form, Home, Match

RUNTIME = "docker"


def match(path: str, identifier: str) -> Match:
    """A Docker container whose id is known."""
    return Match(path, RUNTIME, identifier, identifier, pod_id=kubernetes.pod_uid(path))


FORMS = (Form("docker", r"(?:[^/]*:docker:|docker-){}(?:\.scope)?", HEX_ID, match),)


def describe(container: Match, home: Home) -> Details:
    """Details of a container; the name is without Docker's leading slash, the image as it was asked for."""
    path = _data_root(home) / "containers" / container.runtime_id / "config.v2.json"
    document = mapping(read_json(path, home.uid))
    config = mapping(document.get("Config"))
    state = mapping(document.get("State"))
    # Written when the process runs: until then the start is that of the run before. A paused container is Running too.
    running = state.get("Running") is True
    labels = texts(config.get("Labels"))
    restarts = document.get("RestartCount")
    if isinstance(restarts, int) and restarts > 0:
        # cAdvisor's label, which dashboards know.
        labels.setdefault("restartcount", str(restarts))
    namespace, pod = kubernetes.pod_of(labels)
    return Details(
        name=text(document.get("Name")).removeprefix("/"),
        image=text(config.get("Image")),
        labels=labels,
        started_at=epoch(state.get("StartedAt")) if running else None,
        state=("paused" if state.get("Paused") is True else "running") if running else "",
        health=text(mapping(state.get("Health")).get("Status")) or ("none" if "Health" in state else ""),
        namespace=namespace,
        pod=pod,
    )


def _data_root(home: Home) -> Path:
    if home.home is not None:
        return home.home / ".local/share/docker"
    try:
        chosen = text(mapping(read_json(home.root / "etc/docker/daemon.json")).get("data-root"))
    except UnreadableError:
        # Not there, or too broken for Docker itself to have started with it.
        chosen = ""
    return home.root / (chosen.lstrip("/") or "var/lib/docker")
