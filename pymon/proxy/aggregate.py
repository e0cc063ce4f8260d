"""Combines the expositions of many containers into one: all of their samples, or sums of them. Pure.

A part is an agent's exposition of one container in the text format 0.0.4: families with TYPE and at least one sample,
mostly with HELP, of any type, without timestamps. It is parsed strictly, because Prometheus rejects a whole exposition
for one bad line. Families are written in the order in which they first occur, with the first HELP. A family that has
different types in different parts is untyped. A histogram or summary clashes with a family of another type that has its
name or the name of its samples: no TYPE is right for all of these samples.

A part of 4 KB costs about 100 µs. Add parts to a `Merger` or an `Adder` as they arrive. `adding` and `pieces` do the
same as `add` and `body` in steps, for callers that must yield in between. `held_bytes` is the memory held meanwhile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Context, Decimal
from typing import Literal

import msgspec

from pymon._native.exposition import split_labels
from pymon.exposition.compression import pack, unpack
from pymon.exposition.header import openmetrics2_lines, openmetrics_lines, openmetrics_name, text_lines
from pymon.exposition.negotiation import Format
from pymon.exposition.own_text import openmetrics2_samples
from pymon.proxy.part import InvalidPartError, Part, PartFamily, Reading

By = Literal["service", "group", "node"]

STEP_ADDENDS = 1000
"""Numbers added, or lines written, in one step."""

SERIES_BYTES = 384
"""Estimated memory of a sum beside the text of its labels."""

_FAMILY_BYTES, _PART_BYTES = 1024, 256
"""Estimated memory of a family of the answer, and of a part beside its text."""

_SAMPLES_BYTES = 48
"""The same of the samples that one part has of a family, beside their text."""

_PACKED_AT_ONCE = 16

PLAIN_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 18
"""A `Merger` keeps so many bytes of samples as they are. Above, it compresses them, family by family; and those of a
family that have this many bytes."""

_KNOWN_BYTES = 1 << 20
"""Limit of a part's cache of label blocks, which serves samples with equal labels."""

_SUFFIXES = {b"histogram": (b"_bucket", b"_sum", b"_count"), b"summary": (b"", b"_sum", b"_count")}
"""Suffixes that a sample's name may add to the family's name, by type. Other types have none."""

_CREATED = b"_created"
"""A suffix that OpenMetrics adds to these and to counters."""

_INTEGER_BOUND = re.compile(rb'([{,](?:le|quantile)="[0-9]+)"')
"""OpenMetrics 1.0.0, "Canonical numbers": a bound is written as a float."""

_FEW_DIGITS = re.compile(rb"-?[0-9]{1,40}+(?:\.[0-9]{1,40}+)?(?:e[+-][0-9]{2})?")
_SERIES = re.compile(rb"\n(([^{ ]++)\{(.*)\}) (.*)")

_PER_CONTAINER = re.compile(rb"id|image|name|container_label_.*")
"""Labels that identify a container."""

_OF_KUBERNETES = frozenset((b"container", b"namespace", b"pod"))
"""Labels that identify a container where a sample has all of them. A plugin may have one of its own."""

_NOT_ADDITIVE = re.compile(
    rb".*_(?:info|boolean|timestamp|time_seconds|timer_seconds|last_seen|percent|percentage)|.*ratio"
    rb"|(?:.*_)?(?:limit|max|min|baseline)(?:_.*)?|.*_(?:quota|recordsize)"  # settings and peaks
    rb"|zfs_available"  # of a pool shared by containers
    rb"|container_(?:spec|ulimits)_.*"
    rb"|container_fs_inodes_.*"  # of a file system shared by containers
    rb"|container_(?:health_state|memory_migrate|last_exit_code)|pymon_container_last_numbers_exact"
    rb"|time_of_day"
)
"""Gauges whose sum has no meaning."""

_SETTINGS_OF_TCP = (b'"rtoalgorithm"', b'"rtomin"', b'"rtomax"', b'"maxconn"')
"""Values of the label tcp_state that stand for settings, not for states."""

