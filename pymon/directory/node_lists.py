"""Lists of nodes: their format, which is that of Prometheus's ``file_sd_configs``, and their place in the directory.

A list is JSON or YAML::

    - targets: ["10.0.0.1:9164"]
      labels: {__scheme__: https, pymon_node: n1, pymon_accounts: "acme,initech"}

Each target is a node. Labels that are not in `LABELS` are ignored, unless they start with ``pymon_``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from pymon.config import ConfigError, load_yaml, read_file, shown
from pymon.directory import model, nodes, texts
from pymon.directory.database import Connection, Database
from pymon.directory.model import Node, NotUpgradedError
from pymon.directory.rows import accounts_of, accounts_text

MAX_BYTES = 16 << 20
MAX_NODES = 100_000

_PREFIX = "pymon_"
_SCHEME = "__scheme__"
LABELS = tuple(_PREFIX + name for name in ("node", "uuid", "tls_server_name", "tls_fingerprint", "accounts"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A node of a list. node: without accounts. accounts: names or UUIDs, None if the list says nothing of them."""

    node: Node
    accounts: tuple[str, ...] | None = None


@dataclass(slots=True)
class Changes:
    """The names of nodes that a list changed. refused: name -> why a node was left as it is."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.deleted)


def read_list(file: Path) -> list[Entry]:
    """Return the nodes in a file. Raises ConfigError if it is unreadable or not a list of nodes."""
    return parse_list(read_file(file, MAX_BYTES), file)


def parse_list(data: bytes, file: Path) -> list[Entry]:
    """Return the nodes in the content of a file. file: its name for errors. Raises ConfigError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = load_yaml(data, file)
    try:
        found = [entry for number, group in enumerate(_groups(document)) for entry in _entries(number, group)]
        return checked_list(found)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def checked_list(entries: list[Entry]) -> list[Entry]:
    """Return the entries. Raises ConfigError if a node comes twice, or if there are too many."""
    names = set()
    for entry in entries:
        if entry.node.name in names:
            raise ConfigError(f"the node {entry.node.name} comes twice")
        names.add(entry.node.name)
    if len(entries) > MAX_NODES:
        raise ConfigError(f"expected at most {MAX_NODES} nodes, got {len(entries)}")
    return entries


def _groups(document: Any) -> list[Any]:
    if not isinstance(document, list):
        raise ConfigError(f"expected a list of targets and labels, got {shown(document)}")
    return document


def _entries(number: int, group: Any) -> Iterable[Entry]:
    where = f"entry {number + 1}"
    targets, labels = (group.get("targets"), group.get("labels") or {}) if isinstance(group, dict) else (None, None)
    if not isinstance(targets, list) or not isinstance(labels, dict):
        raise ConfigError(f"{where}: expected targets and labels, got {shown(group)}")
    if not all(isinstance(text, str) for text in (*targets, *labels, *labels.values())):
        raise ConfigError(f"{where}: expected strings, got {shown(group)}")
    for label in labels:
        if label.startswith(_PREFIX) and label not in LABELS:
            raise ConfigError(f"{where}: expected one of {', '.join(LABELS)}, got {shown(label)}")
    if len(targets) > 1 and (_PREFIX + "node" in labels or _PREFIX + "uuid" in labels):
        raise ConfigError(f"{where}: expected one target with a name or a UUID, got {len(targets)}")
    for target in targets:
        try:
            yield _entry(target, labels)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


def _entry(target: str, labels: Mapping[str, str]) -> Entry:
    name, uuid, server_name, fingerprint, accounts = (labels.get(label, "") for label in LABELS)
    node = nodes.checked(
        name or target.rpartition(":")[0].strip("[]").lower(),
        texts.checked("uuid", model.parse_uuid, uuid) if uuid else None,
        f"{labels.get(_SCHEME, 'http')}://{target}",
        server_name,
        fingerprint,
    )
    return Entry(node, tuple(filter(None, accounts.split(","))) if LABELS[-1] in labels else None)


