"""The expositions of many containers as one: every sample of all of them, or their sums.

A part is what an agent writes for one container in the text format 0.0.4: families of TYPE and at least one sample,
mostly with HELP, of any type, without time stamps. It is read strictly, because Prometheus refuses the whole of an
exposition for one line that it does not like. Families come in the order in which they are first seen, with the HELP
that is first seen; one that parts give different types is untyped. Histograms and summaries clash with families of
another type that are called as they or their samples are: no TYPE is right for all of these. Pure.

A part costs some 100 µs for 4 KB: give parts to a `Merger` or an `Adder` as they come.
"""

from __future__ import annotations

import math
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
_NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_HELP = rb"[^\\\n\0]*+(?:\\[\\n][^\\\n\0]*+)*"
_VALUE = rb'"[^"\\\n\0]*+(?:\\[\\"n][^"\\\n\0]*+)*"'
_LABEL = rb"(?!__)[a-zA-Z_][a-zA-Z0-9_]*+=" + _VALUE
_BLOCK = rb"(?:\{(?:%b(?:,%b)*,?)?\})?" % (_LABEL, _LABEL)
_EXACT_NUMBER = rb"-?[0-9]{1,40}+(?:\.[0-9]{1,40}+)?(?:e[+-][0-9]{2})?"
_ANY_NUMBER = rb"(?:[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?|[+-]Inf|NaN)"

_FAMILY = re.compile(
    rb"# HELP (?P<name>%b) (?P<help>%b)\n"
    rb"# TYPE (?P=name) (?P<kind>counter|gauge|untyped|(?P<histogram>histogram))(?P<samples>(?:\n(?P=name)"
    rb'(?(histogram)(?:_bucket\{(?:%b,)*le="(?:%b|\+Inf)"\}|(?:_sum|_count)%b)|%b) %b)+)\n(?=#|\Z)'
    % (_NAME, _HELP, _LABEL, _EXACT_NUMBER, _BLOCK, _BLOCK, _EXACT_NUMBER)
)
"""Nearly every family; each of its samples has its line end before it."""

_ANY_FAMILY = re.compile(
    rb"(?=(?:# HELP [^\n]*+\n)?# TYPE (?P<name>%b) )(?:# HELP (?P=name) (?P<help>%b)\n)?"
    rb"# TYPE (?P=name) (?P<kind>counter|gauge|summary|untyped|(?P<histogram>histogram))(?P<samples>(?:\n(?P=name)"
    rb"(?(histogram)(?:_bucket|_sum|_count)|(?:_sum|_count)?)%b %b)+)\n" % (_NAME, _HELP, _BLOCK, _ANY_NUMBER)
)
"""The others, with the same groups. Their samples have to be looked at one by one."""

_SUFFIXES = {b"histogram": (b"_bucket", b"_sum", b"_count"), b"summary": (b"", b"_sum", b"_count")}
"""What may follow the family's name in the name of a sample, by type; otherwise nothing may."""

_BOUNDS = {(b"histogram", b"_bucket"): b"le", (b"summary", b""): b"quantile"}
"""The label that is a number, by type and suffix."""

_NUMBER = re.compile(_ANY_NUMBER)
_FEW_DIGITS = re.compile(_EXACT_NUMBER)
_LABELS = re.compile(rb"\n[^#{\n][^{\n]*+\{(.*)\} ")
_LABEL_NAMES = re.compile(rb"([^,=]++)=" + _VALUE)
_SAMPLES = re.compile(rb"\n[^{ ]++(?:\{(.*)\})? (.*)")
_NAMED_SAMPLES = re.compile(rb"\n([^{ ]++)(?:\{(.*)\})? (.*)")
_SERIES = re.compile(rb"\n(([^{ ]++)\{.*\}) (.*)")

_PER_CONTAINER = re.compile(rb"id|image|name|container_label_.*")
"""Labels that say which container it is."""

_NOT_ADDITIVE = re.compile(
    rb".*_(?:info|boolean|timestamp|time_seconds|timer_seconds|last_seen|percent|percentage)|.*ratio"
    rb"|(?:.*_)?(?:limit|max|min|baseline)(?:_.*)?|.*_(?:quota|recordsize)"  # settings and peaks
    rb"|zfs_available"  # of a pool that containers share
    rb"|container_(?:spec|ulimits)_.*"
    rb"|container_(?:health_state|memory_migrate)"
    rb"|time_of_day"
)
"""Gauges of which a sum says nothing."""

