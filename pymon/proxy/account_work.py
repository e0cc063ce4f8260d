"""Combines the expositions of an account's containers, in steps and within limits. No I/O; clocks are arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pymon.exposition.compression import gzip_pieces, pack, unpack
from pymon.exposition.header import openmetrics_header, text_header
from pymon.exposition.negotiation import Format
from pymon.exposition.own_text import in_format
from pymon.proxy.aggregate import Adder, By, Merger
from pymon.proxy.part import InvalidPartError, Part
from pymon.service_labels import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from pymon.proxy.places import Place

MAX_PART_BYTES = 1 << 20
"""Limit of one container's exposition. A container above it counts as failed."""

MAX_PART_ADDENDS = 250_000
MAX_PART_SUM_BYTES = 16 << 20
"""Limits of one container: its lines, and its bytes, each times the number of sums (services or groups) that they go
to."""

MAX_ADDENDS = 10_000_000
"""Limit of lines times sums over all containers of an answer."""

MAX_SERIES = 75_000
"""Limit of the sums in an answer."""

MAX_WRITTEN_BYTES = 256 << 20
"""Limit of an answer before compression."""

PLAIN_BYTES = 8 << 20
PACKED_MAX_BYTES = 1 << 18
"""Above so many bytes of an answer, containers' expositions are kept compressed until they are put together, but for
larger ones, whose compression would block the event loop."""

PIECE_BYTES = 1 << 18
"""The answer is written in pieces of about this size."""

OUTSIZED = 4.0
"""When a limit is exceeded, a node is left out if its containers average this many times the metrics of the others."""

_WRITE_BYTES = 65536
_SUCCESS = ("pymon_container_scrape_success", "gauge", "Whether the container's metrics could be read.")


class TooLargeError(ValueError):
    """An answer would exceed a limit. The text says which."""


def outsized(sizes: Mapping[str, tuple[int, int]]) -> str | None:
    """Return the node with the largest containers if they average more than `OUTSIZED` times the others, else None.

    sizes: by node, the total size and the number of its containers.
    """
    if len(sizes) < 2:  # noqa: PLR2004
        return None
    node = max(sorted(sizes), key=lambda node: sizes[node][0] / max(1, sizes[node][1]))
    size, count = sizes[node]
    others = sum(size for size, _ in sizes.values()) - size
    other_count = sum(count for _, count in sizes.values()) - count
    return node if size * max(1, other_count) > OUTSIZED * others * max(1, count) else None


class Kept(msgspec.Struct, frozen=True, gc=False):
    """The exposition of a container. data: its text, compressed if `packed`. size, lines: of the text."""

    data: bytes
    size: int
    lines: int
    packed: bool = False

    @property
    def text(self) -> bytes:
        """The part as it was put in, uncompressed."""
        return unpack(self.data) if self.packed else self.data


_DONE = Kept(b"", 0, 0)


