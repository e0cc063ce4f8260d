"""One zone at one server as it is registered there. Blocks: for a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain

import dns.rcode

from pymon.dns import registration
from pymon.dns.exchange import ExchangeError, Peer, TransferRefusedError, failed
from pymon.dns.registration import Change, Found, Rrsets
from pymon.dns.rrsets import Record

MAX_REFUSALS = 8
"""Of names one after the other, before it is asked whether the server refuses everything."""

_PREREQUISITE = frozenset({dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN, dns.rcode.NXRRSET, dns.rcode.YXRRSET})
_ABOUT_A_RECORD = frozenset({dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTZONE})
_FORWARD = ("A", "AAAA", "SRV", "TXT")
_REVERSE = ("PTR",)


class RegisteredZone:
    """What is ours there, and how it becomes something else.

    holder: who registers, as it stands in the zone. go_on: raises where no more is to be sent. ours: records by name.
    foreign: wanted names that are somebody else's. refused: names the server does not take, with its reason.
    by_transfer: how the zone is read; None before it was.
    """

    def __init__(self, peer: Peer, origin: str, owner: str, holder: str, go_on: Callable[[], None]) -> None:
        self.origin = origin
        self.ours: dict[str, Rrsets] = {}
        self.foreign: set[str] = set()
        self.refused: dict[str, str] = {}
        self.by_transfer: bool | None = None
        self.claimed = False
        self.updates = 0
        """Messages that were done."""
        self._peer = peer
        self._owner = owner
        self._holder = holder
        self._go_on = go_on
        self._refusals = 0

    def reconcile(self, wanted: Mapping[str, Rrsets], also: Iterable[str] = ()) -> None:
        """Read what is there and make it what is wanted. Raises ExchangeError.

        also: names that may be there too, for a server that gives no transfers: what it has cannot be asked.
        """
        if not self.claimed:
            self._claim()
            self.claimed = True
        found = self._read(chain(wanted, self.ours, also))
        self._check_term(found.term)
        self.ours = found.ours
        self.refused = {}
        planned = registration.plan(self.origin, wanted, found.ours, found.others)
        self.foreign = set(planned.foreign)
        self._send(planned.changes)
        self.refused |= dict.fromkeys(planned.unfit, "too long for a mark beside it")

    def apply(self, changed: Mapping[str, Rrsets]) -> None:
        """Make these the records of these names. Raises ExchangeError: then it is to be reconciled."""
        planned = registration.plan(self.origin, changed, self.ours, self.foreign, names=changed)
        for name in changed:
            self.refused.pop(name, None)
            if not changed[name]:
                self.foreign.discard(name)
        self._send(planned.changes)
        self.refused |= dict.fromkeys(planned.unfit, "too long for a mark beside it")

    def check(self) -> None:
        """Whether the server is there and nobody else has taken over. Raises ExchangeError."""
        self._go_on()
        self._check_term(self._term())

    def _claim(self) -> None:
        self._go_on()
        message = registration.claim(self.origin, self._owner, self._holder, self._peer.key)
        rcode = self._peer.exchange(message).rcode()
        if rcode != dns.rcode.NOERROR:
            raise failed(rcode, f"update of {self.origin}")

    def _term(self) -> str:
        found = self._peer.query(registration.term_name(self._owner, self.origin), "TXT")
        return found[0].data if len(found) == 1 else ""

    def _check_term(self, found: str) -> None:
        if found != registration.term(self._owner, self._holder):
            self.claimed = False
            who = f"expected {self._holder} to register in {self.origin}"
            raise ExchangeError("deposed", f"{who}, got {found or 'nobody'}")

    # --- reading ---------------------------------------------------------------------------------

    def _read(self, names: Iterable[str]) -> Found:
        try:
            with closing(self._peer.transfer(self.origin)) as records:
                found = registration.sort_out(self.origin, self._owner, self._while_going_on(records))
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
        marks = [record.data for record in self._peer.query(registration.marker(name), "TXT")]
        if marks != [registration.mark(self._owner)]:
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
        for batch in registration.batches(changes):
            pending = [batch]
            while pending:
                part = pending.pop()
                if not self._sent(part):
                    middle = len(part) // 2
                    pending += (part[middle:], part[:middle])

    def _sent(self, batch: list[Change]) -> bool:
        """Whether nothing of it is left to do; else it is to be sent in two parts. Raises ExchangeError."""
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
        message = registration.update(self.origin, self._owner, self._holder, batch, self._peer.key)
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
        """A prerequisite failed: see what is there, try once more, else the name is somebody else's."""
        self._check_term(self._term())
        name = change.name
        there = self._look(name)
        self.ours.pop(name, None)
        if there is not None:
            self.ours[name] = there
        wanted = {name: change.wanted} if change.wanted else {}
        again = registration.plan(self.origin, wanted, self.ours, names=(name,)).changes
        if again and again != [change] and self._update(again) == dns.rcode.NOERROR:
            return
        if again:
            self.ours.pop(name, None)
            if change.wanted:
                self.foreign.add(name)
