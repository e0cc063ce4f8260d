"""The expositions of many containers as one: every sample of all of them, or their sums.

A part is what an agent writes for one container in the text format 0.0.4: families of HELP, TYPE and at least one
sample, of the types counter, gauge and untyped, with plain decimal numbers and no time stamps. It is read strictly,
because Prometheus refuses the whole of an exposition for one line that it does not like. Families come in the order in
which they are first seen, with the HELP that is first seen; one that parts give different types is untyped. Pure.

A part costs some 100 µs for 4 KB: give parts to a `Merger` or an `Adder` as they come.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Literal, NamedTuple

from pymon.config import shown

By = Literal["service", "group", "node"]


class Part(NamedTuple):
    """What an agent said of one container. node: the node's name; services, groups: what the container belongs to."""

    uuid: str
    node: str
    body: bytes
    services: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class InvalidPartError(ValueError):
    """A part that would spoil the exposition. `uuid` is the container's, and the message has it."""

    def __init__(self, uuid: str, problem: str) -> None:
        super().__init__(f"container {uuid}: {problem}")
        self.uuid = uuid


# A quantifier is possessive only where one character repeats: before CPython 3.11.5 groups that are lose matches.
_VALUE = rb'"[^"\\\n\0]*+(?:\\[\\"n][^"\\\n\0]*+)*"'
_LABEL = rb"(?!__)[a-zA-Z_][a-zA-Z0-9_]*+=" + _VALUE
_FAMILY = re.compile(
    rb"# HELP (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*+) (?P<help>[^\\\n\0]*+(?:\\[\\n][^\\\n\0]*+)*)\n"
    rb"# TYPE (?P=name) (?P<kind>counter|gauge|untyped)"
    rb"(?P<samples>(?:\n(?P=name)(?:\{(?:%b(?:,%b)*)?,?\})? -?[0-9]{1,40}+(?:\.[0-9]{1,40}+)?)+)\n" % (_LABEL, _LABEL)
)
"""A family; each of its samples has its line end before it."""

_LABELS = re.compile(rb"\n[^#{\n][^{\n]*+\{(.*)\} ")
_LABEL_NAMES = re.compile(rb"([^,=]++)=" + _VALUE)
_SAMPLES = re.compile(rb"\n[^{ ]++(?:\{(.*)\})? (.*)")

_PER_CONTAINER = re.compile(rb"id|image|name|container_label_.*")
"""Labels that say which container it is."""

_NOT_ADDITIVE = re.compile(
    rb".*_(?:info|timestamp|time_seconds|last_seen|ratio|percent|percentage)"  # constants, times of day, shares
    rb"|(?:.*_)?(?:limit|max|min|baseline)(?:_.*)?"  # settings and peaks
    rb"|container_(?:spec|ulimits)_.*"
    rb"|container_(?:health_state|memory_migrate)"
    rb"|time_of_day"
)
"""Gauges of which a sum says nothing."""

_SETTINGS_OF_TCP = frozenset(b'tcp_state="%b"' % name for name in (b"rtoalgorithm", b"rtomin", b"rtomax", b"maxconn"))

_EXACT = Context(prec=200)
"""More digits than a sum of as many numbers as there can be has."""


class _Family(NamedTuple):
    name: bytes
    help: bytes
    kind: bytes
    samples: bytes


class _Merged:
    """A family of the answer."""

    __slots__ = ("help", "kind", "samples", "sums")

    def __init__(self, family: _Family) -> None:
        self.help = family.help
        self.kind = family.kind
        self.samples: list[bytes] = []
        self.sums: dict[bytes, Decimal] = {}


class _Exposition:
    """What `Merger` and `Adder` have in common: parts read one by one, and the families of the answer."""

    def __init__(self) -> None:
        self._uuids: set[str] = set()
        self._merged: dict[bytes, _Merged] = {}

    def _read(self, part: Part) -> list[_Family]:
        """The families of a part that was not here before."""
        if part.uuid in self._uuids:
            raise InvalidPartError(part.uuid, "is given twice")
        families = _families(part)
        self._uuids.add(part.uuid)
        return families

    def _family(self, family: _Family) -> _Merged:
        """The family of the answer that this one goes to."""
        found = self._merged.get(family.name)
        if found is None:
            found = self._merged[family.name] = _Merged(family)
        elif found.kind != family.kind:
            found.kind = b"untyped"
        return found


class Merger(_Exposition):
    """Every sample of every part, with the labels ``uuid`` and ``node`` in front.

    A label that a sample has under one of these names is called ``exported_...``, as Prometheus would call it.
    """

    def add(self, part: Part) -> None:
        """Take a part in. Raises InvalidPartError, and is then as it was before."""
        front = b"uuid=%b,node=%b" % (_quoted(part.uuid), _quoted(part.node))
        taken = [label for label in (b"uuid", b"node") if label + b'="' in part.body]
        for family in self._read(part):
            name, _, _, samples = family
            for label in taken:
                samples = _renamed(samples, label)
            if b"{} " in samples:
                samples = samples.replace(b"\n%b{} " % name, b"\n%b " % name)
            samples = samples.replace(b"\n%b{" % name, b"\n%b{%b," % (name, front))
            bare = b"\n%b " % name
            if bare in samples:
                samples = samples.replace(bare, b"\n%b{%b} " % (name, front))
            self._family(family).samples.append(samples)

    def body(self) -> bytes:
        """The exposition of the parts so far."""
        out: list[bytes] = []
        for name, family in self._merged.items():
            out += (_header(name, family), *family.samples, b"\n")
        return b"".join(out)


