"""CRI-O: `crio-ID.scope` (systemd driver) or `crio-ID` (cgroupfs driver) below a pod; `crio-conmon-ID` is the monitor.

The annotations in the container's OCI `config.json` hold what the kubelet passed on. `state.json` holds the start time.
The daemon is asked in CRI for how containers have ended.
"""

from __future__ import annotations

from pathlib import Path

from pymon.app_labels import ANNOTATIONS
from pymon.containers.files import UnreadableError, epoch, first_json, mapping, parse_json, texts
from pymon.containers.model import HEX_ID, Details, Form, Home, Match, Place, Runtime

from . import cri_daemon, kubernetes

NAME = "crio"

_STORAGES = ("run/containers/storage", "var/lib/containers/storage")
_CRIO = "io.kubernetes.cri-o."
_RESTARTS = "io.kubernetes.container.restartCount"


def match(path: str, identifier: str) -> Match:
    """Return the match of a CRI-O container."""
    return Match(path, NAME, identifier, identifier, pod_id=kubernetes.pod_uid(path))


# Kata Containers prefixes the last component.
FORMS = (Form("crio", r"(?:[^/]*:crio:|(?:kata_)?crio-){}(?:\.scope)?", HEX_ID, match),)


def describe(container: Match, home: Home) -> Details:
    """Return the details of a container. Raises UnreadableError if its config.json cannot be read.

    The name is the container's name in the pod's specification, or POD for the sandbox.
    """
    if home.home is not None:
        raise UnreadableError(home.home, "CRI-O has no rootless mode")
    annotations = texts(mapping(first_json(_paths(container, home, "config.json"))).get("annotations"))
    try:
        labels = texts(parse_json(annotations.get(_CRIO + "Labels", "{}"), f"{_CRIO}Labels of {container.runtime_id}"))
    except UnreadableError as error:
        labels, reason = {}, str(error)
    else:
        reason = ""
    for key in (kubernetes.CONTAINER_NAME, kubernetes.POD_NAME, kubernetes.POD_NAMESPACE, kubernetes.POD_UID):
        if value := annotations.get(key):
            # CRI-O copies the annotations of a pod, which tenants write, over its own, and then the kubelet's labels.
            labels[key] = value
    for key in ANNOTATIONS:
        if key in annotations:
            labels.setdefault(key, annotations[key])
    restarts = annotations.get(_RESTARTS, "0")
    if restarts != "0":
        # cAdvisor adds this label, and dashboards use it.
        labels.setdefault("restartcount", restarts)
    try:
        started = epoch(mapping(first_json(_paths(container, home, "state.json"))).get("started"))
    except UnreadableError:
        started = None
    sandbox = annotations.get(_CRIO + "ContainerType") == "sandbox"
    namespace, pod = kubernetes.pod_of(labels)
    return Details(
        name=kubernetes.SANDBOX_NAME if sandbox else labels.get(kubernetes.CONTAINER_NAME, ""),
        image=annotations.get(_CRIO + "ImageName", "") or annotations.get(_CRIO + "Image", ""),
        labels=labels,
        started_at=started or epoch(annotations.get(_CRIO + "Created")),
        namespace=namespace,
        pod=pod,
        reason=reason,
        kubernetes=kubernetes.names(container, labels, labels.get(kubernetes.CONTAINER_NAME, ""), cri=True),
    )


def files(container: Match, home: Home) -> list[Path]:
    """Return the files that describe a container."""
    return [path for name in ("config.json", "state.json") for path in _paths(container, home, name)]


def sockets(home: Home) -> tuple[Path, ...]:
    """Return where CRI-O listens. It has no rootless mode."""
    return () if home.home is not None else (home.root / "run/crio/crio.sock",)


def _paths(container: Match, home: Home, name: str) -> list[Path]:
    return [storage / "overlay-containers" / container.runtime_id / "userdata" / name for storage in _storages(home)]


def _storages(home: Home) -> list[Path]:
    return [*home.chosen, *(home.root / storage for storage in _STORAGES)]


def _places(home: Home) -> list[Place]:
    known = "names and labels"
    marked = [(storage, storage) for storage in home.chosen]
    marked.append((home.root / "run/crio", home.root / _STORAGES[0]))
    return [Place(marker, at / "overlay-containers", "*/userdata/config.json", known) for marker, at in marked]


RUNTIME = Runtime(
    NAME, FORMS, describe, files, cri_daemon.daemon(sockets), _places, directory="root or runroot of the storage"
)
