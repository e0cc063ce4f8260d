"""The content of a zone as a mapping that makes the records when asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, ItemsView, Iterator
from itertools import islice
from typing import TypeAlias

from pymon.dns.rrsets import Content, Record

Group: TypeAlias = tuple[Collection[str], Collection[str], tuple[Record, ...]]
"""Names that have the same records: each of the first with each of the second behind it."""

WHOLE = ("",)
"""Behind names that are whole."""

Walk: TypeAlias = Callable[[], Iterator[Group]]


class LiveContent(Content):
    """The content as it is now. get: the records of a name, none when it is not there; walk: all names with theirs, the
    zone's own first. Names that change during a walk are seen as they were or are at one moment of it.
    """

    def __init__(self, get: Callable[[str], tuple[Record, ...]], walk: Walk, size: Callable[[], int]) -> None:
        self._get = get
        self._walk = walk
        self._size = size

    def __getitem__(self, name: str) -> tuple[Record, ...]:
        found = self._get(name)
        if not found:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return self._size()

    def items(self) -> ItemsView[str, tuple[Record, ...]]:
        """In one walk, as each look-up would make its records anew."""
        return _Items(self, self._walk)

    def groups(self) -> Iterator[Group]:
        """All names but the zone's own, those with the same records together."""
        return islice(self._walk(), 1, None)


class _Items(ItemsView[str, tuple[Record, ...]]):
    def __init__(self, content: Content, walk: Walk) -> None:
        super().__init__(content)
        self._walk = walk

    def __iter__(self) -> Iterator[tuple[str, tuple[Record, ...]]]:
        for labels, suffixes, records in self._walk():
            for suffix in suffixes:
                for label in labels:
                    yield label + suffix, records


def groups(content: Content, origin: str) -> Iterator[Group]:
    """The same of any content of a zone with this name."""
    if isinstance(content, LiveContent):
        return content.groups()
    return (((name,), WHOLE, records) for name, records in content.items() if name != origin)
