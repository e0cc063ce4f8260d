"""Container records, and the UUIDs that identify containers permanently.

A container's UUID is a version 5 UUID derived from the node's UUID and either the runtime's id of the container or the
path of its cgroup (`pymon.uuid_name`). So it does not change when the agent restarts. It does not change when the
container restarts either, if the container keeps its id or path. A zone has a UUID of its own.

A label can set the UUID only if the operator has configured the key of that label. Labels of containers in a user's
slice are ignored: the user writes them, and could claim the UUID of another user's container.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

from pymon.app_labels import declared
from pymon.uuid_name import container_uuid, uuid_name

from .files import shown
from .model import Details, Match, PodNames
from .owner import OwnerRules, Subject

UUID_LABEL = "pymon.uuid"
"""The label that is reported as ignored when the operator has configured no UUID label."""
GROUPS_LABEL = "triton.cmon.groups"
SERVICES_LABEL = "triton.cns.services"
_CNS_LABELS = {f"triton.cns.{name}": f"cns_{name}" for name in ("status", "disable", "reverse_ptr")}

_HOLDS_A_POD = ("", "POD")
"""Names, as in `PodNames.container`, of the container that holds a pod's namespaces."""

GROUPS_LIMIT = 100
"""The most groups that a container can be in."""

_RUNTIMES_WITH_IDS = frozenset(("docker", "podman", "containerd", "crio", "libvirt"))
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Basis(IntEnum):
    """What a claim to a UUID is based on, the strongest first.

    Paths and runtime ids are the strongest, because no container can take another container's path or id.
    """

    PATH = 0
    ID = 1
    LABEL = 2


class Claim(NamedTuple):
    """A UUID that a container may get. name: what it is derived from (`pymon.uuid_name`), "" if it is not derived."""

    uuid: UUID
    name: str
    basis: Basis


def claims_of(
    node: UUID, match: Match, labels: Mapping[str, str], uuid_label: str = ""
) -> tuple[tuple[Claim, ...], str]:
    """Return the claims of the container of a cgroup, and one line that says why its UUID label is ignored, or "".

    The claims are in order of preference; the claim by path is the last.
    uuid_label: the key of the label that the operator has configured, "" for none.
    """
    claims: list[Claim] = []
    key = uuid_label or UUID_LABEL
    text, problem = labels.get(key, ""), ""
    if text:
        if not uuid_label:
            problem = f"label {key}: not honoured, container.uuid-label does not name it"
        elif match.uid is not None:
            problem = f"label {key}: not honoured below a user's slice"
        elif not _is_uuid(text) or UUID(text) == node:
            problem = f"label {key}: {shown(text)}, expected the UUID of a container"
        else:
            claims.append(Claim(UUID(text), "", Basis.LABEL))
    if match.runtime in _RUNTIMES_WITH_IDS:
        # A user chooses the names of the cgroups in his slice, and so may use the id of another user's container.
        owner = "" if match.uid is None else f"{match.uid}:"
        claims.append(_derived(node, f"{match.runtime}:{match.namespace}:{owner}{match.runtime_id}", Basis.ID))
    claims.append(_derived(node, f"cgroup:{match.path}", Basis.PATH))
    return tuple(claims), problem


def zone_claims(node: UUID, match: Match) -> tuple[Claim, ...]:
    """Return the claims of a zone: its `runtime_id` if that is a UUID, then the UUID derived from its path."""
    own = [Claim(UUID(match.runtime_id), "", Basis.ID)] if _is_uuid(match.runtime_id) else []
    return (*own, _derived(node, f"cgroup:{match.path}", Basis.PATH))


