"""What became of nodes between two snapshots of the directory. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymon.directory.model import Node


def reached(node: Node) -> tuple[str, str, str]:
    """Return the fields that define how a node is reached. When they change, its poll starts again."""
    return node.url, node.tls_server_name, node.tls_fingerprint


def renamed(gone: Mapping[str, Node], come: Mapping[str, Node]) -> dict[str, str]:
    """Return the new name by old name of renamed nodes. Nodes are matched by UUID, or by URL without both UUIDs."""
    by_uuid = {old.uuid: before for before, old in gone.items() if old.uuid is not None}
    by_url: defaultdict[str, list[str]] = defaultdict(list)
    for before, old in gone.items():
        by_url[old.url].append(before)
    found: dict[str, str] = {}
    for name, node in come.items():
        at_url = (one for one in by_url.get(node.url, ()) if node.uuid is None or gone[one].uuid is None)
        of_uuid = by_uuid.get(node.uuid) if node.uuid is not None else None
        candidates = (one for one in (of_uuid, *at_url) if one is not None and one not in found)
        if (first := next(candidates, None)) is not None:
            found[first] = name
    return found
