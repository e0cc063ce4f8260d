"""``pymon quota``: what an account may ask of all proxies together."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pymon.cli.show import Document, print_list, print_one
from pymon.cli.verbs import JSON, Call, Verb, find_account, run_verb, text_kind
from pymon.config import INT, ConfigError, Option
from pymon.directory.model import Account, Quota

_COLUMNS = ("account", "requests_per_second", "burst", "concurrency")


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("quota", VERBS, argv)


def _rate(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text):
        raise ValueError("a number of requests a second")
    return float(text)


def _set(call: Call) -> int:
    given = {name.replace("-", "_"): call.settings[name] for name in ("requests-per-second", "burst", "concurrency")}
    if all(value is None for value in given.values()):
        raise ConfigError("expected --requests-per-second, --burst or --concurrency, got none of them")
    with call.open() as directory:
        directory.set_quota(call.arguments[0], **given)
    return 0


def _document(account: Account) -> Document:
    return {
        "account": account.name,
        "requests_per_second": account.quota.requests_per_second,
        "burst": account.quota.burst,
        "concurrency": account.quota.concurrency,
    }


def _list(call: Call) -> int:
    accounts = call.snapshot().accounts.values()
    return print_list([_document(account) for account in accounts], _COLUMNS, as_json=call.settings["json"])


def _show(call: Call) -> int:
    return print_one(_document(find_account(call.snapshot(), call.arguments[0])), as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.delete_quota(call.arguments[0])
    return 0


_DEFAULT = Quota()
_OPTIONS = (
    Option("requests-per-second", text_kind("N", _rate), None,
           f"Requests a second; 0 is no limit. {_DEFAULT.requests_per_second:g} unless set."),
    Option("burst", INT, None, f"Requests that may come at once. {_DEFAULT.burst} unless set."),
    Option("concurrency", INT, None, f"Requests that may be under way at once. {_DEFAULT.concurrency} unless set."),
)  # fmt: skip

VERBS = (
    Verb("set", "ACCOUNT", "change the parts that are given", _set, _OPTIONS),
    Verb("create", "ACCOUNT", "the same as set", _set, _OPTIONS),
    Verb("list", "", "list the quotas", _list, (JSON,)),
    Verb("show", "ACCOUNT", "show a quota", _show, (JSON,)),
    Verb("delete", "ACCOUNT", "back to the defaults", _delete),
)