_EXACT = Context(prec=700, traps=[])
"""Enough digits for an exact sum of all floats of an answer. The sum of +Inf and -Inf is NaN."""


def _nothing() -> None:
    pass


class _Merged(msgspec.Struct, gc=False):
    """A family of the answer. The garbage collector does not look through families, of which there may be thousands.

    kinds: the types that parts gave it. packed, plain: its samples, in this order: compressed chunks, then the rest.
    sums: by label block. distributions: histograms and summaries by label block, each with its values by suffix and
    bucket bound.
    """

    help: bytes | None
    kinds: tuple[bytes, ...]
    packed: list[bytes]
    plain: list[bytes]
    sums: dict[bytes, Decimal]
    distributions: dict[bytes, dict[tuple[bytes, bytes], Decimal]]

    @property
    def kind(self) -> bytes:
        return self.kinds[0] if len(self.kinds) == 1 else b"untyped"


class _Exposition:
    """The common base of `Merger` and `Adder`: reads parts and keeps the families of the answer."""

    def __init__(self, between: Callable[[], None] = _nothing, *, form: Format = Format.TEXT_0_0_4) -> None:
        """Create an empty exposition.

        between: called repeatedly while a part is parsed. An exception from it ends the parsing. form: a text
        format, in which the exposition is written without its last line.
        """
        self._form = form
        self._between = between
        self._uuids: set[str] = set()
        self._merged: dict[bytes, _Merged] = {}
        self.held_bytes = 0
        """Estimated memory held until the body is written."""

    def add(self, part: Part) -> None:
        """Add a part. Raises InvalidPartError, and then changes nothing."""
        for _ in self.adding(part):
            pass

    def adding(self, part: Part) -> Iterator[None]:
        """Do `add` in steps. If they are not run to the end, the object must not be used any more."""
        raise NotImplementedError

    def clear(self) -> None:
        """Free everything. The object must not be used any more."""
        self._merged.clear()

    def body(self) -> bytes:
        """Return the exposition of all parts added so far."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """Yield `body` in pieces, each made in one step."""
        raise NotImplementedError

    def _read(self, part: Part) -> Reading:
        """Parse a part. Raises InvalidPartError when it is invalid or its container was added before."""
        if part.uuid in self._uuids:
            raise InvalidPartError(part.uuid, "is given twice")
        reading = Reading(part, self._between)
        self._uuids.add(part.uuid)
        return reading

    def _family(self, family: PartFamily) -> _Merged:
        """Return the family of the answer for a family of a part, creating it when new."""
        found = self._merged.get(family.name)
        if found is None:
            found = self._merged[family.name] = _Merged(family.help, (family.kind,), [], [], {}, {})
            self.held_bytes += _FAMILY_BYTES + len(family.name) + len(family.help or b"")
        else:
            if family.kind not in found.kinds:
                found.kinds += (family.kind,)
            if found.help is None:
                found.help = family.help
        return found

    def _clashing(self) -> set[bytes]:
        """Return the names of the families that clash, as the module's docstring defines it."""
        names: set[bytes] = set()
        for name, family in self._merged.items():
            suffixes = {suffix for kind in family.kinds for suffix in _SUFFIXES.get(kind, ())} - {b""}
            if suffixes and self._form.openmetrics:
                suffixes.add(_CREATED)
            clashing = [name + suffix for suffix in suffixes if name + suffix in self._merged]
            if clashing or (suffixes and len(family.kinds) > 1):
                names.update((name, *clashing))
        return names

    def _header(self, name: bytes, kind: bytes, help: bytes | None) -> bytes:
        """Return the lines before the samples of a family, without the last line end."""
        if self._form is Format.OPENMETRICS_2_0_0:
            return openmetrics2_lines(name, kind, help)
        if not self._form.openmetrics:
            return text_lines(name, kind, help)
        bare = openmetrics_name(name, kind)
        if bare != name and (bare in self._merged or bare + _CREATED in self._merged):
            kind = b"untyped"  # another family has the name that this one would have
        return openmetrics_lines(name, kind, help)

    def _text(self, name: bytes, kind: bytes, samples: bytes) -> bytes:
        """Return samples of a family as the format has them. The lines of a histogram or summary are together."""
        if self._form is Format.OPENMETRICS_2_0_0:
            return openmetrics2_samples(name, kind, samples)
        if self._form.openmetrics and kind in _SUFFIXES:
            return _INTEGER_BOUND.sub(rb'\1.0"', samples)
        return samples


