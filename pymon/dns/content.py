"""The content of a zone as a mapping that makes the records when asked."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator
from typing import TypeAlias

from pymon.dns.rrsets import Content, Record

Walk: TypeAlias = Callable[[], Iterator[tuple[str, tuple[Record, ...]]]]


class LiveContent(Content):
    """The content as it is now. get: the records of a name, none when it is not there; walk: all names with theirs."""

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
        return (name for name, _ in self._walk())

    def __len__(self) -> int:
        return self._size()

    def items(self) -> ItemsView[str, tuple[Record, ...]]:
        """In one walk, as each look-up would make its records anew."""
        return _Items(self, self._walk)


class _Items(ItemsView[str, tuple[Record, ...]]):
    def __init__(self, content: Content, walk: Walk) -> None:
        super().__init__(content)
        self._walk = walk

    def __iter__(self) -> Iterator[tuple[str, tuple[Record, ...]]]:
        return self._walk()
