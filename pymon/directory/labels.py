"""DNS labels of accounts. Directories from before the check was added can have accounts with the same label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from pymon.dns_label import label_or_none

if TYPE_CHECKING:
    from pymon.directory.model import Account, Snapshot


def holders(accounts: Iterable[Account]) -> dict[str, Account]:
    """Return label -> account. Of several, it is the one whose name equals the label (ignoring case), else the oldest.

    Accounts whose name has no label are left out.
    """
    found: dict[str, Account] = {}
    for account in sorted(accounts, key=_rank):
        label = label_or_none(account.name)
        if label is not None:
            found.setdefault(label, account)
    return found


def conflicts(snapshot: Snapshot) -> list[str]:
    """Return one line for each account whose label belongs to another account."""
    lines = []
    for account in snapshot.accounts.values():
        label = label_or_none(account.name)
        if label is not None and snapshot.labels[label].uuid != account.uuid:
            lines.append(
                f"account {account.name}: is {label} in DNS, which the account {snapshot.labels[label].name} has"
            )
    return lines


def _rank(account: Account) -> tuple[bool, float, UUID]:
    return account.name.lower() != label_or_none(account.name), account.created_at, account.uuid