_SETTINGS_OF_TCP = frozenset(b'tcp_state="%b"' % name for name in (b"rtoalgorithm", b"rtomin", b"rtomax", b"maxconn"))

_EXACT = Context(prec=700, traps=[])
"""More digits than a sum of as many floats as there can be has. Infinities that cancel out are NaN."""


class _Family(NamedTuple):
    """A family of a part. exact: every number is a decimal, of so few digits that sums can be exact."""

    name: bytes
    help: bytes | None
    kind: bytes
    samples: bytes
    exact: bool


class _Merged:
    """A family of the answer.

    distributions: histograms and summaries by their labels, with the number for each suffix and bound.
    """

    __slots__ = ("distributions", "help", "kinds", "samples", "sums")

    def __init__(self, family: _Family) -> None:
        self.help = family.help
        self.kinds = {family.kind}
        self.samples: list[bytes] = []
        self.sums: dict[bytes, Decimal] = {}
        self.distributions: dict[bytes, dict[tuple[bytes, bytes], Decimal]] = {}

    @property
    def kind(self) -> bytes:
        return next(iter(self.kinds)) if len(self.kinds) == 1 else b"untyped"


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
        else:
            found.kinds.add(family.kind)
            if found.help is None:
                found.help = family.help
        return found

    def _clashing(self) -> set[bytes]:
        """The names of the families of which one has samples that are called as those of another type."""
        names: set[bytes] = set()
        for name, family in self._merged.items():
            suffixes = {suffix for kind in family.kinds for suffix in _SUFFIXES.get(kind, ())} - {b""}
            clashing = [name + suffix for suffix in suffixes if name + suffix in self._merged]
            if clashing or (suffixes and len(family.kinds) > 1):
                names.update((name, *clashing))
        return names


class Merger(_Exposition):
    """Every sample of every part, with the labels ``uuid`` and ``node`` in front.

    A label that a sample has under one of these names is called ``exported_...``, as Prometheus would call it.
    The samples of families that clash come last, those of one name as an untyped family.
    """

    def add(self, part: Part) -> None:
        """Take a part in. Raises InvalidPartError, and is then as it was before."""
        front = b"uuid=%b,node=%b" % (_quoted(part.uuid), _quoted(part.node))
        taken = [label for label in (b"uuid", b"node") if label + b'="' in part.body]
        for family in self._read(part):
            samples = family.samples
            for label in taken:
                samples = _renamed(samples, label)
            for suffix in _SUFFIXES.get(family.kind, (b"",)):
                name = family.name + suffix
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
        clashing = self._clashing()
        apart: dict[bytes, tuple[bytes | None, dict[bytes, bytes]]] = {}
        for name, family in self._merged.items():
            if name not in clashing:
                out += (_header(name, family.help, family.kind), *family.samples, b"\n")
                continue
            for samples in family.samples:
                for series, sample_name, number in _SERIES.findall(samples):
                    apart.setdefault(sample_name, (family.help, {}))[1].setdefault(series, number)
        for name, (help, numbers) in apart.items():
            lines = (b"\n%b %b" % line for line in numbers.items())
            out += (_header(name, help, b"untyped"), *lines, b"\n")
        return b"".join(out)


