"""What has to change in another server so that it has our records: pure.

A name is ours when the TXT record of the mark is at ``_pymon.NAME``. The name itself cannot carry it: nothing stands
beside a CNAME, and a TXT record of the content would have to be told from it. The mark is added and removed in the same
message as the name's records, which a server does wholly or not at all (RFC 2136 §3.4), and what a message needs is
among its prerequisites (§2.4), which the server tests at that moment, whoever else writes there:

    a new name       nothing is at NAME, no TXT record at _pymon.NAME
    one of ours      _pymon.NAME has the mark and nothing else
    every message    OWNER._pymon.ZONE has the term of who registers: what a predecessor still sends is refused

The names of a zone's own server, SOA and NS, are whoever runs it's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, TypeAlias

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from pymon.dns.names import inside
from pymon.dns.rrsets import TTL_SECONDS, Record

MARK_LABEL = "_pymon"
TYPES = ("A", "AAAA", "CNAME", "PTR", "SRV", "TXT")
"""What is registered. Records of other types at a name of ours are left alone."""

BATCH_BYTES = 24_000
"""Of a message, about: where no name can be compressed it is twice that, and a message has 64 KiB."""

BATCH_CHANGES = 200

_MAX_NAME_CHARACTERS = 254
_RECORD_BYTES = 16
"""Of a record beside its name and its data."""

_BESIDE = 4
"""Records of a change that are not of its name: prerequisites and the mark."""

Rrsets: TypeAlias = tuple[Record, ...]
"""All records of one name."""


class Change(NamedTuple):
    """What becomes of one name. owned: whether it is ours before; wanted: what it has then, nothing when it goes."""

    name: str
    owned: bool
    cleared: tuple[str, ...] = ()
    removed: Rrsets = ()
    added: Rrsets = ()
    wanted: Rrsets = ()

    @property
    def size_bytes(self) -> int:
        """What it adds to a message, about: names after the first are a label and a pointer."""
        records = sum(len(record.data) for record in (*self.removed, *self.added))
        count = len(self.cleared) + len(self.removed) + len(self.added) + _BESIDE
        return len(self.name) + records + count * (_RECORD_BYTES + self.name.index("."))


class Plan(NamedTuple):
    """changes: in an order that first takes away. foreign: wanted names that are somebody else's. unfit: wanted names
    that are too long for a mark.
    """

    changes: list[Change]
    foreign: list[str]
    unfit: list[str]


def marker(name: str) -> str:
    """Where the mark of a name is."""
    return f"{MARK_LABEL}.{name}"


def mark(owner: str) -> str:
    """The data of the mark."""
    return f'"heritage=pymon,owner={owner}"'


def term_name(owner: str, origin: str) -> str:
    """Where the one who registers in a zone says so."""
    return f"{owner}.{MARK_LABEL}.{origin}"


def term(owner: str, holder: str) -> str:
    """The data there."""
    return f'"heritage=pymon,owner={owner},term={holder}"'


class Found(NamedTuple):
    """What a server has. ours: records of marked names. others: names in use without our mark. term: data of that."""

    ours: dict[str, Rrsets]
    others: set[str]
    term: str


def sort_out(origin: str, owner: str, records: Iterable[tuple[str, Record]]) -> Found:
    """All records of a zone, apart by whose they are. Types that are not registered count only as a name in use."""
    at: dict[str, list[Record]] = {}
    marks: dict[str, list[str]] = {}
    own_term = term_name(owner, origin)
    terms = []
    prefix = f"{MARK_LABEL}."
    for name, record in records:
        if name == own_term and record.type == "TXT":  # where a zone is signed there are RRSIG and NSEC beside it
            terms.append(record.data)
        elif name.startswith(prefix) and record.type == "TXT":
            marks.setdefault(name.removeprefix(prefix), []).append(record.data)
        else:
            at.setdefault(name, []).append(record)
    expected = [mark(owner)]
    ours = {name: _registered(at.pop(name, ())) for name, data in marks.items() if data == expected}
    return Found(ours, {*at, *(marks.keys() - ours.keys())} - {origin}, terms[0] if len(terms) == 1 else "")


def _registered(records: Iterable[Record]) -> Rrsets:
    return tuple(record for record in records if record.type in TYPES)


def plan(
    origin: str,
    wanted: Mapping[str, Rrsets],
    ours: Mapping[str, Rrsets],
    others: Iterable[str] = (),
    *,
    names: Iterable[str] | None = None,
) -> Plan:
    """The differences between what is wanted in a zone and what the server has, of all names or of some. A name may be
    wanted to have nothing.
    """
    considered = chain((name for name in ours if name not in wanted), wanted) if names is None else names
    found = Plan([], [], [])
    foreign = frozenset(others)
    for name in considered:
        if name == origin or not inside(name, origin):
            continue
        has = ours.get(name)
        wants = wanted.get(name, ())
        if has is None and not wants:
            continue
        if has is None and name in foreign:
            found.foreign.append(name)
        elif has is None and len(marker(name)) > _MAX_NAME_CHARACTERS:
            found.unfit.append(name)
        elif has is None:
            found.changes.append(Change(name, owned=False, added=wants, wanted=wants))
        elif not wants:
            found.changes.append(Change(name, owned=True, cleared=tuple(sorted({record.type for record in has}))))
        elif set(has) != set(wants):
            found.changes.append(_change(name, has, wants))
    return found


def _change(name: str, has: Rrsets, wants: Rrsets) -> Change:
    """Record by record; a whole set where that takes fewer, or its TTL, which all of it have in common, is another."""
    cleared: list[str] = []
    removed: list[Record] = []
    added: list[Record] = []
    for kind in dict.fromkeys(record.type for record in (*has, *wants)):
        old = {record for record in has if record.type == kind}
        new = dict.fromkeys(record for record in wants if record.type == kind)
        gone = old - new.keys()
        kept = old & new.keys()
        if gone and (len(gone) > len(kept) or {record.ttl for record in old} != {record.ttl for record in new}):
            cleared.append(kind)
            added += new
        else:
            removed += sorted(gone)
            added += (record for record in new if record not in kept)
    return Change(name, True, tuple(cleared), tuple(removed), tuple(added), wants)


def batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """The changes of one message after another."""
    batch: list[Change] = []
    size = 0
    for change in changes:
        if batch and (size + change.size_bytes > BATCH_BYTES or len(batch) == BATCH_CHANGES):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += change.size_bytes
    if batch:
        yield batch


def claim(origin: str, owner: str, holder: str, key: dns.tsig.Key) -> dns.update.UpdateMessage:
    """The message after which only those of this holder are done."""
    message = dns.update.UpdateMessage(_name(origin), keyring=key)
    at = _name(term_name(owner, origin))
    message.delete(at, "TXT")
    message.add(at, TTL_SECONDS, _rdata("TXT", term(owner, holder)))
    return message


def update(
    origin: str, owner: str, holder: str, changes: Iterable[Change], key: dns.tsig.Key
) -> dns.update.UpdateMessage:
    """The message of a batch."""
    message = dns.update.UpdateMessage(_name(origin), keyring=key)
    marked = _rdata("TXT", mark(owner))
    message.present(_name(term_name(owner, origin)), _rdata("TXT", term(owner, holder)))
    for change in changes:
        name, beside = dns.name.from_text(change.name), dns.name.from_text(marker(change.name))
        if change.owned:
            message.present(beside, marked)
        else:
            message.absent(name)
            message.absent(beside, "TXT")
        # First what goes: a server silently ignores a record that cannot stand beside one that is there.
        for kind in change.cleared:
            message.delete(name, kind)
        for record in change.removed:
            message.delete(name, _rdata(record.type, record.data))
        for record in change.added:
            message.add(name, record.ttl, _rdata(record.type, record.data))
        if not change.wanted:
            message.delete(beside, "TXT")
        elif not change.owned:
            message.add(beside, TTL_SECONDS, marked)
    return message


@lru_cache(64)
def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


@lru_cache(4096)
def _rdata(type: str, data: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(type), data, relativize=False)
