"""UPDATE messages and what has to be in them so that another server has our records. Pure.

A name is ours if ``_pymon.NAME`` has a TXT record with our mark. The mark is not at the name itself, because no other
record may stand beside a CNAME, and because a mark there could be confused with TXT records of the content. The mark
and the records of a name are added and removed in one message, which a server carries out completely or not at all
(RFC 2136 §3.4). Each message has prerequisites (§2.4), which the server tests at the same moment:

    a new name       NAME does not exist, _pymon.NAME has no TXT record
    one of ours      _pymon.NAME has the mark and no other TXT record
    every message    OWNER._pymon.ZONE has the term of the current holder, so updates of a previous holder are refused

The zone's own name, with SOA and NS, belongs to the operator of the server and is never changed.
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
"""The record types that are registered. Other types at our names are left alone."""

BATCH_BYTES = 24_000
"""Approximate limit for one message. Without name compression it doubles, and the limit of DNS is 64 KiB."""

BATCH_CHANGES = 200

_MAX_NAME_CHARACTERS = 254
_RECORD_BYTES = 16
"""Size of a record without its name and data."""

_BESIDE = 4
"""Records of a change that are not at its name: prerequisites and the mark."""

Rrsets: TypeAlias = tuple[Record, ...]
"""All records of one name."""


class Change(NamedTuple):
    """A change of one name.

    owned: the name is ours before the change. cleared: types of which all records are removed. removed, added: single
    records. wanted: all records after the change, () if the name is removed.
    """

    name: str
    owned: bool
    cleared: tuple[str, ...] = ()
    removed: Rrsets = ()
    added: Rrsets = ()
    wanted: Rrsets = ()

    @property
    def size_bytes(self) -> int:
        """Approximate size in a message. After the first, a name takes one label and a compression pointer."""
        records = sum(len(record.data) for record in (*self.removed, *self.added))
        count = len(self.cleared) + len(self.removed) + len(self.added) + _BESIDE
        return len(self.name) + records + count * (_RECORD_BYTES + self.name.index("."))


class Plan(NamedTuple):
    """The changes of a zone, removals first, and the wanted names that cannot be registered.

    foreign: names that belong to another owner. unfit: names that are too long for a mark.
    """

    changes: list[Change]
    foreign: list[str]
    unfit: list[str]


def marker(name: str) -> str:
    """Return the name at which the mark of a name is stored."""
    return f"{MARK_LABEL}.{name}"


def mark(owner: str) -> str:
    """Return the TXT data of the mark."""
    return f'"heritage=pymon,owner={owner}"'


def term_name(owner: str, origin: str) -> str:
    """Return the name at which the term of a zone is stored."""
    return f"{owner}.{MARK_LABEL}.{origin}"


def term(owner: str, holder: str) -> str:
    """Return the TXT data of the term."""
    return f'"heritage=pymon,owner={owner},term={holder}"'


class Found(NamedTuple):
    """The content of a zone at a server.

    ours: marked name -> its records. others: names in use without our mark. term: TXT data of the term, "" if there is
    none or more than one.
    """

    ours: dict[str, Rrsets]
    others: set[str]
    term: str


def sort_out(origin: str, owner: str, records: Iterable[tuple[str, Record]]) -> Found:
    """Split all records of a zone by owner. A record of a type that is not registered only marks its name as in use."""
    at: dict[str, list[Record]] = {}
    marks: dict[str, list[str]] = {}
    own_term = term_name(owner, origin)
    terms = []
    prefix = f"{MARK_LABEL}."
    for name, record in records:
        if name == own_term and record.type == "TXT":  # a signed zone also has RRSIG and NSEC records here
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
    """Return the changes from what the server has to what is wanted.

    wanted: name -> records, () to remove the name. ours: name -> our records at the server. others: names of other
    owners. names: the names to compare, None for all.
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
    """Return the change of a name that is ours.

    Records change one by one. A whole record set is replaced if that takes fewer records or its TTL changes, since all
    records of a set have one TTL.
    """
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


def only_adding(
    changes: Iterable[Change], ours: Mapping[str, Rrsets], except_for: Iterable[str] = ()
) -> Iterator[Change]:
    """Yield the changes without their removals: names stay, and so do records beside added ones.

    ours: name -> our records at the server. except_for: names that are changed as planned.
    """
    whole = frozenset(except_for)
    for change in changes:
        has = ours.get(change.name, ())
        if change.name in whole or not has:
            yield change
        elif added := tuple(record for record in change.added if record not in has):
            if any("CNAME" in (record.type, other.type) for record in added for other in has):
                continue  # it would have to replace what is there
            yield Change(change.name, True, added=added, wanted=(*has, *added))


def batches(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Yield the changes in batches, one for each message."""
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
    """Return the message that writes the term. After it, the server carries out only updates of this holder."""
    message = dns.update.UpdateMessage(_name(origin), keyring=key)
    at = _name(term_name(owner, origin))
    message.delete(at, "TXT")
    message.add(at, TTL_SECONDS, _rdata("TXT", term(owner, holder)))
    return message


def update(
    origin: str, owner: str, holder: str, changes: Iterable[Change], key: dns.tsig.Key
) -> dns.update.UpdateMessage:
    """Return the message for a batch of changes."""
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
        # Remove first: a server silently ignores an added record that conflicts with an existing one.
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
