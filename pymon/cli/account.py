"""``pymon account``: tenants and operators."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence

from pymon.cli.next_step import after_account
from pymon.cli.show import Document, print_list, print_one
from pymon.cli.verbs import JSON, UUID, Call, Verb, find_account, run_verb
from pymon.config import BOOL, ConfigError, Option
from pymon.directory.directory import MAX_PASSWORD_BYTES
from pymon.directory.model import Account, Snapshot


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("account", VERBS, argv)


def _create(call: Call) -> int:
    with call.open(create=True) as directory:
        account = directory.create_account(
            call.arguments[0], operator=call.settings["operator"], uuid=call.settings["uuid"]
        )
    print(account.uuid, flush=True)
    site = call.site()
    if site is not None and not account.operator:
        sys.stderr.write(after_account(account.name, call.data_dir, site))
    return 0


def _document(account: Account) -> Document:
    return {
        "name": account.name,
        "uuid": str(account.uuid),
        "operator": account.operator,
        "created_at": account.created_at,
    }


def _counts(snapshot: Snapshot, account: Account) -> Document:
    """Return the number of credentials of each kind, and the quota. Expired credentials count, revoked ones do not."""
    certificates = [c for c in snapshot.certificates.values() if c.account == account.uuid]
    tokens = [t for t in snapshot.tokens.values() if t.account == account.uuid]
    return {
        "certificates": sum(c.revoked_at is None for c in certificates),
        "keys": sum(key.revoked_at is None for key in snapshot.keys.get(account.uuid, ())),
        "tokens": sum(t.revoked_at is None for t in tokens),
        "password": account.uuid in snapshot.passwords,
        "requests_per_second": account.quota.requests_per_second,
        "burst": account.quota.burst,
        "concurrency": account.quota.concurrency,
    }


def _list(call: Call) -> int:
    accounts = call.snapshot().accounts.values()
    columns = ("name", "uuid", "operator", "created_at")
    return print_list([_document(account) for account in accounts], columns, as_json=call.settings["json"])


def _show(call: Call) -> int:
    snapshot = call.snapshot()
    account = find_account(snapshot, call.arguments[0])
    return print_one({**_document(account), **_counts(snapshot, account)}, as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.delete_account(call.arguments[0])
    return 0


def _password(call: Call) -> int:
    password = None if call.settings["remove"] else _read_password()
    with call.open() as directory:
        directory.set_password(call.arguments[0], password)
    return 0


def _read_password() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Password: ")
    line = sys.stdin.buffer.readline(MAX_PASSWORD_BYTES + 3)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise ConfigError("password: expected UTF-8, got something else") from None


VERBS = (
    Verb("create", "NAME", "add an account, and make the directory where there is none; prints its UUID", _create, (
        Option("operator", BOOL, False, "An operator: may also read nodes and containers that nobody owns."),
        Option("uuid", UUID, None, "The UUID it is to have, instead of a random one."),
    )),
    Verb("list", "", "list the accounts", _list, (JSON,)),
    Verb("show", "NAME", "show an account", _show, (JSON,)),
    Verb("delete", "NAME", "delete an account with its quota and all its credentials", _delete),
    Verb("password", "NAME", "set the password to one line of standard input", _password, (
        Option("remove", BOOL, False, "Take the password away."),
    )),
)  # fmt: skip