class Merger(_Exposition):
    """Combines all samples of all parts, and adds the labels ``uuid`` and ``node`` to each.

    A sample's own label of one of these names is renamed to ``exported_...``, as in Prometheus. Samples of clashing
    families are written last; samples of the same name form an untyped family.
    """

    def __init__(self, between: Callable[[], None] = _nothing, *, form: Format = Format.TEXT_0_0_4) -> None:
        super().__init__(between, form=form)
        self._plain_bytes = 0

    def adding(self, part: Part) -> Iterator[None]:
        """Do `add` in steps. If they are not run to the end, the object must not be used any more."""
        front = b"uuid=%b,node=%b" % (_quoted(part.uuid), _quoted(part.node))
        reading = self._read(part)
        yield
        size = 0
        for count, family in enumerate(reading.families):
            samples = reading.labelled(family, front)
            merged = self._family(family)
            merged.plain.append(samples)
            size += len(samples)
            self._plain_bytes += len(samples)
            self.held_bytes += len(samples) + _SAMPLES_BYTES
            if len(samples) > _CHUNK_BYTES:
                self._pack(merged)
            if count % STEP_ADDENDS == STEP_ADDENDS - 1:
                yield
        self.held_bytes += _PART_BYTES
        if self._plain_bytes > PLAIN_BYTES:
            for count, merged in enumerate(self._merged.values()):
                self._pack(merged)
                if count % _PACKED_AT_ONCE == _PACKED_AT_ONCE - 1:
                    yield

    def _pack(self, family: _Merged) -> None:
        """Compress the samples of a family that are kept as they are."""
        text = b"".join(family.plain)
        if text:
            family.packed.append(pack(text))
            self.held_bytes += len(family.packed[-1]) - len(text) - _SAMPLES_BYTES * (len(family.plain) - 1)
            self._plain_bytes -= len(text)
            family.plain.clear()

    def pieces(self) -> Iterator[bytes]:
        """Yield `body` in pieces, each made in one step."""
        clashing = self._clashing()
        apart: dict[bytes, tuple[bytes | None, dict[tuple[bytes, ...], bytes]]] = {}
        for name, family in self._merged.items():
            if name not in clashing:
                yield self._header(name, family.kind, family.help)
                yield from (self._text(name, family.kind, samples) for samples in self._samples(family))
                yield b"\n"
                continue
            for samples in self._samples(family):
                for count, found in enumerate(_SERIES.finditer(samples)):
                    lines = apart.setdefault(found[2], (family.help, {}))[1]
                    lines.setdefault(_canonical(found[3]), found[0])
                    self.held_bytes += 2 * len(found[0]) + SERIES_BYTES
                    if count % STEP_ADDENDS == STEP_ADDENDS - 1:
                        yield b""
                yield b""
        for name, (help, lines) in apart.items():
            yield self._header(name, b"untyped", help)
            yield from (self._text(name, b"untyped", some) for some in _joined(lines.values()))
            yield b"\n"

    def _samples(self, family: _Merged) -> Iterator[bytes]:
        """Yield the text of a family's samples."""
        for packed in family.packed:
            yield unpack(packed)
        yield from family.plain


