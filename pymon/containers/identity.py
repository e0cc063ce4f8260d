"""What a container is called for ever: its UUID, and the node's that it is made of.

A UUID fits a DNS label. It is, in this order, what the label `pymon.uuid` says, the runtime's id if that is a UUID, a
version 5 UUID of the node and the runtime's id, or one of the node and the cgroup's path. So it stays the same when
the agent starts again, and for named containers when they do.

A UUID that is claimed, by a label or an id, decides which container a tenant sees under it. Users who write the labels
of their own rootless containers could claim another's; so what is claimed below a user's slice does not count, and the
first container that has a UUID keeps it (`taken`): a second one gets the one made of its path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from .files import UnreadableError, read_bytes, shown
from .model import Details, Match
from .owner import OwnerRules, Subject

UUID_LABEL = "pymon.uuid"
GROUPS_LABEL = "triton.cmon.groups"
SERVICES_LABEL = "triton.cns.services"
_CNS_LABELS = {f"triton.cns.{name}": f"cns_{name}" for name in ("status", "disable", "reverse_ptr")}

GROUPS_LIMIT = 100
"""Groups that a container can be in."""

_NAMESPACE = UUID("5c8b7d0e-2f0b-5e0c-9a64-0d3a8f1c7e52")
_RUNTIMES_WITH_IDS = frozenset(("docker", "podman", "containerd", "crio", "libvirt"))
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,100}")
# What firmware says when nobody filled it in.
_NO_PRODUCT = frozenset(
    (
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    )
)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """The node's UUID and its source: machine-id, product_uuid, nodename; boot_id, which lasts until the next boot."""

    uuid: UUID
    source: str


def node_identity(rootfs: Path | str = "/", sysfs: Path | str = "/sys", procfs: Path | str = "/proc") -> NodeIdentity:
    """The identity of this node; UnreadableError when nothing here has one.

    The UUID is a hash of what was read: machine-id(5) asks not to show the id itself to others, and tenants see this.
    """
    sources: tuple[tuple[str, Path, Callable[[str], bool]], ...] = (
        ("machine-id", Path(rootfs) / "etc/machine-id", _is_machine_id),
        ("product_uuid", Path(sysfs) / "class/dmi/id/product_uuid", _is_product_uuid),
        ("boot_id", Path(procfs) / "sys/kernel/random/boot_id", _is_uuid),
    )
    for source, path, valid in sources:
        try:
            value = read_bytes(path).decode("ascii", "replace").strip().lower()
        except UnreadableError:
            continue
        if valid(value):
            return NodeIdentity(uuid5(_NAMESPACE, f"{source}:{value}"), source)
    raise UnreadableError(
        sources[0][1], "expected 32 hexadecimal digits, and neither DMI nor the kernel has an identity"
    )


def named_identity(nodename: str) -> NodeIdentity:
    """The identity of a node by its name, where nothing else tells it."""
    return NodeIdentity(uuid5(_NAMESPACE, f"nodename:{nodename}"), "nodename")


def uuid5(namespace: UUID, name: str) -> UUID:
    """As `uuid.uuid5`, for any text: paths can have bytes that are not UTF-8."""
    digest = hashlib.sha1(namespace.bytes + name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return UUID(bytes=digest[:16], version=5)


def container_uuid(node: UUID, match: Match, labels: Mapping[str, str], taken: AbstractSet[UUID] = frozenset()) -> UUID:
    """The UUID of a container. taken: those of the other containers that are there."""
    candidates: list[UUID] = []
    if match.uid is None:
        candidates += (UUID(text) for text in (labels.get(UUID_LABEL, ""), match.runtime_id) if _is_uuid(text))
    if match.runtime in _RUNTIMES_WITH_IDS:
        # A user's containers and his neighbour's may have the same id: he chooses the names below his slice.
        owner = "" if match.uid is None else f"{match.uid}:"
        candidates.append(uuid5(node, f"{match.runtime}:{match.namespace}:{owner}{match.runtime_id}"))
    for uuid in candidates:
        if uuid not in taken:
            return uuid
    return uuid5(node, f"cgroup:{match.path}")


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """A container of this node. Two are equal when UUID and start are: a name or path used again is another one.

    id: the cgroup's path. start_seconds: since the epoch. owner: an account, or None for the operator's own.
    state: running, paused, or the runtime's word. groups, services: of the labels; `services` is verbatim. cns: of the
    labels, verbatim, where they are there: cns_status, cns_disable and cns_reverse_ptr.
    labels: all that the runtime has. namespace, pod: "" without one.
    health: healthy, unhealthy, starting, none; "" when not known. problems: one line each, for the log.
    addresses: IP addresses in a network namespace that is not the host's; `identify` knows of none.
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
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    services: str = ""
    cns: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    pod: str = ""
    pod_id: str = ""
    health: str = ""
    addresses: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Container):
            return NotImplemented
        return self.uuid == other.uuid and self.start_seconds == other.start_seconds

    def __hash__(self) -> int:
        return hash((self.uuid, self.start_seconds))


def identify(
    node: UUID,
    match: Match,
    details: Details,
    owners: OwnerRules,
    created_seconds: float,
    *,
    taken: AbstractSet[UUID] = frozenset(),
    zone_owner: str = "",
) -> Container:
    """The container that a path and a runtime's files make together.

    details: those of `Runtimes.describe`, of the same match.
    created_seconds: when the cgroup was made, for the start where the runtime does not tell it.
    """
    decision = owners.decide(Subject(match, details.labels, details.namespace, zone_owner))
    groups, problems = parse_groups(details.labels.get(GROUPS_LABEL, ""))
    return Container(
        uuid=container_uuid(node, match, details.labels, taken),
        id=match.path,
        name=details.name or match.name,
        runtime=match.runtime,
        start_seconds=created_seconds if details.started_at is None else details.started_at,
        runtime_id=match.runtime_id,
        image=details.image,
        owner=decision.owner,
        state=details.state or "running",
        labels=details.labels,
        groups=groups,
        services=details.labels.get(SERVICES_LABEL, ""),
        cns={key: details.labels[label] for label, key in _CNS_LABELS.items() if label in details.labels},
        namespace=details.namespace,
        pod=details.pod,
        pod_id=match.pod_id,
        health=details.health,
        problems=tuple(filter(None, (details.reason, decision.problem, *problems))),
    )


def parse_groups(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The groups that a `triton.cmon.groups` label names, each once, and a line for what is not one."""
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


def _is_machine_id(text: str) -> bool:
    return _MACHINE_ID.fullmatch(text) is not None and text != "0" * 32


def _is_product_uuid(text: str) -> bool:
    return _is_uuid(text) and text not in _NO_PRODUCT
