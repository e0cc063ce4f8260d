"""Requests of accounts that DNS does not fulfil."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pymon.dns import rrsets
from pymon.dns.claims import Account, account_label
from pymon.dns.view import Problem
from pymon.dns_label import label


def of_account(account: Account, labels: Mapping[str, Account]) -> Iterator[Problem]:
    """Yield the problems of one account. labels: the account that holds each label."""
    for name in account.names:
        made = account_label(name)
        if made and labels[made] is not account:
            text = f"account name {name} is {made} in DNS, which is the account {labels[made].uuid}"
            yield Problem(account.uuid, text)
        elif name and not made:
            try:
                label(name)
            except ValueError as error:
                yield Problem(account.uuid, f"account name {error}")
    for alias, entry, holder in account.aliases.losers():
        yield Problem(entry.uuid, f"alias {alias} is in DNS for {holder.uuid}")
    for name, members in account.services.items():
        if rrsets.is_large(members) and not rrsets.service(name, members, account.members)[1]:
            most = f"at most {rrsets.MAX_RECORDS} records of a type are in DNS"
            text = f"service {name} has {len(members)} instances, {most}"
            yield Problem(account.uuid, text)
