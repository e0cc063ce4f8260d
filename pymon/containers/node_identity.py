"""The UUID that identifies a node permanently, and its source.

System images and containers have no machine-id, and some firmware has no UUID. Such a node gets a random UUID once, in
a file that `keep` writes. The boot_id cannot serve instead, because it changes with each boot.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from pymon.uuid_name import uuid_name

from .files import UnreadableError, read_bytes, shown

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = "node-uuid"
"""Name of the file, in the agent's data directory."""

_FILE_BYTES = 100
_NAMESPACE = UUID("5c8b7d0e-2f0b-5e0c-9a64-0d3a8f1c7e52")
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
# Placeholders in firmware whose vendor has set no UUID.
_NO_PRODUCT = frozenset(
    (
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    )
)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node's UUID, and its source: node.uuid, machine-id, product_uuid, sysinfo, nodename, data-dir or none."""

    uuid: UUID
    source: str


def parse_node_uuid(text: str) -> UUID:
    """Parse a UUID that is not nil. Raises ValueError, whose message says what was expected."""
    if not _UUID.fullmatch(text) or UUID(text).int == 0:
        raise ValueError("a UUID that is not nil")
    return UUID(text)


def machine_identity(rootfs: Path, sysfs: Path) -> NodeIdentity | None:
    """Return the identity from the machine-id, or else from the firmware's UUID; None if neither is usable.

    The UUID is a hash, because tenants see it and machine-id(5) asks applications not to expose the id itself.
    """
    sources: tuple[tuple[str, Path, Callable[[str], bool]], ...] = (
        ("machine-id", rootfs / "etc/machine-id", _is_machine_id),
        ("product_uuid", sysfs / "class/dmi/id/product_uuid", _is_product_uuid),
    )
    for source, path, valid in sources:
        try:
            value = read_bytes(path, limit=_FILE_BYTES).decode("ascii", "replace").strip().lower()
        except UnreadableError:
            continue
        if valid(value):
            return NodeIdentity(uuid5(_NAMESPACE, f"{source}:{value}"), source)
    return None


def named_identity(nodename: str) -> NodeIdentity:
    """Return the identity that is derived from a node's name, for nodes that have nothing better."""
    return NodeIdentity(uuid5(_NAMESPACE, uuid_name(f"nodename:{nodename}")), "nodename")


def passing_identity() -> NodeIdentity:
    """Return a random identity that is not saved."""
    return NodeIdentity(uuid.uuid4(), "none")


def kept_identity(data_dir: Path) -> NodeIdentity | None:
    """Return the identity that `keep` has saved, or None if there is no file.

    Raises UnreadableError if the file cannot be read or holds no UUID. Such a file is not replaced, because a new node
    UUID would change the UUIDs of all containers.
    """
    path = data_dir / FILE
    try:
        text = read_bytes(path, limit=_FILE_BYTES).decode("ascii", "replace").strip()
    except UnreadableError as error:
        if error.missing:
            return None
        raise
    try:
        return NodeIdentity(parse_node_uuid(text), "data-dir")
    except ValueError as error:
        raise UnreadableError(path, f"expected {error}, got {shown(text)}") from None


def keep(data_dir: Path) -> NodeIdentity:
    """Save a random identity in a new file and return it. If a file exists already, return the identity in that.

    The file is created atomically, after its content has reached the disk. Raises UnreadableError.
    """
    import tempfile  # noqa: PLC0415  # once in the life of a node

    made = str(uuid.uuid4())
    path = data_dir / FILE
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=data_dir, prefix=f".{FILE}-") as file:
            file.write(f"{made}\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(file.name)
    except OSError as error:
        raise UnreadableError(path, f"cannot be created: {(error.strerror or str(error)).lower()}") from None
    kept = kept_identity(data_dir)
    if kept is None:
        raise UnreadableError(path, "was removed while it was made")
    return kept


def _is_machine_id(text: str) -> bool:
    return _MACHINE_ID.fullmatch(text) is not None and text != "0" * 32


def _is_product_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None and text not in _NO_PRODUCT
