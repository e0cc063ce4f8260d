"""containerd: its CRI plugin for Kubernetes, nerdctl, and ctr.

`cri-containerd-ID.scope`, `SLICE:cri-containerd:ID`, a bare ID below a pod (cgroupfs driver), `nerdctl-ID.scope`, and
`/NAMESPACE/ID` for ctr and for nerdctl with the cgroupfs driver.

Each running container has `NAMESPACE/ID/config.json`, its OCI specification, in the state directory of the task
service, with annotations of the CRI plugin or of nerdctl. Labels proper are in a BoltDB that the daemon keeps locked;
so the labels are these annotations, and the four of the kubelet made of them. A pod's own labels are not among them.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import kubernetes
from .files import UnreadableError, mapping, read_json, read_with_mtime, texts
from .model import HEX_ID, Details, Form, Home, Match

RUNTIME = "containerd"

_STATE_DIRECTORIES = ("run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd")
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
    """A containerd container whose id is known and whose namespace is not."""
    return Match(path, RUNTIME, identifier, identifier, pod_id=kubernetes.pod_uid(path))


def match_in_namespace(path: str, identifier: str) -> Match | None:
    """`/NAMESPACE/ID`, which stands at the root of the hierarchy only."""
    namespace = path[1 : -len(identifier) - 1]
    if namespace not in _ROOT_NAMESPACES:
        return None
    return Match(path, RUNTIME, identifier, identifier, namespace=namespace)


# pkg/identifiers of containerd: what an id may be.
_ANY_ID = r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*"
FORMS = (
    Form("containerd", r"(?:[^/]*:(?:cri-containerd|nerdctl):|cri-containerd-|nerdctl-){}(?:\.scope)?", HEX_ID, match),
    Form("containerd_namespace", f"(?:{'|'.join(map(re.escape, _ROOT_NAMESPACES))})/{{}}", _ANY_ID, match_in_namespace),
)


def describe(container: Match, home: Home) -> Details:
    """Details of a container. Of one in a pod the name is that of its pod's specification, and POD for the sandbox.

    cAdvisor shows the bare id there, which tells nobody anything and is in `id` already.
    """
    if home.home is not None:
        raise UnreadableError(home.home, "rootless containerd keeps its state in a mount namespace of its own")
    bundle = _bundle(container, home.root)
    annotations = texts(mapping(read_json(bundle / "config.json")).get("annotations"))
    labels = dict(annotations)
    for label, annotation in _KUBELET_LABELS:
        if value := annotations.get(_CRI + annotation):
            labels.setdefault(label, value)
    sandbox = annotations.get(_CRI + "container-type") == "sandbox"
    if sandbox:
        labels.setdefault(kubernetes.CONTAINER_NAME, kubernetes.SANDBOX_NAME)
    try:
        # The shim writes it when the process has been made, and never again.
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
    )


def _bundle(container: Match, root: Path) -> Path:
    first = root / _STATE_DIRECTORIES[0] / _TASKS
    for directory in _STATE_DIRECTORIES:
        tasks = root / directory / _TASKS
        if container.namespace:
            namespaces = [container.namespace]
        else:
            try:
                # What Docker starts through containerd has nothing in its bundle that Docker does not know better.
                namespaces = sorted(path.name for path in tasks.iterdir() if path.name != _DOCKER_NAMESPACE)
            except OSError:
                continue
        for namespace in namespaces:
            bundle = tasks / namespace / container.runtime_id
            if bundle.is_dir():
                return bundle
    raise UnreadableError(first / "*" / container.runtime_id, "no such file or directory", missing=True)
