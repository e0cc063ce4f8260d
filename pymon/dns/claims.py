"""Who has which name where several may claim it: instances an alias or an address, accounts a name."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from pymon.dns.services import NONE, Services
from pymon.dns.view import Instance


class Entry:
    """An instance as it is in DNS. account: None when only its ``.cmon`` name is. alias: a label, empty without one.

    services: those it takes part in now.
    """

    __slots__ = ("account", "addresses", "alias", "instance", "services")

    def __init__(
        self,
        instance: Instance,
        account: Account | None = None,
        alias: str = "",
        addresses: tuple[str, ...] = (),
        services: Services = NONE,
    ) -> None:
        self.instance = instance
        self.account = account
        self.alias = alias
        self.addresses = addresses
        self.services = services


def _rank(entry: Entry) -> tuple[bool, str]:
    """Of several that claim a name the least has it: one that runs, and of these the one with the smaller UUID."""
    return not entry.instance.running, entry.instance.uuid


def _uuid(entry: Entry) -> str:
    return entry.instance.uuid


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
                if entry.instance.running:
                    yield name, entry, holder


class Account:
    """An account with instances in DNS. All its names are there under each of its labels.

    uuid: its text. size: instances. names: how many of them say that it is called so. labels: its UUID, then the names
    it has. inst, svc: what follows a name under each label. services: who takes part, by UUID.
    """

    __slots__ = ("aliases", "inst", "labels", "names", "services", "shortest", "size", "svc", "uuid")

    def __init__(self, uuid: str, zone: str) -> None:
        self.uuid = uuid
        self.size = 0
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

    def join(self, label: str, entry: Entry) -> None:
        """An instance takes part in a service."""
        members = self.services.setdefault(label, [])
        if members and members[-1].instance.uuid > entry.instance.uuid:
            insort(members, entry, key=_uuid)
        else:
            members.append(entry)

    def leave(self, label: str, entry: Entry) -> None:
        """It no longer does."""
        members = self.services[label]
        del members[bisect_left(members, entry.instance.uuid, key=_uuid)]
        if not members:
            del self.services[label]
