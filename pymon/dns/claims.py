"""Names that several parties may claim, and which of them gets the name.

Instances can claim the same alias or address. Accounts can claim the same account name.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from functools import lru_cache

from pymon.dns.entry import Entry
from pymon.dns_label import label


def _rank(entry: Entry) -> tuple[bool, str]:
    """Return the sort key of the claimants of a name. The smallest wins: running instances first, then by UUID."""
    return not entry.running, entry.uuid


def _uuid(entry: Entry) -> str:
    return entry.uuid


class Claims(dict[str, Entry]):
    """The instance that holds each name.

    rivals: for each name with several claimants, all of them, sorted; the first is the holder.
    """

    __slots__ = ("rivals",)

    def __init__(self) -> None:
        super().__init__()
        self.rivals: dict[str, list[Entry]] = {}

    def add(self, name: str, entry: Entry) -> None:
        """Add a claim to a name."""
        holder = self.setdefault(name, entry)
        if holder is not entry:
            rivals = self.rivals.setdefault(name, [holder])
            insort(rivals, entry, key=_rank)
            self[name] = rivals[0]

    def remove(self, name: str, entry: Entry) -> None:
        """Remove a claim that was added before. Raises KeyError if nobody claims the name."""
        rivals = self.rivals.get(name)
        if rivals is None:
            del self[name]
            return
        del rivals[bisect_left(rivals, _rank(entry), key=_rank)]
        self[name] = rivals[0]
        if len(rivals) == 1:
            del self.rivals[name]

    def first(self, name: str) -> list[Entry]:
        """Return the holder of a name and the next claimant, if there are any."""
        rivals = self.rivals.get(name)
        if rivals is not None:
            return rivals[:2]
        holder = self.get(name)
        return [] if holder is None else [holder]

    def losers(self) -> Iterator[tuple[str, Entry, Entry]]:
        """Yield (name, loser, holder) for each running instance that claims a name and does not hold it."""
        for name, (holder, *others) in self.rivals.items():
            for entry in others:
                if entry.running:
                    yield name, entry, holder


class Account:
    """An account with instances in DNS. All its names exist under each of its labels.

    uuid: text. size: the number of its instances. names: account name -> number of instances that state it. labels: the
    UUID, then the labels of the account names that it holds. inst, svc: for each label, the suffix of the names of
    instances and services. members: the suffix of an instance's UUID in SRV records. services: service label -> member
    instances sorted by UUID.
    """

    __slots__ = ("aliases", "inst", "labels", "members", "names", "services", "shortest", "size", "svc", "uuid")

    def __init__(self, uuid: str, zone: str) -> None:
        self.uuid = uuid
        self.size = 0
        self.members = f".inst.{uuid}.{zone}"
        self.names: dict[str, int] = {}
        self.aliases = Claims()
        self.services: dict[str, list[Entry]] = {}
        self.relabel((uuid,), zone)

    def relabel(self, labels: tuple[str, ...], zone: str) -> None:
        """Set the labels. labels: the account's UUID, then the labels of the names that it holds."""
        self.labels = labels
        self.inst = tuple(f".inst.{label}.{zone}" for label in labels)
        self.svc = tuple(f".svc.{label}.{zone}" for label in labels)
        self.shortest = min(self.inst, key=lambda suffix: (len(suffix), suffix))

    def is_called(self, label: str) -> bool:
        """Return whether a label equals a name of the account except for upper and lower case."""
        return any(name.lower() == label for name in self.names)

    def has_below(self, name: str) -> bool:
        """Return whether a name is in the account's part of the zone for instances and services, existing or not."""
        return name.endswith(self.inst + self.svc)

    def sort(self) -> None:
        """Sort the members of all services by UUID, the order that `join` and `leave` rely on."""
        for members in self.services.values():
            members.sort(key=_uuid)

    def join(self, label: str, entry: Entry) -> None:
        """Add an instance to a service."""
        insort(self.services.setdefault(label, []), entry, key=_uuid)

    def leave(self, label: str, entry: Entry) -> None:
        """Remove an instance from a service. The instance must be a member."""
        members = self.services[label]
        del members[bisect_left(members, entry.uuid, key=_uuid)]
        if not members:
            del self.services[label]


@lru_cache(4096)
def account_label(name: str) -> str:
    """Return the DNS label of an account name, or "" if the name cannot be made into one."""
    try:
        return label(name)
    except ValueError:
        return ""


def least(accounts: Iterable[Account], made: str) -> Account | None:
    """Return which of the accounts that claim a label gets it, None if there are none.

    An account whose name equals the label (ignoring case) comes first, then the account with the smaller UUID.
    """
    return min(accounts, key=lambda account: (not account.is_called(made), account.uuid), default=None)