class Adder(_Exposition):
    """Sums over containers, by a label ``service``, ``group`` or ``node``.

    Counters are added up, and gauges whose sum says something: not constants, times of day, ratios, peaks, limits and
    other settings, nor anything untyped. The labels that say which container it is (id, name, image,
    container_label_*) are left out, the others stay and keep their sums apart. A container in several services or
    groups counts in each, one in none counts under no label, as with ``sum by`` in PromQL. Sums are exact.
    """

    def __init__(self, by: By) -> None:
        super().__init__()
        self._by = by

    def add(self, part: Part) -> None:
        """Take a part in. Raises InvalidPartError, and is then as it was before."""
        label = self._by.encode()
        values = {"service": part.services, "group": part.groups, "node": (part.node,)}[self._by]
        keys = [label + b"=" + _quoted(value) for value in dict.fromkeys(values) if value] or [b""]
        known: dict[bytes, list[bytes]] = {}
        for family in self._read(part):
            if not _adds_up(family):
                continue
            sums = self._family(family).sums
            for labels, text in _SAMPLES.findall(family.samples):
                blocks = known.get(labels)
                if blocks is None:
                    blocks = known[labels] = _blocks(labels, label, keys)
                number = Decimal(text.decode())
                for block in blocks:
                    sums[block] = _EXACT.add(sums[block], number) if block in sums else number

    def body(self) -> bytes:
        """The exposition of the parts so far."""
        out: list[bytes] = []
        for name, family in self._merged.items():
            if family.sums:
                lines = (b"\n%b%b %b" % (name, block, _decimal(number)) for block, number in family.sums.items())
                out += (_header(name, family), *lines, b"\n")
        return b"".join(out)


def _families(part: Part) -> list[_Family]:
    """The families of a part, which is found to be in order."""
    body, at, families = part.body, 0, []
    while found := _FAMILY.match(body, at):
        families.append(_Family(*found.groups()))
        at = found.end()
    if at < len(body):
        line = body[at : at + 100].split(b"\n")[0]
        raise InvalidPartError(part.uuid, f"expected a family at byte {at} of its exposition, got {shown(line)}")
    if len({family.name for family in families}) < len(families):
        raise InvalidPartError(part.uuid, "a family comes twice in its exposition")
    for labels in set(_LABELS.findall(body)):
        names = _LABEL_NAMES.findall(labels)
        if len(set(names)) < len(names):
            raise InvalidPartError(part.uuid, f"a label comes twice in {shown(labels)}")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise InvalidPartError(part.uuid, f"its exposition is no UTF-8 at byte {error.start}") from None
    return families


def _header(name: bytes, family: _Merged) -> bytes:
    return b"# HELP %b %b\n# TYPE %b %b" % (name, family.help, name, family.kind)


def _quoted(text: str) -> bytes:
    """As a label value."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\0", "")
    return b'"%b"' % escaped.encode("utf-8", "backslashreplace")


def _renamed(samples: bytes, label: bytes) -> bytes:
    """The samples with another name for a label, one that none of them has."""
    name = b"exported_" + label
    while name + b'="' in samples:
        name = b"exported_" + name
    pattern = rb"(\n[^{ ]++\{(?:(?!%b=)%b,)*)%b=" % (label, _LABEL, label)
    return re.sub(pattern, rb"\1%b=" % name, samples)


def _adds_up(family: _Family) -> bool:
    """Whether the sum of a family over containers says something."""
    if family.kind == b"counter":
        return family.name != b"time_of_day"
    return family.kind == b"gauge" and not _NOT_ADDITIVE.fullmatch(family.name)


def _blocks(labels: bytes, by: bytes, keys: list[bytes]) -> list[bytes]:
    """The label blocks of the sums that a sample with these labels goes to, one for each key."""
    kept: dict[bytes, bytes] = {}
    for found in _LABEL_NAMES.finditer(labels):
        name, _, value = found[0].partition(b"=")
        if found[0] in _SETTINGS_OF_TCP:
            return []
        if value != b'""' and not _PER_CONTAINER.fullmatch(name):
            kept[name] = value
    if by in kept:
        name = b"exported_" + by
        while name in kept:
            name = b"exported_" + name
        kept[name] = kept.pop(by)
    rest = [name + b"=" + kept[name] for name in sorted(kept)]
    blocks = [b",".join([key, *rest] if key else rest) for key in keys]
    return [b"{%b}" % block if block else b"" for block in blocks]


def _decimal(number: Decimal) -> bytes:
    """A number as an agent writes it."""
    text = format(number, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