class Adder(_Exposition):
    """Sums over containers, by a label ``service``, ``group`` or ``node``.

    Counters are added up, and gauges whose sum says something: not booleans, constants, times, ratios, peaks, limits
    and other settings, nor anything untyped. Of histograms the buckets that all of them have are added up, with their
    sums and counts; of summaries only these. Families that clash are left out. The labels that say which container it
    is (id, name, image, container_label_*) are left out, the others stay and keep their sums apart. A container in
    several services or groups counts in each, one in none counts under no label, as with ``sum by`` in PromQL. Sums
    are exact; with an addend that is not finite they are not either.
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
            if family.kind in _SUFFIXES:
                self._add_distributions(family, keys)
                continue
            if not _adds_up(family):
                continue
            sums = self._family(family).sums
            for labels, text in _SAMPLES.findall(family.samples):
                blocks = known.get(labels)
                if blocks is None:
                    blocks = known[labels] = _blocks(labels, label, keys)
                number = Decimal(text.decode()) if family.exact else _number(text)
                for block in blocks:
                    sums[block] = _EXACT.add(sums[block], number) if block in sums else number

    def _add_distributions(self, family: _Family, keys: list[bytes]) -> None:
        """Histograms or summaries. A sum has the lines that all of its addends have."""
        sums = self._family(family).distributions
        for labels, numbers in _distributions(family).items():
            for block in _blocks(labels, self._by.encode(), keys):
                found = sums.setdefault(block, numbers)
                if found is not numbers:
                    both = ((line, number) for line, number in found.items() if line in numbers)
                    sums[block] = {line: _EXACT.add(number, numbers[line]) for line, number in both}

    def body(self) -> bytes:
        """The exposition of the parts so far."""
        out: list[bytes] = []
        clashing = self._clashing()
        for name, family in self._merged.items():
            lines = [b"\n%b%b %b" % (name, block, _decimal(number)) for block, number in family.sums.items()]
            for block, numbers in family.distributions.items():
                lines += (
                    b"\n%b%b%b %b" % (name, suffix, _with_bound(block, bound), _decimal(number))
                    for (suffix, bound), number in numbers.items()
                )
            if lines and name not in clashing:
                out += (_header(name, family.help, family.kind), *lines, b"\n")
        return b"".join(out)


def _families(part: Part) -> list[_Family]:
    """The families of a part, which is found to be in order."""
    body, at, families = part.body, 0, []
    while found := _FAMILY.match(body, at) or _ANY_FAMILY.match(body, at):
        name, help, kind, _, samples = found.groups()
        family = _Family(name, help, kind, samples, found.re is _FAMILY)
        if not family.exact:
            _check(part.uuid, family)
        families.append(family)
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


def _check(uuid: str, family: _Family) -> None:
    """Find that the samples are called as the type wants it, and that their numbers are numbers."""
    suffixes = _SUFFIXES.get(family.kind, (b"",))
    numbers: set[bytes] = set()
    for name, labels, number in _NAMED_SAMPLES.findall(family.samples):
        suffix = name[len(family.name) :]
        if suffix not in suffixes:
            raise InvalidPartError(uuid, f"expected no sample {shown(name)} of a {family.kind.decode()}")
        bound = _BOUNDS.get((family.kind, suffix))
        numbers.update((number,) if bound is None else (number, _split(labels, bound)[1][len(bound) + 2 : -1]))
    for number in numbers:
        # Some readers refuse what is too large for a float.
        if not _NUMBER.fullmatch(number) or (math.isinf(float(number)) and b"I" not in number):
            raise InvalidPartError(uuid, f"expected numbers in {shown(family.name)}, got {shown(number)}")


def _split(labels: bytes, name: bytes) -> tuple[bytes, bytes]:
    """The labels without the one of this name, and that one; nothing when it is not there."""
    found = {label[1]: label[0] for label in _LABEL_NAMES.finditer(labels)}
    one = found.pop(name, b"")
    return b",".join(found.values()), one


def _header(name: bytes, help: bytes | None, kind: bytes) -> bytes:
    described = b"" if help is None else b"# HELP %b %b\n" % (name, help)
    return b"%b# TYPE %b %b" % (described, name, kind)


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


def _distributions(family: _Family) -> dict[bytes, dict[tuple[bytes, bytes], Decimal]]:
    """The histograms or summaries of a family by their labels: numbers by suffix and bound, without quantiles."""
    distributions: dict[bytes, dict[tuple[bytes, bytes], Decimal]] = {}
    for name, labels, text in _NAMED_SAMPLES.findall(family.samples):
        suffix = name[len(family.name) :]
        if suffix:
            rest, bound = _split(labels, b"le" if suffix == b"_bucket" else b"")
            number = Decimal(text.decode()) if family.exact else _number(text)
            distributions.setdefault(rest, {}).setdefault((suffix, bound), number)
    return distributions


def _with_bound(block: bytes, bound: bytes) -> bytes:
    """The label block of a bucket; of another sample when there is no bound."""
    if not bound:
        return block
    return b"%b,%b}" % (block[:-1], bound) if block else b"{%b}" % bound


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


def _number(text: bytes) -> Decimal:
    """Exactly what it says where that has few digits, the nearest float otherwise."""
    return Decimal(text.decode()) if _FEW_DIGITS.fullmatch(text) else Decimal(repr(float(text)))


def _decimal(number: Decimal) -> bytes:
    """A number as an agent writes it, as a float where that is too long. What is too large for a float is infinite."""
    text = format(number, "f")
    if number.is_finite() and len(text) <= 100:  # noqa: PLR2004  # more than a sum of plain decimals has
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    value = float(number)
    if math.isfinite(value):
        return repr(value).encode()
    return b"NaN" if math.isnan(value) else b"+Inf" if value > 0 else b"-Inf"
