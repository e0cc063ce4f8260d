"""``pymon token``: bearer tokens of accounts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from pymon.cli.show import Document, print_list, print_one
from pymon.cli.verbs import JSON, LABEL, Call, Verb, account_names, chosen_account, run_verb, state
from pymon.config import SECONDS, Option, shown
from pymon.directory.model import DirectoryError, Token

_MAX_SECONDS = 100 * 31536000.0


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("token", VERBS, argv)


def _create(call: Call) -> int:
    seconds: float | None = call.settings["expires"]
    with call.open() as directory:
        text = directory.create_token(
            call.arguments[0], call.settings["label"], None if seconds is None else time.time() + seconds
        )
    print(text)
    return 0


def _document(token: Token, names: Mapping[UUID, str]) -> Document:
    return {
        "id": token.id,
        "account": names[token.account],
        "label": token.label,
        "state": state(time.time(), token.revoked_at, token.expires_at),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def _list(call: Call) -> int:
    snapshot = call.snapshot()
    account = chosen_account(snapshot, call.arguments)
    names = account_names(snapshot)
    tokens = (token for token in snapshot.tokens.values() if account in (None, token.account))
    columns = ("id", "account", "state", "created_at", "expires_at", "label")
    return print_list([_document(token, names) for token in tokens], columns, as_json=call.settings["json"])


def _show(call: Call) -> int:
    snapshot = call.snapshot()
    token = snapshot.tokens.get(call.arguments[0])
    if token is None:
        raise DirectoryError(f"token {shown(call.arguments[0])}: not found")
    return print_one(_document(token, account_names(snapshot)), as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.revoke_token(call.arguments[0])
    return 0


def _lasting(seconds: float) -> None:
    if not 0 < seconds <= _MAX_SECONDS:
        raise ValueError("a duration above zero, at most 100y")


VERBS = (
    Verb("create", "ACCOUNT", "make a token; prints it, once and for all", _create, (
        LABEL,
        Option("expires", SECONDS, None, "How long it is valid. Default: until it is deleted.", check=_lasting),
    )),
    Verb("list", "[ACCOUNT]", "list the tokens", _list, (JSON,)),
    Verb("show", "ID", "show a token, not its secret", _show, (JSON,)),
    Verb("delete", "ID", "delete a token, which is refused from then on", _delete),
)  # fmt: skip
