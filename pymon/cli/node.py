"""``pymon node``: the compute nodes whose agents a proxy asks."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pymon.cli import node_token
from pymon.cli.show import Document, print_list, print_one
from pymon.cli.verbs import JSON, UUID, Call, Verb, account_names, run_verb, text_kind
from pymon.config import ConfigError, Option, shown
from pymon.directory import model
from pymon.directory.directory import UNCHANGED
from pymon.directory.model import DirectoryError, Node, Snapshot
from pymon.directory.node_lists import read_list


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("node", VERBS, argv)


def _or_empty(parse: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: text and parse(text)


def _accounts(text: str) -> tuple[str, ...] | None:
    """Parse a comma-separated list of account names. Return None for "all"."""
    return None if text == "all" else tuple(name for name in text.split(",") if name)


def _create(call: Call) -> int:
    name, url = call.arguments
    given = call.settings["accounts"]
    with call.open() as directory:
        directory.create_node(
            name,
            url,
            uuid=call.settings["uuid"],
            tls_server_name=call.settings["tls-server-name"] or "",
            tls_fingerprint=call.settings["tls-fingerprint"] or "",
            accounts=None if given is None else _accounts(given),
        )
    return 0


def _set(call: Call) -> int:
    texts = {name.replace("-", "_"): call.settings[name] for name in ("url", "tls-server-name", "tls-fingerprint")}
    accounts = call.settings["accounts"]
    if accounts is None and all(text is None for text in texts.values()):
        raise ConfigError("expected --accounts, --url, --tls-server-name or --tls-fingerprint, got none of them")
    with call.open() as directory:
        directory.set_node(call.arguments[0], **texts, accounts=UNCHANGED if accounts is None else _accounts(accounts))
    return 0


def _accept(call: Call) -> int:
    name = call.arguments[0]
    with call.open() as directory:
        _find(directory.snapshot(), name)
        accepted = call.settings["uuid"] or directory.offers().get(name)
        if accepted is None:
            raise DirectoryError(f"node {name}: its agent reported no other UUID; give one with --uuid")
        directory.accept_node(name, accepted)
    print(accepted)
    return 0


def _import(call: Call) -> int:
    entries = read_list(Path(call.arguments[0]))
    with call.open() as directory:
        changes = directory.node_lists.put(entries)
    for word in ("created", "changed"):
        for name in getattr(changes, word):
            print(word, name)
    for name, why in changes.refused.items():
        print(f"pymon: node {name}: {why}", file=sys.stderr)
    return 1 if changes.refused else 0


def _find(snapshot: Snapshot, name: str) -> Node:
    node = snapshot.nodes.get(name)
    if node is None:
        raise DirectoryError(f"node {shown(name)}: not found")
    return node


def _document(node: Node, snapshot: Snapshot, offers: Mapping[str, uuid.UUID]) -> Document:
    names = account_names(snapshot)
    limit = None if node.accounts is None else sorted(names.get(account, str(account)) for account in node.accounts)
    return {
        "name": node.name,
        "uuid": str(node.uuid) if node.uuid else None,
        "offered_uuid": str(offers[node.name]) if node.name in offers else None,
        "url": node.url,
        "tls_server_name": node.tls_server_name,
        "tls_fingerprint": node.tls_fingerprint,
        "accounts": limit,
    }


def _in_words(document: Document) -> Document:
    """Return the document of a node with its accounts as text for a table."""
    limit = document["accounts"]
    return {**document, "accounts": "all" if limit is None else ",".join(limit) or "none"}


def _documents(call: Call) -> dict[str, Document]:
    with call.open() as directory:
        snapshot, offers = directory.snapshot(), directory.offers()
    if call.arguments:
        _find(snapshot, call.arguments[0])
    found = {name: _document(node, snapshot, offers) for name, node in snapshot.nodes.items()}
    return found if call.settings["json"] else {name: _in_words(document) for name, document in found.items()}


def _list(call: Call) -> int:
    columns = ("name", "uuid", "offered_uuid", "url", "tls_server_name", "accounts")
    return print_list(list(_documents(call).values()), columns, as_json=call.settings["json"])


def _show(call: Call) -> int:
    return print_one(_documents(call)[call.arguments[0]], as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.delete_node(call.arguments[0])
    return 0


_HOW = (
    Option("tls-server-name", text_kind("NAME", _or_empty(model.parse_server_name)), None,
           "The name that the agent's certificate is for. Default: the host of the URL."),
    Option("tls-fingerprint", text_kind("HEX", _or_empty(model.parse_fingerprint)), None,
           "SHA-256 of the agent's certificate, the only one to take."),
    Option("accounts", text_kind("LIST", str), None,
           "Accounts whose containers it may have, by name or UUID, with commas between; or `all`, the default."),
)  # fmt: skip

VERBS = (
    Verb("create", "NAME URL", "add a node; URL is that of its agent, http(s)://HOST:PORT", _create, (
        Option("uuid", UUID, None, "The node's UUID. Default: what its agent says first."),
        *_HOW,
    )),
    Verb("set", "NAME", "change what is given", _set, (
        Option("url", text_kind("URL", model.parse_node_url), None, "The URL of its agent."),
        *_HOW,
    )),
    Verb("import", "FILE", "add and change the nodes of a list in the format of Prometheus's file_sd_configs",
         _import),
    Verb("accept", "NAME", "accept the UUID that the node's agent reports now; prints it", _accept, (
        Option("uuid", UUID, None, "The UUID. Default: the last that its agent reported."),
    )),
    Verb("list", "", "list the nodes", _list, (JSON,)),
    Verb("show", "NAME", "show a node", _show, (JSON,)),
    Verb("delete", "NAME", "delete a node", _delete),
    Verb("token", "VERB", "tokens with which nodes join by themselves", verbs=node_token.VERBS),
)  # fmt: skip
