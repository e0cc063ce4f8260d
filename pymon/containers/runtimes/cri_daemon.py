"""What a runtime says of containers in CRI, beside its files: restarts, labels, how a container has ended.

The kubelet alone, or who is as good as root, creates containers over such a socket. The labels and annotations of a
container are the kubelet's; those of a pod are a tenant's, so that only the kubelet's own labels of it are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pymon.containers import cri, engine
from pymon.containers.grpc import Client
from pymon.containers.model import Daemon, Details, Home, Match

from . import kubernetes

_OOM_KILLED = "OOMKilled"
_OF_PODS = (kubernetes.POD_NAME, kubernetes.POD_NAMESPACE, kubernetes.POD_UID)


def daemon(sockets: Callable[[Home], Iterable[Path]]) -> Daemon:
    """Return the daemon that listens on one of some sockets."""
    return Daemon(sockets, cri.client_of, ask, add, cri.events, always=True, version=version)


def ask(path: Path, container: Match, client: Client) -> Details:
    """Return what a daemon says of a container. Raises UnreadableError."""
    return details_of(cri.status(client, path, container.runtime_id), container)


def version(root: Path, path: Path) -> str:
    """Return the name and the version of a daemon. Raises UnreadableError."""
    with engine.connect(root, path, None) as connection:
        return " ".join(cri.version(cri.client_of(connection, path), path))


def details_of(status: cri.Status, container: Match) -> Details:
    """Return the details in what a daemon says of a container."""
    if status.sandbox:
        labels = {key: status.labels[key] for key in _OF_PODS if key in status.labels}
        labels[kubernetes.CONTAINER_NAME] = kubernetes.SANDBOX_NAME
        in_pod = kubernetes.SANDBOX_NAME if container.runtime == "crio" else ""
    else:
        labels = {**status.annotations, **status.labels}
        in_pod = labels.get(kubernetes.CONTAINER_NAME, "")
    if status.attempt > 0:
        # cAdvisor adds this label, and dashboards use it.
        labels.setdefault("restartcount", str(status.attempt))
    namespace, pod = kubernetes.pod_of(labels)
    return Details(
        name=kubernetes.SANDBOX_NAME if status.sandbox else in_pod or status.name,
        image=status.image,
        labels=labels,
        started_at=status.started_at if status.state == "running" else None,
        state="running" if status.state == "running" else "",
        namespace=namespace,
        pod=pod,
        kubernetes=kubernetes.names(container, labels, in_pod, cri=True),
        restarts=status.attempt,
        exit_code=status.exit_code,
        finished_at=status.finished_at,
        oom_killed=status.reason == _OOM_KILLED,
        end_state="exited" if status.exit_code is not None else "",
    )


def add(details: Details, said: Details) -> Details:
    """Return what the daemon says, and what only the files of a container say.

    The files come first where both say it, so that it does not depend on whether the daemon answers. Labels are the
    daemon's: the files have annotations in their place.
    """
    return replace(
        said,
        name=said.name if details.reason else details.name or said.name,
        image=details.image or said.image,
        labels={**details.labels, **said.labels},
        started_at=details.started_at or said.started_at,
        namespace=details.namespace or said.namespace,
        pod=details.pod or said.pod,
        kubernetes=details.kubernetes or said.kubernetes,
        asked=True,
    )
