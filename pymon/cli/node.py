"""``pymon node``: the compute nodes whose agents a proxy asks."""

from __future__ import annotations

from collections.abc import Sequence

from pymon.cli.show import Document, print_list, print_one
from pymon.cli.verbs import JSON, UUID, Call, Verb, run_verb, text_kind
from pymon.config import Option, shown
from pymon.directory import model
from pymon.directory.model import DirectoryError, Node


def run(argv: Sequence[str]) -> int:
    """Run a verb."""
    return run_verb("node", VERBS, argv)


def _create(call: Call) -> int:
    name, url = call.arguments
    with call.open() as directory:
        directory.create_node(
            name,
            url,
            uuid=call.settings["uuid"],
            tls_server_name=call.settings["tls-server-name"],
            tls_fingerprint=call.settings["tls-fingerprint"],
        )
    return 0


def _document(node: Node) -> Document:
    return {
        "name": node.name,
        "uuid": str(node.uuid) if node.uuid else None,
        "url": node.url,
        "tls_server_name": node.tls_server_name,
        "tls_fingerprint": node.tls_fingerprint,
    }


def _list(call: Call) -> int:
    nodes = call.snapshot().nodes.values()
    columns = ("name", "uuid", "url", "tls_server_name")
    return print_list([_document(node) for node in nodes], columns, as_json=call.settings["json"])


def _show(call: Call) -> int:
    node = call.snapshot().nodes.get(call.arguments[0])
    if node is None:
        raise DirectoryError(f"node {shown(call.arguments[0])}: there is none of that name")
    return print_one(_document(node), as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.delete_node(call.arguments[0])
    return 0


VERBS = (
    Verb("create", "NAME URL", "add a node; URL is that of its agent, http(s)://HOST:PORT", _create, (
        Option("uuid", UUID, None, "The node's UUID. Default: as its agent says."),
        Option("tls-server-name", text_kind("NAME", model.parse_server_name), "",
               "The name that the agent's certificate is for. Default: the host of the URL."),
        Option("tls-fingerprint", text_kind("HEX", model.parse_fingerprint), "",
               "SHA-256 of the agent's certificate, the only one to take."),
    )),
    Verb("list", "", "list the nodes", _list, (JSON,)),
    Verb("show", "NAME", "show a node", _show, (JSON,)),
    Verb("delete", "NAME", "delete a node", _delete),
)  # fmt: skip
