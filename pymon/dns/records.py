"""The records of all zones, computed from the containers.

The forward zone has these names. ACCOUNT is the UUID of an account, and also its name:

    UUID.cmon            CNAME cmon     containers and nodes
    cmon                 A AAAA         proxies that are alive
    UUID.inst.ACCOUNT    A AAAA TXT     containers with an owner and an address
    ALIAS.inst.ACCOUNT   A AAAA TXT     the same
    SERVICE.svc.ACCOUNT  A AAAA SRV     containers of the service that run and are not marked down

In the reverse zones, an address has a PTR record to the shortest name of its container. A container may request another
name if it is below a name of its account or the operator allows it. Any other request is refused, because clients trust
a name that a PTR record gives.

If several containers claim a name, a running one gets it, then the one with the smallest UUID. If several accounts
claim a label, the one whose name equals the label gets it, then the one with the smallest UUID. The names with a UUID
always exist, so that a container that loses a name can still be reached.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pymon.config import shown
from pymon.dns import rrsets
from pymon.dns.addresses import ReverseZones
from pymon.dns.claims import Account, Claims, account_label, least
from pymon.dns.content import WHOLE, Group, LiveContent
from pymon.dns.entry import Entry, made
from pymon.dns.names import absolute, forward_zone, inside
from pymon.dns.problems import of_account
from pymon.dns.rrsets import Content, Record
from pymon.dns.view import Instance, Problem, Proxy, View

__all__ = ["Content", "Record", "Records", "records"]


def records(view: View) -> dict[str, dict[str, tuple[Record, ...]]]:
    """Return zone name -> name -> records, the forward zone first. Raises ValueError if a zone name is not valid."""
    made = Records(view)
    return {origin: dict(made.content(origin).items()) for origin in made.origins}


class Records:
    """The records of all zones, updated incrementally.

    It stores which container holds which name. Records are made on demand. origins: the names of the zones, the forward
    zone first.
    """

    def __init__(self, view: View) -> None:
        self.zone = forward_zone(view.zone)
        self._reverse = ReverseZones(view.reverse)
        self.origins = (self.zone, *self._reverse.origins)
        self._pointing: dict[str, Entry] = {}  # UUID -> entry, of those that request a target for their PTR records
        allowed = tuple(dict.fromkeys(map(absolute, view.reverse_ptr_allow)))
        self._allowed = (frozenset(allowed), tuple(f".{name}" for name in allowed))
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
        self._accounts: dict[str, Account] = {}
        self._claimants: dict[str, dict[Account, int]] = {}  # label -> accounts that claim it, without UUID labels
        self._labels: dict[str, Account] = {}
        self._pointers = {origin: Claims() for origin in self._reverse.origins}
        self._refused: dict[str, tuple[str, ...]] = {}
        self._changes = 0  # incremented with every change of an entry
        self._last: tuple[list[Entry], tuple[Record, ...]] | None = None
        self._kept: tuple[list[Entry], rrsets.Service] | None = None
        # Names that an update may change -> their records before it. None during the first update, which needs none.
        self._before: dict[str, tuple[Record, ...] | rrsets.Service] | None = None
        self.update(view.instances, nodes=view.nodes, proxies=view.proxies)
        for account in self._accounts.values():
            account.sort()
        self._before = {}

    # Queries.

    def get(self, name: str) -> tuple[Record, ...]:
        """Return the records of a name in the order A, AAAA, others; () if the name does not exist."""
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
        """Return the zone that contains a name, None if there is none."""
        if inside(name, self.zone):
            return self.zone
        while name and name not in self._pointers:
            name = name.partition(".")[2]
        return name or None

    def content(self, origin: str) -> Content:
        """Return a live view of the content of a zone. Raises KeyError for an unknown zone."""
        if origin not in self.origins:
            raise KeyError(origin)
        return LiveContent(
            lambda name: self.get(name) if self.origin(name) == origin else (),
            lambda: self._walk(origin),
            lambda: self._size(origin),
        )

    def problems(self) -> list[Problem]:
        """Return the requests that are not fulfilled, one problem each."""
        found = [Problem(uuid, text) for uuid, texts in self._refused.items() for text in texts]
        found += [Problem("", text) for text in rrsets.proxies(self._proxies)[1]]
        if not self._proxy_records:
            found.append(Problem("", f"no proxy with an address is alive for {self._cmon}"))
        for account in self._accounts.values():
            found += of_account(account, self._labels)
        for entry in self._pointing.values():
            if self._pointers and not self._may_point(entry):
                text = f"reverse_ptr: expected a name below those of its account, got {shown(entry.pointer)}"
                found.append(Problem(entry.uuid, text))
        for claims in self._pointers.values():
            for name, entry, holder in claims.losers():
                text = f"{name} is the address of {holder.uuid} too, which has the PTR record"
                found.append(Problem(entry.uuid, text))
        return found

    # Updates.

    def update(
        self,
        changed: Iterable[Instance] = (),
        removed: Iterable[str] = (),
        *,
        nodes: Iterable[str] | None = None,
        proxies: tuple[Proxy, ...] | None = None,
    ) -> Collection[str]:
        """Apply changes and return the names whose records have changed.

        changed: instances that are new or have changed. removed: UUIDs of instances that are gone. nodes, proxies: the
        complete new set, None if unchanged. The names are unique, and the names of one service are adjacent.
        """
        for uuid in removed:
            self._refused.pop(uuid, None)
            entry = self._entries.get(uuid)
            if entry is not None:
                self._withdraw(entry)
        found: dict[str, Entry] = {}
        for instance in changed:
            entry, problems = made(instance)
            found[entry.uuid] = entry
            if problems:
                self._refused[entry.uuid] = problems
            else:
                self._refused.pop(entry.uuid, None)
        for entry in found.values():
            before = self._entries.get(entry.uuid)
            if before is not None:
                if before == entry:
                    continue
                self._withdraw(before)
            self._enter(entry)
        if nodes is not None:
            now = frozenset(nodes)
            self._touch(uuid + self._below_cmon for uuid in now ^ self._nodes)
            self._nodes = now
        if proxies is not None:
            self._touch((self._cmon, *self.origins))
            self._proxies = proxies
            self._proxy_records = rrsets.proxies(proxies)[0]
        if not self._before:
            return {}.keys()
        touched, self._before = self._before, {}
        return dict.fromkeys(self._changed_names(touched)).keys()

    def _changed_names(self, touched: dict[str, tuple[Record, ...] | rrsets.Service]) -> Iterator[str]:
        """Yield the names whose records differ from what they were. touched: name -> its records before."""
        service: rrsets.Service | None = None
        records: tuple[Record, ...] = ()
        for name, was in touched.items():
            if not isinstance(was, rrsets.Service):
                before = was
            elif was is service:  # the same service under another label of its account
                before = records
            else:
                service, before = was, was.records()
                records = before
            if self.get(name) != before:
                yield name

    def _touch(self, names: Iterable[str]) -> None:
        """Store the current records of names. To be called before a change that may affect them."""
        before = self._before
        if before is not None:
            for name in names:
                if name not in before:
                    before[name] = self._service(name) or self.get(name)

    def _service(self, name: str) -> rrsets.Service | None:
        """Return the service with a name, None if the name is not a service. It takes less memory than its records."""
        label, _, rest = name.partition(".svc.")
        account = self._labels.get(rest.removesuffix(self._suffix)) if rest else None
        members = account.services.get(label) if account is not None else None
        if account is None or members is None:
            return None
        if self._kept is None or self._kept[0] is not members:
            self._kept = members, rrsets.Service(label, tuple(members), account.members)
        return self._kept[1]

    def _enter(self, entry: Entry) -> None:
        account = self._count_in_account(entry) if entry.account else None
        if self._before is not None:
            self._touch_entry(entry, account)
        self._entries[entry.uuid] = entry
        self._last = self._kept = None
        self._changes += 1
        if account is None:
            return
        if entry.alias:
            account.aliases.add(entry.alias, entry)
        for service in entry.services.labels:
            if self._before is None:
                account.services.setdefault(service, []).append(entry)
            else:
                account.join(service, entry)
        if entry.pointer:
            self._pointing[entry.uuid] = entry
        if self._pointers:
            for origin, pointer in self._reverse.places(entry.addresses):
                self._pointers[origin].add(pointer, entry)

    def _count_in_account(self, entry: Entry) -> Account:
        """Count an instance in its account, which is created if needed, and return the account."""
        account = self._accounts.get(entry.account)
        if account is None:
            account = self._accounts[entry.account] = self._labels[entry.account] = Account(entry.account, self.zone)
        name = entry.account_name
        if name in account.names:
            account.names[name] += 1
        else:
            self._count_name(account, name, 1)
        account.size += 1
        return account

    def _withdraw(self, entry: Entry) -> None:
        account = self._accounts.get(entry.account)
        if self._before is not None:
            self._touch_entry(entry, account)
        del self._entries[entry.uuid]
        self._pointing.pop(entry.uuid, None)
        self._last = self._kept = None
        self._changes += 1
        if account is None:
            return
        if entry.alias:
            account.aliases.remove(entry.alias, entry)
        for service in entry.services.labels:
            account.leave(service, entry)
        for origin, pointer in self._reverse.places(entry.addresses):
            self._pointers[origin].remove(pointer, entry)
        account.size -= 1
        self._count_name(account, entry.account_name, -1)
        if not account.size:
            del self._accounts[account.uuid], self._labels[account.uuid]

    def _touch_entry(self, entry: Entry, account: Account | None) -> None:
        """Touch all names that an instance holds or claims."""
        uuid = entry.uuid
        self._touch((uuid + self._below_cmon,))
        if account is None:
            return
        self._touch(uuid + suffix for suffix in account.inst)
        self._touch(name for _, name in self._reverse.places(entry.addresses))
        self._touch(name + suffix for name in entry.services.labels for suffix in account.svc)
        if entry.alias:
            self._touch(entry.alias + suffix for suffix in account.inst)
            for other in account.aliases.first(entry.alias):  # PTR records depend on which instance holds the alias
                self._touch(name for _, name in self._reverse.places(other.addresses))

    def _count_name(self, account: Account, name: str, by: int) -> None:
        """Change the number of instances that state this account name. by: 1 or -1."""
        count = account.names.get(name, 0)
        account.names[name] = count + by
        if not count + by:
            del account.names[name]
        if bool(count) == bool(count + by):
            return
        made = account_label(name)
        if not made:
            return
        claimants = self._claimants.setdefault(made, {})
        before = self._labels.get(made)
        after = dict(claimants)
        after[account] = after.get(account, 0) + by
        if not after[account]:
            del after[account]
        holder = least(after, made)
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
        """Touch all names that accounts have under a label, and the PTR records that point to them."""
        if self._before is None or not any(account.size for account in accounts):
            return
        inst, svc = f".inst.{under}.{self.zone}", f".svc.{under}.{self.zone}"
        for account in accounts:
            self._touch(name + svc for name in account.services)
            self._touch(name + inst for name in account.aliases)
        labels = {account.uuid for account in accounts}
        for entry in self._entries.values():
            if entry.account in labels:
                self._touch((entry.uuid + inst,))
                self._touch(name for _, name in self._reverse.places(entry.addresses))

    # The records.

    def _apex(self) -> tuple[Record, ...]:
        servers = self._name_servers or ((self._cmon,) if self._proxy_records else (rrsets.NOWHERE,))
        return rrsets.apex(self.zone, servers)

    def _owned(self, account: Account, kind: str, name: str) -> tuple[Record, ...]:
        if kind == "inst":
            entry = account.aliases.get(name) or self._entries.get(name)
            return rrsets.instance(entry) if entry is not None and entry.account == account.uuid else ()
        members = account.services.get(name) if kind == "svc" else None
        if members is None:
            return ()
        # The same service is often asked for again under another label of its account.
        if self._last is None or self._last[0] is not members:
            self._last = members, rrsets.service(name, members, account.members)[0]
        return self._last[1]

    def _pointer(self, name: str) -> tuple[Record, ...]:
        origin = self.origin(name)
        entry = self._pointers[origin].get(name) if origin is not None else None
        return self._pointer_to(entry) if entry is not None else ()

    def _pointer_to(self, entry: Entry) -> tuple[Record, ...]:
        name = entry.pointer if entry.pointer and self._may_point(entry) else self._shortest(entry)
        return (Record("PTR", rrsets.TTL_SECONDS, name),)

    def _may_point(self, entry: Entry) -> bool:
        """Return whether the requested PTR target is below a name of the account or allowed by the operator."""
        names, suffixes = self._allowed
        pointer = entry.pointer
        return pointer in names or pointer.endswith(suffixes) or self._accounts[entry.account].has_below(pointer)

    def _shortest(self, entry: Entry) -> str:
        """Return the shortest name that an instance holds."""
        account = self._accounts[entry.account]
        has_alias = len(entry.alias) <= len(entry.uuid) and account.aliases.get(entry.alias) is entry
        return (entry.alias if has_alias else entry.uuid) + account.shortest

    # Whole zones.

    def _walk(self, origin: str) -> Iterator[Group]:
        """Yield all names of a zone with their records, the zone's own name first.

        The zone may change during the walk, so each entry is looked up again just before it is yielded.
        """
        yield (origin,), WHOLE, self._apex()
        if origin != self.zone:
            pointers = self._pointers[origin]
            for name in tuple(pointers):
                entry = pointers.get(name)
                if entry is not None:
                    yield (name,), WHOLE, self._pointer_to(entry)
            return
        if self._proxy_records:
            yield (self._cmon,), WHOLE, self._proxy_records
        yield self._nodes.difference(self._entries), (self._below_cmon,), self._cname
        yield tuple(self._entries), (self._below_cmon,), self._cname
        entries, accounts, changes = self._entries, self._accounts, self._changes
        for known in tuple(entries.values()):
            entry = known if self._changes == changes else entries.get(known.uuid)
            account = accounts.get(entry.account) if entry is not None else None
            if entry is None or account is None:
                continue
            uuid, alias, aliases = entry.uuid, entry.alias, account.aliases
            has_alias = alias and (alias not in aliases.rivals or aliases[alias] is entry)
            yield (uuid, alias) if has_alias else (uuid,), account.inst, rrsets.instance(entry)
        for account in tuple(accounts.values()):
            for name in tuple(account.services):
                members = account.services.get(name)
                if members:
                    yield (name,), account.svc, rrsets.service(name, members, account.members)[0]

    def _size(self, origin: str) -> int:
        """Return the number of names in a zone."""
        if origin != self.zone:
            return 1 + len(self._pointers[origin])
        owned = sum(
            len(account.labels) * (account.size + len(account.aliases) + len(account.services))
            for account in self._accounts.values()
        )
        nodes = sum(uuid not in self._entries for uuid in self._nodes)
        return 1 + bool(self._proxy_records) + nodes + len(self._entries) + owned
