"""Cgroups whose name is just a container id, as the cgroupfs drivers of Docker and containerd create them.

Below a pod, the container is taken to be containerd's. cri-dockerd uses the same paths; `runtimes` tells the two apart
by their files. Below a containerd namespace at the root, the container is containerd's too. Anywhere else it is
Docker's, because `--cgroup-parent` may be any path. Podman's pods have such names but are not containers. Neither is
`/kata_overhead/ID`, in which Kata Containers has the processes that do not count against a pod's limits.
"""

from __future__ import annotations

from pymon.containers.model import HEX_ID, Form, Match

from . import containerd, docker, kubernetes, lxc


def match(path: str, identifier: str) -> Match | None:
    """Return the match of a path that ends in a bare id, or None. The parent cgroups decide the runtime."""
    parent = path[: -len(identifier) - 1]
    if parent.endswith("/libpod_parent") or parent == "/kata_overhead":
        return None
    if parent == "/lxc":
        return lxc.match(path, identifier)
    if kubernetes.pod_uid(path):
        return containerd.match(path, identifier)
    return containerd.match_in_namespace(path, identifier) or docker.match(path, identifier)


FORMS = (Form("bare", "{}", HEX_ID, match),)
