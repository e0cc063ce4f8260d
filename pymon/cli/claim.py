"""``pymon claim``: which node holds a container's UUID that cannot be recomputed from the inventories of nodes."""

from __future__ import annotations

from collections.abc import Sequence

from pymon.cli.show import Document, print_list
from pymon.cli.verbs import JSON, Call, Verb, account_names, run_verb
from pymon.config import ConfigError, shown
from pymon.directory import model


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("claim", VERBS, argv)


def _list(call: Call) -> int:
    with call.open() as directory:
        snapshot = directory.snapshot()
        _, holders, _ = directory.holders()
    nodes = {node.uuid: node.name for node in snapshot.nodes.values()}
    names = account_names(snapshot)
    documents: list[Document] = [
        {
            "uuid": str(holder.uuid),
            "node": nodes.get(holder.node) or str(holder.node),
            "account": names.get(holder.owner, str(holder.owner)) if holder.owner else None,
            "started_at": holder.start,
            "changed_at": holder.changed_at,
        }
        for holder in sorted(holders, key=lambda holder: holder.uuid)
    ]
    return print_list(documents, ("uuid", "node", "account", "started_at", "changed_at"), as_json=call.settings["json"])


def _release(call: Call) -> int:
    try:
        uuid = model.parse_uuid(call.arguments[0])
    except ValueError as error:
        raise ConfigError(f"expected {error}, got {shown(call.arguments[0])}") from None
    with call.open() as directory:
        directory.release_claim(uuid)
    return 0


VERBS = (
    Verb("list", "", "list who holds such UUIDs", _list, (JSON,)),
    Verb("release", "UUID", "release one: the next node that claims it gets it", _release),
)