class NodeLists:
    """What lists change in a directory. Methods raise DirectoryError and ConfigError.

    changing: returns a write transaction that changes the generation; its argument is the error text for a value that
    is taken. resolve: returns the UUIDs of accounts.
    """

    def __init__(
        self,
        database: Database,
        changing: Callable[[str], AbstractContextManager[Connection]],
        resolve: Callable[[Connection, Sequence[str]], frozenset[UUID]],
    ) -> None:
        self._database = database
        self._changing = changing
        self._resolve = resolve

    def put(self, entries: Sequence[Entry]) -> Changes:
        """Create or change the nodes of a list, and leave all others alone."""
        return self._apply(entries, "")

    def follow(self, entries: Sequence[Entry], source: str) -> Changes:
        """Make the nodes that came from a source those of its list: create, change and delete them.

        A node of the same name that did not come from there is refused. An empty list changes nothing: it is more often
        a failure than a wish. source: identifies the list in all proxies.
        """
        return self._apply(entries, source) if entries else Changes()

    def _apply(self, entries: Sequence[Entry], source: str) -> Changes:
        # Most calls change nothing. They take no lock.
        with self._database.reading() as connection:
            changes = _Plan(connection, entries, source, self._resolve).changes
        if not changes:
            return changes
        with self._changing("a node of the list has the UUID of another node") as connection:
            plan = _Plan(connection, entries, source, self._resolve)
            plan.run()
        return plan.changes


class _Plan:
    """The changes that a list makes in a transaction."""

    def __init__(
        self,
        connection: Connection,
        entries: Sequence[Entry],
        source: str,
        resolve: Callable[[Connection, Sequence[str]], frozenset[UUID]],
    ) -> None:
        self._connection = connection
        self._source = source
        self.changes = Changes()
        self._nodes: dict[str, Node] = {}
        if not connection.has_table("node_tokens"):
            raise NotUpgradedError("directory: cannot store lists of nodes before `pymon directory upgrade`")
        query = "SELECT name, uuid, url, tls_server_name, tls_fingerprint, accounts, source FROM nodes"
        self._old: dict[str, Node] = {}
        sources: dict[str, str] = {}
        for name, uuid, url, server_name, fingerprint, accounts, came_from in connection.execute(query):
            limit = None if accounts is None else accounts_of(accounts)
            self._old[name] = Node(name, UUID(uuid) if uuid else None, url, server_name, fingerprint, limit)
            sources[name] = came_from or ""
        limits: dict[tuple[str, ...], frozenset[UUID]] = {}
        for entry in entries:
            name, wanted = entry.node.name, entry.accounts
            if wanted is not None and wanted not in limits:
                limits[wanted] = resolve(connection, wanted)
            old = self._old.get(name)
            if old is None:
                node = dataclasses.replace(entry.node, accounts=None if wanted is None else limits[wanted])
                self.changes.created.append(name)
            elif source and sources[name] != source:
                self.changes.refused[name] = "a node with this name exists that did not come from this list"
                continue
            elif entry.node.uuid is not None and old.uuid not in (None, entry.node.uuid):
                self.changes.refused[name] = f"has the UUID {old.uuid}; see `pymon node accept`"
                continue
            else:
                accounts = old.accounts if wanted is None else limits[wanted]
                node = dataclasses.replace(entry.node, uuid=entry.node.uuid or old.uuid, accounts=accounts)
                if node == old:
                    continue
                self.changes.changed.append(name)
            self._nodes[name] = node
        if source:
            listed = {entry.node.name for entry in entries}
            self.changes.deleted = [name for name, of in sources.items() if of == source and name not in listed]

    def run(self) -> None:
        """Carry out the changes. Raises TakenError, DirectoryError."""
        execute = self._connection.execute
        for name in self.changes.deleted:
            execute("DELETE FROM nodes WHERE name = ?", (name,))
        for name in self.changes.changed:
            node, old = self._nodes[name], self._old[name]
            if node.uuid is not None and old.uuid is None:
                nodes.accept(self._connection, name, node.uuid)
            execute(
                "UPDATE nodes SET url = ?, tls_server_name = ?, tls_fingerprint = ?, accounts = ? WHERE name = ?",
                (node.url, node.tls_server_name, node.tls_fingerprint, accounts_text(node.accounts), name),
            )
        for name in self.changes.created:
            nodes.insert(self._connection, self._nodes[name])
            execute("UPDATE nodes SET source = ? WHERE name = ?", (self._source or None, name))
