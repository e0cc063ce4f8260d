"""``pymon node token``: tokens with which nodes join by themselves."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes

from pymon.cli.show import Document, print_list
from pymon.cli.verbs import JSON, Call, Verb
from pymon.config import SECONDS, Option
from pymon.directory.authority import CERTIFICATE_FILE, load_certificate
from pymon.directory.node_tokens import NodeToken

_MAX_SECONDS = 30 * 86400.0
_EXPIRES_SECONDS = 3600.0


def _create(call: Call) -> int:
    authority = call.machines_dir / CERTIFICATE_FILE
    fingerprint = load_certificate(authority).fingerprint(hashes.SHA256()).hex() if authority.exists() else ""
    with call.open() as directory:
        print(directory.node_tokens.create(call.arguments[0], call.settings["expires"], fingerprint))
    return 0


def _document(token: NodeToken, now: float) -> Document:
    return {
        "id": token.id,
        "node": token.node,
        "state": "used" if token.used_at is not None else "expired" if token.expires_at <= now else "active",
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
    }


def _list(call: Call) -> int:
    with call.open() as directory:
        now, tokens = directory.node_tokens.all()
    columns = ("id", "node", "state", "created_at", "expires_at", "used_at")
    return print_list([_document(token, now) for token in tokens], columns, as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.node_tokens.delete(call.arguments[0])
    return 0


def _lasting(seconds: float) -> None:
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError("a duration above zero, at most 30d")


VERBS = (
    Verb("create", "NAME", "make a token for the node NAME; prints it, once and for all", _create, (
        Option("expires", SECONDS, _EXPIRES_SECONDS, "How long it is valid, if it is not used before.",
               check=_lasting),
    )),
    Verb("list", "", "list the tokens", _list, (JSON,)),
    Verb("delete", "ID", "delete a token; a node that has joined with it stays", _delete),
)  # fmt: skip
