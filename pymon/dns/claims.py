"""Who has which name where several may claim it: instances an alias or an address, accounts a name."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from functools import lru_cache

from pymon.dns.entry import Entry
from pymon.dns.names import label


def _rank(entry: Entry) -> tuple[bool, str]:
    """Of several that claim a name the least has it: one that runs, and of these the one with the smaller UUID."""
    return not entry.running, entry.uuid


def _uuid(entry: Entry) -> str:
    return entry.uuid


class Claims(dict[str, Entry]):
    """Who has each name. rivals: all who claim a name that several do, who has it first."""

    __slots__ = ("rivals",)

    def __init__(self) -> None:
        super().__init__()
        self.rivals: dict[str, list[Entry]] = {}

    def add(self, name: str, entry: Entry) -> None:
        """A claim."""
        holder = self.setdefault(name, entry)
        if holder is not entry:
            rivals = self.rivals.setdefault(name, [holder])
            insort(rivals, entry, key=_rank)
            self[name] = rivals[0]

    def remove(self, name: str, entry: Entry) -> None:
        """A claim that was added."""
        rivals = self.rivals.get(name)
        if rivals is None:
            del self[name]
            return
        del rivals[bisect_left(rivals, _rank(entry), key=_rank)]
        self[name] = rivals[0]
        if len(rivals) == 1:
            del self.rivals[name]

    def first(self, name: str) -> list[Entry]:
        """Who has a name and who would be next."""
        rivals = self.rivals.get(name)
        if rivals is not None:
            return rivals[:2]
        holder = self.get(name)
        return [] if holder is None else [holder]

    def losers(self) -> Iterator[tuple[str, Entry, Entry]]:
        """Those that run and do not have a name they claim: the name, each of them, and who has it."""
        for name, (holder, *others) in self.rivals.items():
            for entry in others:
                if entry.running:
                    yield name, entry, holder


class Account:
    """An account with instances in DNS. All its names are there under each of its labels.

    uuid: its text. size: instances. names: how many of them say that it is called so. labels: its UUID, then the names
    it has. inst, svc: what follows a name under each label. members: what follows a UUID in a location. services: who
    takes part, by UUID.
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
        """Other labels, its UUID among them."""
        self.labels = labels
        self.inst = tuple(f".inst.{label}.{zone}" for label in labels)
        self.svc = tuple(f".svc.{label}.{zone}" for label in labels)
        self.shortest = min(self.inst, key=lambda suffix: (len(suffix), suffix))

    def sort(self) -> None:
        """Bring all services into the order that `join` and `leave` keep."""
        for members in self.services.values():
            members.sort(key=_uuid)

    def join(self, label: str, entry: Entry) -> None:
        """An instance takes part in a service."""
        insort(self.services.setdefault(label, []), entry, key=_uuid)

    def leave(self, label: str, entry: Entry) -> None:
        """It no longer does."""
        members = self.services[label]
        del members[bisect_left(members, entry.uuid, key=_uuid)]
        if not members:
            del self.services[label]


@lru_cache(4096)
def account_label(name: str) -> str:
    """The label of an account's name; empty when it cannot have one."""
    try:
        return label(name)
    except ValueError:
        return ""


def least(accounts: Iterable[Account]) -> Account | None:
    """Of several that claim a name, who has it; None of none."""
    return min(accounts, key=lambda account: account.uuid, default=None)