class Parts:
    """The fetched expositions. bodies: by container UUID, None for a failed one. problem: the first failure's text."""

    def __init__(self) -> None:
        self.bodies: dict[str, Kept | None] = {}
        self.problem = ""
        self.size = 0
        """Total bytes of the bodies as they are kept."""
        self.too_large = 0
        """Number of containers that failed because they are too large."""
        self._nodes: dict[str, str] = {}

    def put(self, uuid: str, node: str, body: bytes) -> None:
        """Store a container's exposition, or refuse it when it exceeds `MAX_PART_BYTES`."""
        if len(body) > MAX_PART_BYTES:
            problem = f"its metrics have {len(body)} bytes, more than {MAX_PART_BYTES}"
            self.refuse(uuid, f"container {uuid}: node {node}: {problem}")
            return
        packed = self.size > PLAIN_BYTES and len(body) <= PACKED_MAX_BYTES
        kept = Kept(pack(body) if packed else body, len(body), body.count(b"\n"), packed)
        self.bodies[uuid] = kept
        self._nodes[uuid] = node
        self.size += len(kept.data)

    def take(self, uuid: str) -> bytes:
        """Return the text of a container's exposition, which is not kept any more. The container has not failed."""
        kept = self.bodies[uuid] or _DONE
        self.bodies[uuid] = _DONE
        self.size -= len(kept.data)
        return kept.text

    def fail(self, uuid: str, problem: str) -> None:
        """Mark a container as failed and drop its exposition."""
        self.size -= len((self.bodies.get(uuid) or _DONE).data)
        self.bodies[uuid] = None
        self._nodes.pop(uuid, None)
        self.problem = self.problem or problem

    def refuse(self, uuid: str, problem: str) -> None:
        """Mark a container as failed because its exposition is too large."""
        self.too_large += 1
        self.fail(uuid, problem)

    def give_way(self, most: int) -> bool:
        """Drop outsized nodes until at most `most` bytes are left. Return False when that is not enough."""
        while self.size > most:
            sizes: dict[str, tuple[int, int]] = {}
            for uuid, node in self._nodes.items():
                size, count = sizes.get(node, (0, 0))
                sizes[node] = size + len((self.bodies[uuid] or _DONE).data), count + 1
            node = outsized(sizes) or ""
            if not node:
                return False
            self.drop(node)
        return True

    def clear(self) -> None:
        """Free everything. An exception and the frames that it has passed refer to each other, and would keep it."""
        self.bodies.clear()
        self.size = 0

    def drop(self, node: str) -> None:
        """Refuse all containers of a node as too large."""
        for uuid in [uuid for uuid, of in self._nodes.items() if of == node]:
            self.refuse(uuid, f"container {uuid}: node {node}: its containers' metrics are too large")