class Adder(_Exposition):
    """Sums samples over containers, by a label ``service``, ``group`` or ``node``.

    Counters are summed, and gauges whose sum has a meaning: not booleans, constants, times, ratios, peaks, limits and
    other settings, and nothing untyped. Histograms are summed over the buckets that all of them have, with their sums
    and counts; summaries only by sums and counts. Clashing families are left out. Labels that identify a container (id,
    name, image, container_label_*, and container, namespace and pod together) are dropped; the other labels are kept,
    and each combination has its own sum. A container in several services or groups counts in each of them. A container
    in none counts in a sum without the label, as with ``sum by`` in PromQL. Sums are exact; a sum with an addend that
    is not finite is not finite.
    """

    def __init__(self, by: By, between: Callable[[], None] = _nothing, *, form: Format = Format.TEXT_0_0_4) -> None:
        super().__init__(between, form=form)
        self._by = by
        self.series = 0
        """Number of sample lines so far."""

    @staticmethod
    def keys_of(part: Part, by: By) -> list[str]:
        """Return the values of the label `by` whose sums a part goes to; "" is the sum without the label."""
        values = {"service": part.services, "group": part.groups, "node": (part.node,)}[by]
        return [value for value in dict.fromkeys(values) if value] or [""]

    def adding(self, part: Part) -> Iterator[None]:
        """Do `add` in steps. If they are not run to the end, the object must not be used any more."""
        label = self._by.encode()
        keys = [label + b"=" + _quoted(value) if value else b"" for value in self.keys_of(part, self._by)]
        reading = self._read(part)
        yield
        known: dict[bytes, list[bytes]] = {}
        known_bytes = addends = 0
        for family in reading.families:
            addends += 1
            if family.kind in _SUFFIXES:
                yield from self._add_distributions(reading, family, keys)
                continue
            if not _adds_up(family):
                continue
            sums = self._family(family).sums
            for _, labels, text in reading.rows(family):
                blocks = known.get(labels)
                if blocks is None:
                    if known_bytes > _KNOWN_BYTES:
                        known.clear()
                        known_bytes = 0
                    blocks = known[labels] = _blocks(labels, label, keys)
                    known_bytes += len(labels) + sum(map(len, blocks))
                number = Decimal(text.decode()) if family.few_digits else _number(text)
                for block in blocks:
                    if block in sums:
                        sums[block] = _EXACT.add(sums[block], number)
                    else:
                        sums[block] = number
                        self._count(block)
                addends += len(blocks)
                if addends >= STEP_ADDENDS:
                    addends = 0
                    yield

    def _add_distributions(self, reading: Reading, family: PartFamily, keys: list[bytes]) -> Iterator[None]:
        """Add histograms or summaries in steps. A sum keeps only the lines that all of its addends have."""
        sums = self._family(family).distributions
        addends = 0
        for labels, numbers in _distributions(reading, family).items():
            for block in _blocks(labels, self._by.encode(), keys):
                found = sums.get(block)
                if found is None:
                    sums[block] = numbers
                    for _ in numbers:
                        self._count(block)
                else:
                    both = ((line, number) for line, number in found.items() if line in numbers)
                    sums[block] = {line: _EXACT.add(number, numbers[line]) for line, number in both}
                addends += len(numbers)
                if addends >= STEP_ADDENDS:
                    addends = 0
                    yield

    def _count(self, block: bytes) -> None:
        """Add a sum that begins to `series` and `held_bytes`. block: its labels."""
        self.series += 1
        self.held_bytes += len(block) + SERIES_BYTES

    def pieces(self) -> Iterator[bytes]:
        """Yield `body` in pieces, each made in one step."""
        clashing = self._clashing()
        for name, family in self._merged.items():
            if (family.sums or family.distributions) and name not in clashing:
                yield self._header(name, family.kind, family.help)
                yield from (self._text(name, family.kind, lines) for lines in _joined(_sum_lines(name, family)))
                yield b"\n"


def _sum_lines(name: bytes, family: _Merged) -> Iterator[bytes]:
    """Yield the line of each sum, and the lines of each sum of histograms or summaries."""
    for block, number in family.sums.items():
        yield b"\n%b%b %b" % (name, block, _decimal(number))
    for block, numbers in family.distributions.items():
        yield b"".join(
            b"\n%b%b%b %b" % (name, suffix, _with_bound(block, bound), _decimal(number))
            for (suffix, bound), number in numbers.items()
        )