def _derived(node: UUID, text: str, basis: Basis) -> Claim:
    name = uuid_name(text)
    return Claim(container_uuid(node, name), name, basis)


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """A container of this node.

    Two containers are equal if their UUID and their start are equal. A new container that reuses a name or a path
    differs in its start.

    id: path of the cgroup.
    start_seconds: start, in seconds since the epoch.
    owner: name of an account, or None if no account owns the container.
    state: running, paused, or another state that the runtime reports.
    groups: parsed from the label triton.cmon.groups.
    services: the label triton.cns.services, verbatim.
    cns: the values of the labels triton.cns.*, verbatim. Keys: cns_status, cns_disable, cns_reverse_ptr; absent without
        the label.
    told_state: the state, "" if the runtime does not tell it.
    labels: all labels that the runtime has.
    namespace, pod: "" without one.
    health: healthy, unhealthy, starting, or none without a health check; "" if it is not known.
    addresses: IP addresses in the container's network namespace; empty for the host's. Those that the runtime tells
        where the namespace is not read, but never of a user's. `identify` has these alone.
    ports: that the container offers, such as `80/tcp`; None if its runtime tells of none.
    ended: when it ended, in seconds since the epoch; None while it runs.
    app_ports, app_path: where its application answers scrapes, as `pymon.app_labels` has it; None if nowhere.
    app_fetched: true if the agent fetches that for others, else None. `identify` leaves it None.
    problems: lines for the log.
    uuid_name: the name that the UUID is derived from, as in `Claim`.
    kubernetes: what Kubernetes calls it, None if the kubelet has not started it.
    subject: the input of the owner rules.
    """

    uuid: UUID
    id: str
    name: str
    runtime: str
    start_seconds: float
    runtime_id: str = ""
    image: str = ""
    owner: str | None = None
    state: str = "running"
    told_state: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    services: str = ""
    cns: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    pod: str = ""
    pod_id: str = ""
    health: str = ""
    addresses: tuple[str, ...] = ()
    ports: tuple[str, ...] | None = None
    ended: float | None = None
    app_ports: tuple[int, ...] | None = None
    app_path: str | None = None
    app_fetched: bool | None = None
    problems: tuple[str, ...] = ()
    uuid_name: str = ""
    kubernetes: PodNames | None = None
    subject: Subject | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Container):
            return NotImplemented
        return self.uuid == other.uuid and self.start_seconds == other.start_seconds

    def __hash__(self) -> int:
        return hash((self.uuid, self.start_seconds))


def identify(
    claim: Claim,
    match: Match,
    details: Details,
    owners: OwnerRules,
    created_seconds: float,
    *,
    zone_owner: str = "",
) -> Container:
    """Return the container that a cgroup's path and a runtime's files describe.

    claim: the claim by which the container holds its UUID.
    details: the result of `Runtimes.describe` for `match`.
    created_seconds: creation of the cgroup in seconds since the epoch; the start if `details` has none.
    zone_owner: the account that the zone belongs to, "" if it is not a zone.
    """
    subject = Subject(match, details.labels, details.namespace, zone_owner, details.unread)
    decision = owners.decide(subject)
    groups, problems = parse_groups(details.labels.get(GROUPS_LABEL, ""))
    # What holds the namespaces of a pod has the annotations of the pod, but no application.
    holds_a_pod = details.kubernetes is not None and details.kubernetes.container in _HOLDS_A_POD
    app = declared({} if holds_a_pod else details.labels)
    return Container(
        uuid=claim.uuid,
        id=match.path,
        name=details.name or match.name,
        runtime=match.runtime,
        start_seconds=created_seconds if details.started_at is None else details.started_at,
        runtime_id=match.runtime_id,
        image=details.image,
        owner=decision.owner,
        state=details.state or "running",
        told_state=details.state,
        labels=details.labels,
        groups=groups,
        services=details.labels.get(SERVICES_LABEL, ""),
        cns={key: details.labels[label] for label, key in _CNS_LABELS.items() if label in details.labels},
        namespace=details.namespace,
        pod=details.pod,
        pod_id=match.pod_id,
        health=details.health,
        addresses=details.addresses if match.uid is None else (),
        ports=details.ports or None,
        app_ports=app.ports or None,
        app_path=app.path or None,
        problems=tuple(filter(None, (details.reason, decision.problem, *problems, *app.problems))),
        uuid_name=claim.name,
        kubernetes=details.kubernetes,
        subject=subject,
    )


def parse_groups(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the groups in the value of a `triton.cmon.groups` label, without duplicates, and lines about problems.

    An invalid group is left out; the first one is reported. Groups beyond `GROUPS_LIMIT` are left out.
    """
    if not text:
        return (), ()
    groups: dict[str, None] = {}
    problems: list[str] = []
    for group in text.split(","):
        if _GROUP.fullmatch(group):
            groups.setdefault(group)
        elif not problems:
            problems.append(f"label {GROUPS_LABEL}: {shown(group)}, expected 1 to 100 of A-Z a-z 0-9 _ -")
    if len(groups) > GROUPS_LIMIT:
        problems.append(f"label {GROUPS_LABEL}: {len(groups)} groups, expected at most {GROUPS_LIMIT}")
    return tuple(groups)[:GROUPS_LIMIT], tuple(problems)


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None
