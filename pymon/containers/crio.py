"""CRI-O: `crio-ID.scope` (systemd driver) or `crio-ID` (cgroupfs driver) below a pod; `crio-conmon-ID` is the monitor.

The container's OCI `config.json` carries all that the kubelet said, in annotations; `state.json` has the start.
"""

from __future__ import annotations

from . import kubernetes
from .files import UnreadableError, epoch, mapping, parse_json, read_json, texts
from .model import HEX_ID, Details, Form, Home, Match

RUNTIME = "crio"

_STORAGES = ("run/containers/storage/overlay-containers", "var/lib/containers/storage/overlay-containers")
_CRIO = "io.kubernetes.cri-o."
_RESTARTS = "io.kubernetes.container.restartCount"


def match(path: str, identifier: str) -> Match:
    """A CRI-O container whose id is known."""
    return Match(path, RUNTIME, identifier, identifier, pod_id=kubernetes.pod_uid(path))


FORMS = (Form("crio", r"(?:[^/]*:crio:|crio-){}(?:\.scope)?", HEX_ID, match),)


def describe(container: Match, home: Home) -> Details:
    """Details of a container; the name is that of its pod's specification, POD for the sandbox."""
    if home.home is not None:
        raise UnreadableError(home.home, "CRI-O has no rootless mode")
    annotations = texts(mapping(_document(container, home, "config.json")).get("annotations"))
    try:
        labels = texts(parse_json(annotations.get(_CRIO + "Labels", "{}"), f"{_CRIO}Labels of {container.runtime_id}"))
    except UnreadableError as error:
        labels, reason = {}, str(error)
    else:
        reason = ""
    for key in (kubernetes.CONTAINER_NAME, kubernetes.POD_NAME, kubernetes.POD_NAMESPACE, kubernetes.POD_UID):
        if value := annotations.get(key):
            labels.setdefault(key, value)
    restarts = annotations.get(_RESTARTS, "0")
    if restarts != "0":
        # cAdvisor's label, which dashboards know.
        labels.setdefault("restartcount", restarts)
    try:
        started = epoch(mapping(_document(container, home, "state.json")).get("started"))
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
    )


def _document(container: Match, home: Home, name: str) -> object:
    *others, last = (home.root / storage / container.runtime_id / "userdata" / name for storage in _STORAGES)
    for path in others:
        try:
            return read_json(path)
        except UnreadableError as error:
            if not error.missing:
                raise
    return read_json(last)
