"""``pymon key``: SSH public keys of accounts. A client certificate signed with such a key is accepted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from uuid import UUID

from pymon.cli.show import Document, print_list, print_one
from pymon.cli.verbs import JSON, Call, Verb, account_names, chosen_account, read_small, run_verb, state
from pymon.config import ConfigError, shown
from pymon.directory.model import DirectoryError, Snapshot, SSHKey
from pymon.directory.sshkey import parse_public_key


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("key", VERBS, argv)


def _add(call: Call) -> int:
    account, file = call.arguments
    try:
        text = read_small(file).decode()
        parse_public_key(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: expected an OpenSSH public key, got something else") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    with call.open() as directory:
        key = directory.add_key(account, text)
    print(key.fingerprint)
    return 0


def _document(key: SSHKey, names: Mapping[UUID, str]) -> Document:
    return {
        "fingerprint": key.fingerprint,
        "md5": key.md5,
        "account": names[key.account],
        "type": key.public_key.partition(" ")[0],
        "comment": key.comment,
        "state": state(time.time(), key.revoked_at, None),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "public_key": key.public_key,
    }


def _keys(snapshot: Snapshot) -> list[SSHKey]:
    return [key for keys in snapshot.keys.values() for key in keys]


def _find(snapshot: Snapshot, text: str) -> list[SSHKey]:
    """Return the keys with a fingerprint, one for each account that has the key.

    text: SHA-256 or MD5, as ssh-keygen prints it.
    Raises DirectoryError if there is no such key.
    """
    md5 = text.removeprefix("MD5:").replace(":", "").lower()
    found = [key for key in _keys(snapshot) if text.rstrip("=") == key.fingerprint or md5 == key.md5]
    if not found:
        raise DirectoryError(f"key {shown(text)}: not found")
    return found


def _list(call: Call) -> int:
    snapshot = call.snapshot()
    account = chosen_account(snapshot, call.arguments)
    names = account_names(snapshot)
    documents = [_document(key, names) for key in _keys(snapshot) if account in (None, key.account)]
    columns = ("fingerprint", "type", "account", "state", "created_at", "comment")
    return print_list(documents, columns, as_json=call.settings["json"])


def _show(call: Call) -> int:
    snapshot = call.snapshot()
    names = account_names(snapshot)
    documents = [_document(key, names) for key in _find(snapshot, call.arguments[0])]
    if len(documents) == 1:
        return print_one(documents[0], as_json=call.settings["json"])
    return print_list(documents, tuple(documents[0]), as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.revoke_key(_find(directory.snapshot(), call.arguments[0])[0].fingerprint)
    return 0


VERBS = (
    Verb("add", "ACCOUNT FILE.pub", "register an SSH public key; prints its fingerprint", _add),
    Verb("create", "ACCOUNT FILE.pub", "the same as add", _add),
    Verb("list", "[ACCOUNT]", "list the keys", _list, (JSON,)),
    Verb("show", "FINGERPRINT", "show a key", _show, (JSON,)),
    Verb("delete", "FINGERPRINT", "delete a key: it and what it signed are refused from then on", _delete),
)
