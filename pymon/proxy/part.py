"""Strict parsing of the exposition of one container, because Prometheus rejects a whole exposition for one bad line.

Parsing runs in short slices, so that it does not hold the GIL for long and can be stopped between slices. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from pymon._native.exposition import Exposition
from pymon.config import shown

SLICE_BYTES = 1 << 18
SLICE_ROWS = 1024

OWN = b"pymon_"
"""Prefix of pymon's own families. A container's exposition must not use it."""

OF_AGENTS = (b"pymon_container_effective_", b"pymon_container_last_")
"""What begins the names of families that are called as pymon's and that agents have of a container."""

_TAKEN = (b"uuid", b"node")
"""Labels that the proxy adds to each sample. One that an agent sends is replaced."""

MAX_NAME_BYTES = 1024
"""Limit of a family name's length, several times that of an agent's longest name."""

_SHOWN_BYTES = 100


class Part(NamedTuple):
    """The exposition of one container.

    uuid: of the container. node: name of its node. body: the exposition in text format 0.0.4. services, groups: names
    of those that the container belongs to.
    """

    uuid: str
    node: str
    body: bytes
    services: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class InvalidPartError(ValueError):
    """A part that would make the whole exposition invalid. uuid: of the container. The message names it."""

    def __init__(self, uuid: str, problem: str) -> None:
        super().__init__(f"container {uuid}: {problem}")
        self.uuid = uuid


class PartFamily(msgspec.Struct, frozen=True, gc=False):
    """A family of a part. The garbage collector does not look through families, of which a part may have thousands.

    number: its index in the part. kind: its TYPE. help: None without HELP. first: index of its first sample.
    samples: number of its samples. few_digits: whether every value is a decimal short enough to be summed exactly.
    """

    number: int
    name: bytes
    kind: bytes
    help: bytes | None
    first: int
    samples: int
    few_digits: bool


class Reading:
    """A parsed, valid part. families: in the order of the part, each with at least one sample."""

    def __init__(self, part: Part, between: Callable[[], None]) -> None:
        """Parse a part. Raises InvalidPartError.

        between: called between slices, also by `rows` and `labelled`. An exception from it ends the parsing.
        """
        self._exposition = Exposition(part.body, strict=True)
        self._between = between
        between()
        while not self._exposition.run(SLICE_BYTES):
            between()
        if self._exposition.problem:
            raise InvalidPartError(part.uuid, self._text(self._exposition.problem))
        self.families: list[PartFamily] = []
        for start in range(0, self._exposition.family_count, SLICE_ROWS):
            between()
            found = self._exposition.families(start, start + SLICE_ROWS)
            for number, (name, kind, help, first, samples, few_digits) in enumerate(found, start):
                if len(name) > MAX_NAME_BYTES:
                    raise InvalidPartError(part.uuid, f"expected a shorter name than {_shown(name)}")
                if name.startswith(OWN) and not name.startswith(OF_AGENTS):
                    raise InvalidPartError(part.uuid, f"expected no family {_shown(name)}, which is called as pymon's")
                self.families.append(PartFamily(number, name, kind, help, first, samples, few_digits))

    @property
    def samples(self) -> int:
        """Number of samples in the part."""
        return self._exposition.sample_count

    def rows(self, family: PartFamily) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield the samples of a family: name suffix, text between the braces, and value text."""
        end = family.first + family.samples
        for start in range(family.first, end, SLICE_ROWS):
            self._between()
            yield from self._exposition.rows(start, min(start + SLICE_ROWS, end))

    def labelled(self, family: PartFamily, front: bytes) -> bytes:
        """Return the samples of a family as text, with `front` before each sample's own labels.

        Each sample starts with a line feed. Own labels ``uuid`` and ``node`` become ``exported_uuid`` and
        ``exported_node``, as in Prometheus.
        """
        self._between()
        return self._exposition.labelled(family.number, front, _TAKEN)

    def _text(self, problem: tuple[str, int, int, bytes, bytes, bytes]) -> str:
        reason, _, at, line, what, name = problem
        if reason == "suffix":
            ((_, kind, *_),) = self._exposition.families(self._exposition.family_count - 1)
            return f"expected no sample {_shown(what)} of a {kind.decode()}"
        if reason in ("large", "le", "quantile"):
            return f"expected numbers in {_shown(name)}, got {_shown(what)}"
        if reason in ("false_le", "false_quantile"):
            return f"expected no label {reason.removeprefix('false_')} in {_shown(line)}"
        if reason == "label_twice":
            return f"a label comes twice in {_shown(line)}"
        if reason == "series_twice":
            return f"a series comes twice in its exposition, again as {_shown(line)}"
        if reason == "family_twice":
            return f"a family comes twice in its exposition: {_shown(name)}"
        if reason == "utf8":
            return f"its exposition is no UTF-8 at byte {at}: {_shown(line)}"
        return f"expected a family at byte {at} of its exposition, got {_shown(line)}"


def _shown(text: bytes) -> str:
    return shown(text[:_SHOWN_BYTES])
