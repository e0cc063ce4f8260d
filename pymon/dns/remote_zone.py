"""One zone of another DNS server, made to have our records by UPDATE messages. Its calls block: run it in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain

import dns.rcode

from pymon.dns import update_plan
from pymon.dns.exchange import ExchangeError, Peer, TransferRefusedError, failed
from pymon.dns.rrsets import Record
from pymon.dns.update_plan import Change, Found, Rrsets

MAX_REFUSALS = 8
"""Refused names in a row after which a check is made whether the server refuses everything."""

_PREREQUISITE = frozenset({dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN, dns.rcode.NXRRSET, dns.rcode.YXRRSET})
_ABOUT_A_RECORD = frozenset({dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTZONE})
_FORWARD = ("A", "AAAA", "SRV", "TXT")
_REVERSE = ("PTR",)


class RemoteZone:
    """What is ours there, and how it becomes something else.

    holder: the name of this proxy as written in the zone. go_on: raises an exception if nothing more may be sent. ours:
    name -> our records there. foreign: wanted names that belong to another owner. refused: name -> reason, of names
    that the server does not accept. by_transfer: whether the zone is read by AXFR, None before the first read. claimed:
    this proxy has written its term into the zone.
    """

    def __init__(self, peer: Peer, origin: str, owner: str, holder: str, go_on: Callable[[], None]) -> None:
        self.origin = origin
        self.ours: dict[str, Rrsets] = {}
        self.foreign: set[str] = set()
        self.refused: dict[str, str] = {}
        self.by_transfer: bool | None = None
        self.claimed = False
        self.updates = 0
        """UPDATE messages that the server has carried out."""
        self._peer = peer
        self._owner = owner
        self._holder = holder
        self._go_on = go_on
        self._refusals = 0

    def reconcile(self, wanted: Mapping[str, Rrsets], also: Iterable[str] = (), *, removes: bool = True) -> None:
        """Read the zone and change it to `wanted`. Raises ExchangeError.

        also: further names that may exist there. They are queried one by one if the server does not allow transfers.
        removes: also remove names and records, not only add.
        """
        if not self.claimed:
            self._claim()
            self.claimed = True
        found = self._read(chain(wanted, self.ours, also))
        self._check_term(found.term)
        self.ours = found.ours
        self.refused = {}
        planned = update_plan.plan(self.origin, wanted, found.ours, found.others)
        self.foreign = set(planned.foreign)
        self._send(planned.changes if removes else self._only_adding(planned.changes))
        self.refused |= dict.fromkeys(planned.unfit, "too long for a mark beside it")

    def apply(self, changed: Mapping[str, Rrsets], *, removes: bool = True) -> None:
        """Make these the records of these names. Raises ExchangeError: then it is to be reconciled.

        removes: also remove names and records, not only add.
        """
        planned = update_plan.plan(self.origin, changed, self.ours, self.foreign, names=changed)
        for name in changed:
            self.refused.pop(name, None)
            if not changed[name]:
                self.foreign.discard(name)
        self._send(planned.changes if removes else self._only_adding(planned.changes))
        self.refused |= dict.fromkeys(planned.unfit, "too long for a mark beside it")

    def _only_adding(self, changes: Iterable[Change]) -> Iterator[Change]:
        """Return the changes without removals, except for the proxies' own name, of which everything is known."""
        return update_plan.only_adding(changes, self.ours, (f"cmon.{self.origin}",))

    def check(self) -> None:
        """Check that the server answers and that no other proxy has taken over. Raises ExchangeError if not."""
        self._go_on()
        self._check_term(self._term())

    def _claim(self) -> None:
        self._go_on()
        message = update_plan.claim(self.origin, self._owner, self._holder, self._peer.key)
        rcode = self._peer.exchange(message).rcode()
        if rcode != dns.rcode.NOERROR:
            raise failed(rcode, f"update of {self.origin}")

    def _term(self) -> str:
        found = self._peer.query(update_plan.term_name(self._owner, self.origin), "TXT")
        return found[0].data if len(found) == 1 else ""

    def _check_term(self, found: str) -> None:
        if found != update_plan.term(self._owner, self._holder):
            self.claimed = False
            who = f"expected {self._holder} to register in {self.origin}"
            raise ExchangeError("deposed", f"{who}, got {found or 'nobody'}")

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, names: Iterable[str]) -> Found:
        try:
            with closing(self._peer.transfer(self.origin)) as records:
                found = update_plan.sort_out(self.origin, self._owner, self._while_going_on(records))
            self.by_transfer = True
        except TransferRefusedError:
            self.by_transfer = False
            ours = {}
            for name in {*names} - {self.origin}:
                self._go_on()
                records_there = self._look(name)
                if records_there is not None:
                    ours[name] = records_there
            found = Found(ours, set(), self._term())
        return found

    def _while_going_on(self, records: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
        for number, record in enumerate(records):
            if number % 1000 == 0:
                self._go_on()
            yield record

    def _look(self, name: str) -> Rrsets | None:
        """The records of a name, None when it does not have our mark."""
        marks = [record.data for record in self._peer.query(update_plan.marker(name), "TXT")]
        if marks != [update_plan.mark(self._owner)]:
            return None
        found: Rrsets = ()
        for kind in _REVERSE if self.origin.endswith("arpa.") else _FORWARD:
            found += tuple(self._peer.query(name, kind))
            if any(record.type == "CNAME" for record in found):
                break
        return found

    # --- sending ---------------------------------------------------------------------------------

    def _send(self, changes: Iterable[Change]) -> None:
        self._refusals = 0
        for batch in update_plan.batches(changes):
            pending = [batch]
            while pending:
                part = pending.pop()
                if not self._sent(part):
                    middle = len(part) // 2
                    pending += (part[middle:], part[:middle])

    def _sent(self, batch: list[Change]) -> bool:
        """Send a batch. Returns False if it must be sent again in two parts. Raises ExchangeError."""
        rcode = self._update(batch)
        if rcode == dns.rcode.NOERROR:
            self._refusals = 0
            return True
        if rcode not in _PREREQUISITE | _ABOUT_A_RECORD:
            raise failed(rcode, f"update of {self.origin}")
        if len(batch) > 1:
            return False
        if rcode in _PREREQUISITE:
            self._resolve(batch[0])
            return True
        self._refusals += 1
        if self._refusals > MAX_REFUSALS:
            self._check_term(self._term())
            self._claim()
            self._refusals = 0
        self.refused[batch[0].name] = f"the server answers {dns.rcode.to_text(rcode)}"
        return True

    def _update(self, batch: list[Change]) -> dns.rcode.Rcode:
        self._go_on()
        message = update_plan.update(self.origin, self._owner, self._holder, batch, self._peer.key)
        rcode = self._peer.exchange(message).rcode()
        if rcode == dns.rcode.NOERROR:
            self.updates += 1
            for change in batch:
                if change.wanted:
                    self.ours[change.name] = change.wanted
                else:
                    self.ours.pop(change.name, None)
        return rcode

    def _resolve(self, change: Change) -> None:
        """Handle a failed prerequisite: read the name, try once more, else treat it as another owner's."""
        self._check_term(self._term())
        name = change.name
        there = self._look(name)
        self.ours.pop(name, None)
        if there is not None:
            self.ours[name] = there
        wanted = {name: change.wanted} if change.wanted else {}
        again = update_plan.plan(self.origin, wanted, self.ours, names=(name,)).changes
        if again and again != [change] and self._update(again) == dns.rcode.NOERROR:
            return
        if again:
            self.ours.pop(name, None)
            if change.wanted:
                self.foreign.add(name)