class Work:
    """Combines all parts into one exposition. An invalid or too large part counts as failed.

    places: in the order of the answer. by: the label to sum by, None for no sums. until: the deadline, by `clock`.
    clock: returns seconds. most: limit of the bytes held. form: a text format.
    """

    def __init__(
        self,
        places: Iterable[Place],
        parts: Parts,
        by: By | None,
        *,
        until: float,
        clock: Callable[[], float],
        most: int,
        gzip: bool = False,
        form: Format = Format.TEXT_0_0_4,
    ) -> None:
        self._form = form
        self._places = [place for place in places if parts.bodies.get(place.container.uuid) is not None]
        self._parts = parts
        self._by = by
        self._compress = gzip_pieces() if gzip else None
        self._until = until
        self._clock = clock
        self._most = most
        self._whole: Merger | Adder = Merger(form=form) if by is None else Adder(by, form=form)
        self._out = bytearray()
        self._written = 0
        self._rest: Iterator[bytes] = iter(())

    @property
    def held_bytes(self) -> int:
        """Bytes held now by the parts, by the combined samples, and by the answer."""
        return self._parts.size + self._whole.held_bytes + len(self._out)

    def clear(self) -> None:
        """Free everything, as `Parts.clear` does."""
        self._parts.clear()
        self._whole.clear()
        self._out.clear()

    def combining(self) -> Generator[str, None, None]:
        """Put the parts together in steps, before `writing`. Raises TooLargeError.

        Each step yields the name of the node whose part the next step reads, "" for none.
        """
        self._bound()
        yield ""
        yield from self._add_all()
        if self._parts.bodies or self._form.end:
            self._rest = _batches(self._pieces())

    def writing(self, size: int = PIECE_BYTES) -> Generator[str, None, tuple[bytes, bool]]:
        """Write the next `size` bytes of the answer, or a few more, in steps like those of `combining`.

        Return them, and whether they are the last. Raises TooLargeError.
        """
        for piece in self._rest:
            self._written += len(piece)
            if self._written > MAX_WRITTEN_BYTES:
                raise TooLargeError(f"the answer has more than {MAX_WRITTEN_BYTES} bytes before it is compressed")
            self._out += piece if self._compress is None else self._compress.compress(piece)
            self._check()
            if len(self._out) >= size:
                return self._taken(), False
            yield ""
        if self._compress is not None:
            self._out += self._compress.flush()
        return self._taken(), True

    def _taken(self) -> bytes:
        taken = bytes(self._out)
        self._out.clear()
        return taken

    def _bound(self) -> None:
        """Refuse what exceeds the limits by its size alone, before parsing. Raises TooLargeError."""
        total, places = 0, []
        sizes: dict[str, tuple[int, int]] = {}
        addends_of: dict[str, int] = {}
        for place in self._places:
            uuid, node = place.container.uuid, place.node.name
            kept = self._parts.bodies[uuid] or _DONE
            keys = len(Adder.keys_of(self._part(place, b""), self._by)) if self._by else 1
            addends, written = kept.lines * keys, kept.size * keys
            if addends > MAX_PART_ADDENDS or written > MAX_PART_SUM_BYTES:
                what = f"{addends} series" if addends > MAX_PART_ADDENDS else f"{written} bytes"
                most = MAX_PART_ADDENDS if addends > MAX_PART_ADDENDS else MAX_PART_SUM_BYTES
                problem = f"its metrics come to {what}, more than {most}"
                self._parts.refuse(uuid, f"container {uuid}: node {node}: {problem}")
                continue
            places.append(place)
            addends_of[node] = addends_of.get(node, 0) + addends
            size, count = sizes.get(node, (0, 0))
            sizes[node] = size + addends, count + 1
            total += addends
        while total > MAX_ADDENDS:
            node = outsized(sizes) or ""
            if not node:
                raise TooLargeError(f"{total} series are to be put together, more than {MAX_ADDENDS}")
            total -= sizes.pop(node)[0]
            self._parts.drop(node)
        self._places = [place for place in places if place.node.name in sizes]

    def _part(self, place: Place, body: bytes) -> Part:
        container = place.container
        return Part(container.uuid, place.node.name, body, parse(container.services).labels, tuple(container.groups))

    def _add_all(self) -> Generator[str, None, None]:
        """Add the parts one by one. A node that used half of the remaining time gets no more of it."""
        whole, parts, clock = self._whole, self._parts, self._clock
        spent: dict[str, float] = {}
        begin = clock()
        several = len({place.node.name for place in self._places}) > 1
        for place in self._places:
            uuid, node = place.container.uuid, place.node.name
            if several and spent.get(node, 0.0) > (self._until - begin) / 2:
                parts.fail(uuid, f"container {uuid}: node {node}: its containers' metrics take too long")
                continue
            # A Merger counts the text in its own bytes, and an Adder does not keep it.
            part = self._part(place, parts.take(uuid))
            try:
                at = clock()
                for _ in whole.adding(part):
                    self._check()
                    spent[node] = spent.get(node, 0.0) + clock() - at
                    yield node
                    at = clock()
                spent[node] = spent.get(node, 0.0) + clock() - at
            except InvalidPartError as error:
                parts.fail(uuid, str(error))
                continue
            self._check()

    def _pieces(self) -> Generator[bytes, None, None]:
        yield from self._whole.pieces()
        header = (openmetrics_header if self._form.openmetrics else text_header)(*_SUCCESS)
        lines = [
            b'pymon_container_scrape_success{uuid="%b"} %d\n' % (uuid.encode(), body is not None)
            for uuid, body in sorted(self._parts.bodies.items())
        ]
        if lines:
            yield in_format(header + b"".join(lines), self._form)
        yield self._form.end

    def _check(self) -> None:
        whole = self._whole
        if isinstance(whole, Adder) and whole.series > MAX_SERIES:
            raise TooLargeError(f"by={self._by} gives more than {MAX_SERIES} series")
        if self.held_bytes > self._most:
            raise TooLargeError(f"putting the answer together takes more than {self._most} bytes")


def _batches(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces into pieces of at least `_WRITE_BYTES`, except the last."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _WRITE_BYTES:
            yield b"".join(batch)
            batch.clear()
            size = 0
    yield b"".join(batch)
