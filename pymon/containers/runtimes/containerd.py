"""containerd: its CRI plugin for Kubernetes, nerdctl, and ctr.

`cri-containerd-ID.scope`, `SLICE:cri-containerd:ID`, a bare ID below a pod (cgroupfs driver), `nerdctl-ID.scope`, and
`/NAMESPACE/ID` for ctr and for nerdctl with the cgroupfs driver. Kata Containers prefixes the last component with
`kata_`.

The state directory of the task service holds `NAMESPACE/ID/config.json` for each running container. This is the OCI
specification, with annotations from the CRI plugin or nerdctl. The real labels are in a BoltDB file that the daemon
keeps locked. So the annotations are used as labels, and the kubelet's four labels are derived from them. The CRI plugin
is asked for the rest over the daemon's socket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from pymon.containers.files import UnreadableError, mapping, read_json, read_with_mtime, texts
from pymon.containers.model import HEX_ID, Details, Form, Home, Match, Place, PodNames, Runtime

from . import cri_daemon, kubernetes

NAME = "containerd"

# Of containerd itself, k3s and RKE2, MicroK8s, k0s, and later k0s.
_STATE_DIRECTORIES = (
    "run/containerd",
    "run/k3s/containerd",
    "var/snap/microk8s/common/run/containerd",
    "run/k0s/containerd",
    "var/lib/k0s/run/containerd",
)
_SOCKETS = (
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
    "run/k0s/containerd.sock",
)
_TASKS = "io.containerd.runtime.v2.task"
_ROOT_NAMESPACES = ("default", "k8s.io")
_DOCKER_NAMESPACE = "moby"
_CRI = "io.kubernetes.cri."
_KUBELET_LABELS = (
    (kubernetes.CONTAINER_NAME, "container-name"),
    (kubernetes.POD_NAME, "sandbox-name"),
    (kubernetes.POD_NAMESPACE, "sandbox-namespace"),
    (kubernetes.POD_UID, "sandbox-uid"),
)


def match(path: str, identifier: str) -> Match:
    """Return the match of a containerd container whose path does not contain the containerd namespace."""
    return Match(path, NAME, identifier, identifier, pod_id=kubernetes.pod_uid(path))


def match_in_namespace(path: str, identifier: str) -> Match | None:
    """Return the match of `/NAMESPACE/ID`, or None elsewhere than at the root of the hierarchy."""
    namespace = path[1 : -len(identifier) - 1]
    if namespace not in _ROOT_NAMESPACES:
        return None
    return Match(path, NAME, identifier, identifier, namespace=namespace)


def match_kata(path: str, identifier: str) -> Match:
    """Return the match of the processes that Kata Containers runs for a sandbox: those of its virtual machine."""
    namespace = path[1 : path.rfind("/")]
    found = match(path, identifier)
    return replace(found, namespace=namespace) if namespace in _ROOT_NAMESPACES else found


# The syntax of ids in containerd's pkg/identifiers.
_ANY_ID = r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*"
FORMS = (
    Form("containerd", r"(?:[^/]*:(?:cri-containerd|nerdctl):|cri-containerd-|nerdctl-){}(?:\.scope)?", HEX_ID, match),
    Form("containerd_kata", "kata_{}", HEX_ID, match_kata),
    Form("containerd_namespace", f"(?:{'|'.join(map(re.escape, _ROOT_NAMESPACES))})/{{}}", _ANY_ID, match_in_namespace),
)


def describe(container: Match, home: Home) -> Details:
    """Return the details of a container. Raises UnreadableError if its config.json cannot be read.

    The name of a container in a pod is its name in the pod's specification, or POD for the sandbox. cAdvisor shows the
    bare id as the name, which only repeats the label `id`.
    """
    if home.home is not None:
        raise UnreadableError(home.home, "rootless containerd keeps its state in a mount namespace of its own")
    bundle = _bundle(container, home)
    annotations = texts(mapping(read_json(bundle / "config.json")).get("annotations"))
    labels = dict(annotations)
    for label, annotation in _KUBELET_LABELS:
        if value := annotations.get(_CRI + annotation):
            # The plugin may be told to copy annotations of pods. Tenants write these, its own replace them.
            labels[label] = value
    sandbox = annotations.get(_CRI + "container-type") == "sandbox"
    if sandbox:
        labels.setdefault(kubernetes.CONTAINER_NAME, kubernetes.SANDBOX_NAME)
    try:
        # The shim writes this file once, after it has created the process.
        _, started = read_with_mtime(bundle / "init.pid")
    except UnreadableError:
        started = None
    namespace, pod = kubernetes.pod_of(labels)
    return Details(
        name=labels.get(kubernetes.CONTAINER_NAME, "") or annotations.get("nerdctl/name", ""),
        image=annotations.get(_CRI + "image-name", ""),
        labels=labels,
        started_at=started,
        namespace=namespace or annotations.get("nerdctl/namespace", "") or container.namespace,
        pod=pod,
        kubernetes=_names(container, annotations, labels),
    )


def _names(container: Match, annotations: Mapping[str, str], labels: Mapping[str, str]) -> PodNames | None:
    if not {_CRI + "sandbox-name", _CRI + "sandbox-namespace"} <= annotations.keys():
        return None
    return kubernetes.names(container, labels, annotations.get(_CRI + "container-name", ""), cri=True)


def files(container: Match, home: Home) -> tuple[Path, ...]:
    """Return the files of a container's bundle; none while there is no bundle."""
    if home.home is not None:
        return ()
    try:
        bundle = _bundle(container, home)
    except UnreadableError:
        return ()
    return bundle / "config.json", bundle / "init.pid"


def sockets(home: Home) -> tuple[Path, ...]:
    """Return where containerd listens: in its state directory or beside it. None for a user's."""
    if home.home is not None:
        return ()
    chosen = (state / "containerd.sock" for state in home.chosen)
    return (*chosen, *(home.root / path for path in _SOCKETS))


@lru_cache(maxsize=16)
def _task_directories(home: Home) -> tuple[Path, ...]:
    """Return the directories that hold the task service's namespaces."""
    return tuple(state / _TASKS for state in (*home.chosen, *(home.root / state for state in _STATE_DIRECTORIES)))


def _bundle(container: Match, home: Home) -> Path:
    every = _task_directories(home)
    for tasks in every:
        if container.namespace:
            namespaces = [container.namespace]
        else:
            try:
                # Docker runs its containers in this namespace, and its own files say more than their bundles.
                namespaces = sorted(path.name for path in tasks.iterdir() if path.name != _DOCKER_NAMESPACE)
            except OSError:
                continue
        for namespace in namespaces:
            bundle = tasks / namespace / container.runtime_id
            if bundle.is_dir():
                return bundle
    raise UnreadableError(every[0] / "*" / container.runtime_id, "no such file or directory", missing=True)


def _places(home: Home) -> list[Place]:
    known = "names, and annotations for labels"
    return [Place(tasks, tasks, "*/*/config.json", known) for tasks in _task_directories(home)]


RUNTIME = Runtime(
    NAME,
    FORMS,
    describe,
    files,
    cri_daemon.daemon(sockets),
    _places,
    directory="state directory",
    same_paths="docker",
)
"""With the cgroupfs driver, cri-dockerd and containerd use the same paths."""
