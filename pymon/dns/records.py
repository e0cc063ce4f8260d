"""The records of all zones, from what is known of the containers.

Below the forward zone, with every name of an account both under its UUID and under its name:

    UUID.cmon            CNAME cmon     containers and nodes
    cmon                 A AAAA         proxies that are alive
    UUID.inst.ACCOUNT    A AAAA TXT     containers with an owner and an address
    ALIAS.inst.ACCOUNT   A AAAA TXT     the same
    SERVICE.svc.ACCOUNT  A AAAA SRV     those of them that run and are not marked down

In the reverse zones an address is a PTR to the shortest name of its container. Where two claim a name, the one that
runs has it, then the one with the smaller UUID; of two accounts the one with the smaller UUID. Nothing is lost by
losing: the name with the UUID is always there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from uuid import UUID

from pymon.dns import rrsets, services
from pymon.dns.addresses import ReverseZones, published
from pymon.dns.claims import Account, Claims, Entry
from pymon.dns.content import LiveContent
from pymon.dns.names import absolute, forward_zone, inside, label
from pymon.dns.rrsets import Content, Record
from pymon.dns.view import Instance, Problem, Proxy, View

__all__ = ["Content", "Record", "Records", "records"]


def records(view: View) -> dict[str, dict[str, tuple[Record, ...]]]:
    """The content of each zone by its name, the forward zone first. ValueError: a zone that cannot be."""
    made = Records(view)
    return {origin: dict(made.content(origin).items()) for origin in made.origins}


class Records:
    """The same, kept in step with what changes. It holds who has which name, and makes the records when asked.

    origins: names of the zones, the forward zone first.
    """

    def __init__(self, view: View) -> None:
        self.zone = forward_zone(view.zone)
        self._reverse = ReverseZones(view.reverse)
        self.origins = (self.zone, *self._reverse.origins)
        self._name_servers = tuple(dict.fromkeys(map(absolute, view.name_servers)))
        if any(inside(name, self.zone) for name in self._name_servers):
            raise ValueError(f"expected name servers outside the zone {self.zone}: it would not have their addresses")
        self._cmon = f"cmon.{self.zone}"
        self._cname = (Record("CNAME", rrsets.TTL_SECONDS, self._cmon),)
        self._suffix = f".{self.zone}"
        self._below_cmon = f".{self._cmon}"
        self._entries: dict[str, Entry] = {}
        self._nodes: frozenset[str] = frozenset()
        self._proxies: tuple[Proxy, ...] = ()
        self._proxy_records: tuple[Record, ...] = ()
        self._accounts: dict[UUID, Account] = {}
        self._claimants: dict[str, dict[Account, int]] = {}  # of labels of accounts that are no UUIDs
        self._labels: dict[str, Account] = {}
        self._pointers = {origin: Claims() for origin in self._reverse.origins}
        self._refused: dict[str, tuple[str, ...]] = {}
        self._last: tuple[list[Entry], tuple[Record, ...]] | None = None
        self._before: dict[str, tuple[Record, ...]] | None = None  # names that may change, as they were
        self.update(view.instances, nodes=view.nodes, proxies=view.proxies)
        self._before = {}

    # What others ask.

    def get(self, name: str) -> tuple[Record, ...]:
        """The records of a name, in the order A, AAAA, and others; none when it is not there."""
        if not name.endswith(self._suffix):
            return self._apex() if name in self.origins else self._pointer(name)
        parts = name.removesuffix(self._suffix).split(".")
        if len(parts) == 3:  # noqa: PLR2004
            account = self._labels.get(parts[2])
            if account is not None:
                return self._owned(account, parts[1], parts[0])
        elif len(parts) == 2 and parts[1] == "cmon":  # noqa: PLR2004
            return self._cname if parts[0] in self._entries or parts[0] in self._nodes else ()
        elif parts == ["cmon"]:
            return self._proxy_records
        return ()

    def origin(self, name: str) -> str | None:
        """The zone that a name is in."""
        if inside(name, self.zone):
            return self.zone
        while name and name not in self._pointers:
            name = name.partition(".")[2]
        return name or None

    def content(self, origin: str) -> Content:
        """What is in a zone; it changes with every update."""
        if origin not in self.origins:
            raise KeyError(origin)
        return LiveContent(
            lambda name: self.get(name) if self.origin(name) == origin else (),
            lambda: self._walk(origin),
            lambda: self._size(origin),
        )

    def problems(self) -> list[Problem]:
        """What is not in DNS as asked for."""
        found = [Problem(uuid, text) for uuid, texts in self._refused.items() for text in texts]
        found += [Problem("", text) for text in rrsets.proxies(self._proxies)[1]]
        if not self._proxy_records:
            found.append(Problem("", f"no proxy with an address is alive for {self._cmon}"))
        for account in self._accounts.values():
            found += self._problems_of(account)
        for claims in self._pointers.values():
            for name, entry, holder in claims.losers():
                text = f"{name} is the address of {holder.instance.uuid} too, which has the PTR record"
                found.append(Problem(entry.instance.uuid, text))
        return found

    # What changes them.

    def update(
        self,
        changed: Iterable[Instance] = (),
        removed: Iterable[str] = (),
        *,
        nodes: Iterable[str] | None = None,
        proxies: tuple[Proxy, ...] | None = None,
    ) -> set[str]:
        """Instances that are new or have changed, UUIDs of those that are gone, and all nodes and proxies where these
        have changed: the names whose records have.
        """
        for uuid in removed:
            entry = self._entries.get(uuid)
            if entry is not None:
                self._withdraw(entry)
        # In the order of their UUIDs they come last in the lists that are kept in this order.
        for instance in sorted(changed, key=_uuid):
            entry = self._entries.get(instance.uuid)
            if entry is not None:
                if entry.instance == instance:
                    continue
                self._withdraw(entry)
            self._enter(instance)
        if nodes is not None:
            now = frozenset(nodes)
            self._touch(uuid + self._below_cmon for uuid in now ^ self._nodes)
            self._nodes = now
        if proxies is not None:
            self._touch((self._cmon, *self.origins))
            self._proxies = proxies
            self._proxy_records = rrsets.proxies(proxies)[0]
        if not self._before:
            return set()
        before, self._before = self._before, {}
        return {name for name, was in before.items() if self.get(name) != was}

    def _touch(self, names: Iterable[str]) -> None:
        """Remember names as they are, before something that may change them."""
        before = self._before
        if before is not None:
            for name in names:
                if name not in before:
                    before[name] = self.get(name)

    def _enter(self, instance: Instance) -> None:
        entry = self._entry(instance)
        account = entry.account
        if account is not None:
            self._call(account, instance.account_name, 1)
            account.size += 1
        self._touch_entry(entry)
        self._entries[instance.uuid] = entry
        self._last = None
        if account is None:
            return
        if entry.alias:
            account.aliases.add(entry.alias, entry)
        for name in entry.services.labels:
            account.join(name, entry)
        for origin, name in self._reverse.places(entry.addresses):
            self._pointers[origin].add(name, entry)

    def _withdraw(self, entry: Entry) -> None:
        self._touch_entry(entry)
        uuid = entry.instance.uuid
        del self._entries[uuid]
        self._last = None
        self._refused.pop(uuid, None)
        account = entry.account
        if account is None:
            return
        if entry.alias:
            account.aliases.remove(entry.alias, entry)
        for name in entry.services.labels:
            account.leave(name, entry)
        for origin, name in self._reverse.places(entry.addresses):
            self._pointers[origin].remove(name, entry)
        account.size -= 1
        self._call(account, entry.instance.account_name, -1)
        if not account.size and entry.instance.account is not None:
            del self._accounts[entry.instance.account]
            del self._labels[account.uuid]

    def _entry(self, instance: Instance) -> Entry:
        """What of an instance goes into DNS."""
        if instance.account is None or not instance.addresses:
            return Entry(instance)
        addresses, problems = published(instance.addresses)
        asked = services.parse(instance.services)
        problems += asked.problems
        alias = ""
        if instance.alias and instance.alias != instance.uuid:
            try:
                alias = label(instance.alias)
            except ValueError as error:
                problems += (f"alias {error}",)
        if problems:
            self._refused[instance.uuid] = problems
        if not addresses:
            return Entry(instance)
        account = self._accounts.get(instance.account)
        if account is None:
            account = self._accounts[instance.account] = Account(str(instance.account), self.zone)
            self._labels[account.uuid] = account
        active = instance.running and not instance.down
        return Entry(instance, account, alias, addresses, asked if active else services.NONE)

    def _touch_entry(self, entry: Entry) -> None:
        """All names that an instance has or claims."""
        if self._before is None:
            return
        uuid, account = entry.instance.uuid, entry.account
        self._touch((uuid + self._below_cmon,))
        if account is None:
            return
        self._touch(uuid + suffix for suffix in account.inst)
        self._touch(name for _, name in self._reverse.places(entry.addresses))
        self._touch(name + suffix for name in entry.services.labels for suffix in account.svc)
        if entry.alias:
            self._touch(entry.alias + suffix for suffix in account.inst)
            for other in account.aliases.first(entry.alias):  # PTR records are to names that are had
                self._touch(name for _, name in self._reverse.places(other.addresses))

    def _call(self, account: Account, name: str, by: int) -> None:
        """One instance more or less says that its account has this name."""
        count = account.names.get(name, 0)
        account.names[name] = count + by
        if not count + by:
            del account.names[name]
        if bool(count) == bool(count + by):
            return
        made = _account_label(name)
        if not made:
            return
        claimants = self._claimants.setdefault(made, {})
        before = _least(claimants)
        after = dict(claimants)
        after[account] = after.get(account, 0) + by
        if not after[account]:
            del after[account]
        holder = _least(after)
        if holder is not before:
            parties = [party for party in (before, holder) if party is not None]
            self._touch_accounts(parties, made)
            for party in parties:
                kept = {*party.labels[1:], made} if party is holder else {*party.labels[1:]} - {made}
                party.relabel((party.uuid, *sorted(kept)), self.zone)
        if holder is None:
            del self._claimants[made], self._labels[made]
        else:
            self._claimants[made] = after
            self._labels[made] = holder

    def _touch_accounts(self, accounts: list[Account], under: str) -> None:
        """All names of accounts under a label, and the PTR records to them."""
        if self._before is None or not any(account.size for account in accounts):
            return
        inst, svc = f".inst.{under}.{self.zone}", f".svc.{under}.{self.zone}"
        for account in accounts:
            self._touch(name + svc for name in account.services)
            self._touch(name + inst for name in account.aliases)
        for entry in self._entries.values():
            if entry.account in accounts:
                self._touch((entry.instance.uuid + inst,))
                self._touch(name for _, name in self._reverse.places(entry.addresses))

    # The records.

    def _apex(self) -> tuple[Record, ...]:
        servers = self._name_servers or ((self._cmon,) if self._proxy_records else (rrsets.NOWHERE,))
        return rrsets.apex(self.zone, servers)

    def _owned(self, account: Account, kind: str, name: str) -> tuple[Record, ...]:
        if kind == "inst":
            entry = account.aliases.get(name) or self._entries.get(name)
            return rrsets.instance(entry) if entry is not None and entry.account is account else ()
        members = account.services.get(name) if kind == "svc" else None
        if members is None:
            return ()
        if self._last is None or self._last[0] is not members:  # the same under another label comes next
            self._last = members, rrsets.service(name, members)[0]
        return self._last[1]

    def _pointer(self, name: str) -> tuple[Record, ...]:
        origin = self.origin(name)
        entry = self._pointers[origin].get(name) if origin is not None else None
        return self._pointer_to(entry) if entry is not None else ()

    def _pointer_to(self, entry: Entry) -> tuple[Record, ...]:
        name, account = entry.instance.uuid, entry.account
        if account is None:
            return ()
        if len(entry.alias) <= len(name) and account.aliases.get(entry.alias) is entry:
            name = entry.alias
        return (Record("PTR", rrsets.TTL_SECONDS, name + account.shortest),)

    def _problems_of(self, account: Account) -> Iterator[Problem]:
        for name in account.names:
            made = _account_label(name)
            if made and self._labels[made] is not account:
                text = f"account name {name} is {made} in DNS, which is the account {self._labels[made].uuid}"
                yield Problem(account.uuid, text)
            elif name and not made:
                try:
                    label(name)
                except ValueError as error:
                    yield Problem(account.uuid, f"account name {error}")
        for alias, entry, holder in account.aliases.losers():
            yield Problem(entry.instance.uuid, f"alias {alias} is in DNS for {holder.instance.uuid}")
        for name, members in account.services.items():
            if len(members) > 1 and not rrsets.service(name, members)[1]:
                most = f"at most {rrsets.MAX_RECORDS} records of a type are in DNS"
                text = f"service {name} has {len(members)} instances, {most}"
                yield Problem(account.uuid, text)

    # Whole zones.

    def _walk(self, origin: str) -> Iterator[tuple[str, tuple[Record, ...]]]:
        """All names of a zone with their records. Names of one instance share theirs."""
        yield origin, self._apex()
        if origin != self.zone:
            for name, entry in self._pointers[origin].items():
                yield name, self._pointer_to(entry)
            return
        if self._proxy_records:
            yield self._cmon, self._proxy_records
        below_cmon, cname, entries = self._below_cmon, self._cname, self._entries
        for uuid in self._nodes:
            if uuid not in entries:
                yield uuid + below_cmon, cname
        for uuid, entry in entries.items():
            yield uuid + below_cmon, cname
            account = entry.account
            if account is None:
                continue
            made = rrsets.instance(entry)
            alias = entry.alias if entry.alias and account.aliases[entry.alias] is entry else ""
            for suffix in account.inst:
                yield uuid + suffix, made
                if alias:
                    yield alias + suffix, made
        for account in self._accounts.values():
            for name, members in account.services.items():
                made = rrsets.service(name, members)[0]
                for suffix in account.svc:
                    yield name + suffix, made

    def _size(self, origin: str) -> int:
        """The number of names in a zone."""
        if origin != self.zone:
            return 1 + len(self._pointers[origin])
        owned = sum(
            len(account.labels) * (account.size + len(account.aliases) + len(account.services))
            for account in self._accounts.values()
        )
        nodes = sum(uuid not in self._entries for uuid in self._nodes)
        return 1 + bool(self._proxy_records) + nodes + len(self._entries) + owned


def _uuid(instance: Instance) -> str:
    return instance.uuid


@lru_cache(4096)
def _account_label(name: str) -> str:
    """The label of an account's name; empty when it cannot have one."""
    try:
        return label(name)
    except ValueError:
        return ""


def _least(accounts: Iterable[Account]) -> Account | None:
    return min(accounts, key=lambda account: account.uuid, default=None)
