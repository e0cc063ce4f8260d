"""Kubernetes pods: the kubelet's cgroups, and the labels that it gives to every container.

The cgroup of a pod is not reported as a container: it only sums up its containers, which are reported one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

CONTAINER_NAME = "io.kubernetes.container.name"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"

SANDBOX_NAME = "POD"
"""The kubelet's name for the container that holds a pod's namespaces."""

# kubepods/burstable/pod<uid>/, kubepods-burstable-pod<uid with _>.slice/, and the latter with a ":" after it.
# The UID of a static pod is the bare MD5 of its manifest.
_POD = re.compile(
    r"[/-]pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?[/:]"
)


def pod_uid(path: str) -> str:
    """Return the UID, with hyphens, of the pod whose cgroup contains `path`, or "" if there is none."""
    found = _POD.search(path)
    return found[1].replace("_", "-") if found else ""


def pod_of(labels: Mapping[str, str]) -> tuple[str, str]:
    """Return the namespace and the name of a container's pod from its labels; "" for each that is missing."""
    return labels.get(POD_NAMESPACE, ""), labels.get(POD_NAME, "")