def _joined(items: Iterable[bytes]) -> Iterator[bytes]:
    """Join items into pieces of `STEP_ADDENDS` lines or a few more."""
    some: list[bytes] = []
    lines = 0
    for item in items:
        some.append(item)
        lines += item.count(b"\n")
        if lines >= STEP_ADDENDS:
            yield b"".join(some)
            some.clear()
            lines = 0
    if some:
        yield b"".join(some)


def _canonical(labels: bytes) -> tuple[bytes, ...]:
    """Return the identity of a series among those of its name: its non-empty labels, sorted."""
    return tuple(sorted(b"%b=%b" % label for label in split_labels(labels) if label[1] != b'""'))


def _split(labels: bytes, name: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """Return the canonical labels without the label `name`, and that label as ``name=value`` or b""."""
    found = _canonical(labels)
    one = next((label for label in found if label.startswith(name + b"=")), b"") if name else b""
    return tuple(label for label in found if label is not one), one


def _quoted(text: str) -> bytes:
    """Return a text as a quoted and escaped label value."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\0", "")
    return b'"%b"' % escaped.encode("utf-8", "backslashreplace")


def _adds_up(family: PartFamily) -> bool:
    """Return whether the sum of a family over containers has a meaning."""
    if family.kind == b"counter":
        return family.name != b"time_of_day"
    return family.kind == b"gauge" and not _NOT_ADDITIVE.fullmatch(family.name)


def _distributions(reading: Reading, family: PartFamily) -> dict[bytes, dict[tuple[bytes, bytes], Decimal]]:
    """Return the histograms or summaries of a family by their labels, each as values by suffix and bucket bound.

    Quantiles are left out.
    """
    distributions: dict[tuple[bytes, ...], dict[tuple[bytes, bytes], Decimal]] = {}
    for suffix, labels, text in reading.rows(family):
        if suffix:
            rest, bound = _split(labels, b"le" if suffix == b"_bucket" else b"")
            number = Decimal(text.decode()) if family.few_digits else _number(text)
            distributions.setdefault(rest, {})[suffix, bound] = number
    return {b",".join(labels): numbers for labels, numbers in distributions.items()}


def _with_bound(block: bytes, bound: bytes) -> bytes:
    """Return a label block with the bound of a bucket added, or unchanged without a bound."""
    if not bound:
        return block
    return b"%b,%b}" % (block[:-1], bound) if block else b"{%b}" % bound


def _blocks(labels: bytes, by: bytes, keys: list[bytes]) -> list[bytes]:
    """Return the label blocks of the sums that a sample goes to, one for each key; none for a setting of TCP."""
    kept: dict[bytes, bytes] = {}
    of_kubernetes = 0
    for name, value in split_labels(labels):
        if name == b"tcp_state" and value in _SETTINGS_OF_TCP:
            return []
        of_kubernetes += name in _OF_KUBERNETES
        if value != b'""' and not _PER_CONTAINER.fullmatch(name):
            kept[name] = value
    if of_kubernetes == len(_OF_KUBERNETES):
        kept = {name: value for name, value in kept.items() if name not in _OF_KUBERNETES}
    if by in kept:
        name = b"exported_" + by
        while name in kept:
            name = b"exported_" + name
        kept[name] = kept.pop(by)
    rest = [name + b"=" + kept[name] for name in sorted(kept)]
    blocks = [b",".join([key, *rest] if key else rest) for key in keys]
    return [b"{%b}" % block if block else b"" for block in blocks]


def _number(text: bytes) -> Decimal:
    """Return the exact value of a text with few digits, else the nearest float."""
    return Decimal(text.decode()) if _FEW_DIGITS.fullmatch(text) else Decimal(repr(float(text)))


def _decimal(number: Decimal) -> bytes:
    """Format a number as an agent does, or as a float when that is too long. Beyond a float's range it is infinite."""
    text = format(number, "f")
    if number.is_finite() and len(text) <= 100:  # noqa: PLR2004  # more than a sum of plain decimals has
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    value = float(number)
    if math.isfinite(value):
        return repr(value).encode()
    return b"NaN" if math.isnan(value) else b"+Inf" if value > 0 else b"-Inf"
