"""Kubernetes pods: the kubelet's cgroups, and the labels that it gives to every container.

The cgroup of a pod is no container. It is measured, because it has what its containers have together and the pod's
limits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pymon.containers.model import Match, PodNames

CONTAINER_NAME = "io.kubernetes.container.name"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"

SANDBOX_NAME = "POD"
"""The kubelet's name for the container that holds a pod's namespaces."""

# kubepods/burstable/pod<uid>/, kubepods-burstable-pod<uid with _>.slice/, and the latter with a ":" after it.
# The UID of a static pod is the bare MD5 of its manifest.
_UID = "[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_POD = re.compile(rf"[/-]pod({_UID})(?:\.slice)?[/:]")
_LAST = re.compile(rf"pod(?:{_UID})|(?:[^/]*-)?kubepods-(?:[^/]*-)?pod(?:{_UID})\.slice")
"""The last component of a pod's cgroup."""


def pod_uid(path: str) -> str:
    """Return the UID, with hyphens, of the pod whose cgroup contains `path`, or "" if there is none."""
    found = _POD.search(path)
    return found[1].replace("_", "-") if found else ""


def pod_of(labels: Mapping[str, str]) -> tuple[str, str]:
    """Return the namespace and the name of a container's pod from its labels; "" for each that is missing."""
    return labels.get(POD_NAMESPACE, ""), labels.get(POD_NAME, "")


def is_pod(path: str) -> bool:
    """Return whether a cgroup is one that the kubelet makes for a pod: below `kubepods`, wherever that is."""
    parent, _, last = path.rpartition("/")
    if not _LAST.fullmatch(last):
        return False
    return last.endswith(".slice") or "/kubepods/" in f"{parent}/"


def pod_group(path: str) -> str:
    """Return the path of the pod's cgroup that contains a container, "" if there is none."""
    found = _POD.search(path)
    group = path[: found.end() - 1] if found is not None and path[found.end() - 1] == "/" else ""
    return group if is_pod(group) else ""


def names(container: Match, labels: Mapping[str, str], in_pod: str, *, cri: bool) -> PodNames | None:
    """Return what Kubernetes calls a container, or None if the kubelet has not started it.

    labels: those of its runtime. in_pod: the container's name in its pod. cri: they were written by a plugin that only
    the kubelet uses. Whoever may start a container of Docker chooses its labels, so these are believed only in the
    cgroup of the pod that they name. Users write those of rootless containers, so these are never believed.
    """
    namespace, pod = pod_of(labels)
    if not namespace or not pod or container.uid is not None:
        return None
    uid, said = pod_uid(container.path), labels.get(POD_UID, "")
    # Older plugins write no UID, and with the kubelet's --cgroups-per-qos=false there are no cgroups of pods.
    believed = (cri and not (uid and said)) or (said == uid and (cri or pod_group(container.path) != ""))
    return PodNames(namespace, pod, in_pod) if believed else None
