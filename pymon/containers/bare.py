"""A directory named with nothing but an id, as the cgroupfs drivers of Docker and containerd make them.

Below a pod it is taken for containerd's (cri-dockerd's are the same; the runtimes' files tell them apart), below a
containerd namespace at the root too, anywhere else for Docker's, whose `--cgroup-parent` may be any. Podman's pods have
such names and are not containers.
"""

from __future__ import annotations

from . import containerd, docker, kubernetes, lxc
from .model import HEX_ID, Form, Match


def match(path: str, identifier: str) -> Match | None:
    """The container of a bare id, by its parents."""
    parent = path[: -len(identifier) - 1]
    if parent.endswith("/libpod_parent"):
        return None
    if parent == "/lxc":
        return lxc.match(path, identifier)
    if kubernetes.pod_uid(path):
        return containerd.match(path, identifier)
    return containerd.match_in_namespace(path, identifier) or docker.match(path, identifier)


FORMS = (Form("bare", "{}", HEX_ID, match),)
