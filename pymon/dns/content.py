"""The content of a zone as a mapping that makes records on demand."""

from __future__ import annotations

from collections.abc import Callable, Collection, ItemsView, Iterator
from itertools import islice
from typing import TypeAlias

from pymon.dns.rrsets import Content, Record

Group: TypeAlias = tuple[Collection[str], Collection[str], tuple[Record, ...]]
"""(labels, suffixes, records): names with the same records. A name is any of the labels followed by any suffix."""

WHOLE = ("",)
"""The suffixes of a group whose labels are complete names."""

Walk: TypeAlias = Callable[[], Iterator[Group]]


class LiveContent(Content):
    """The current content of a zone.

    get: returns the records of a name, () if the name does not exist. walk: yields all names with their records, the
    zone's own name first. size: returns the number of names. A name that changes during a walk is seen in its old or
    its new state.
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
        """Return the names and their records from one walk, which is cheaper than one look-up for each name."""
        return _Items(self, self._walk)

    def groups(self) -> Iterator[Group]:
        """Yield all names except the zone's own, in groups that have the same records."""
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
    """Yield the groups of any content of the zone `origin`, without the zone's own name."""
    if isinstance(content, LiveContent):
        return content.groups()
    return (((name,), WHOLE, records) for name, records in content.items() if name != origin)
