"""The compiled catalogue: tables in, exposition bytes out."""

from collections.abc import Sequence
from typing import TypeAlias

from typing_extensions import Buffer

from pymon._native.table import Table

Scale: TypeAlias = tuple[int, int, int, int, int, bool]
SampleTuple: TypeAlias = tuple[int, int, int | None, int | None, int | None, Scale, bytes, bytes]
FamilyTuple: TypeAlias = tuple[bytes, bytes, Sequence[SampleTuple]]

class Body:
    """Bytes of a response in native memory, lent through the buffer protocol; refuses to change while lent."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def clear(self) -> None: ...
    def append(self, data: Buffer) -> None: ...

class Labels:
    """Label blocks of parents by index, taken once: block i is bytes without braces and end comma, or None."""

    def __init__(self, blocks: Sequence[bytes | None]) -> None: ...
    def __len__(self) -> int: ...

class Renderer:
    """Families compiled once. pymon.exposition.compile makes the tuples."""

    table_count: int
    def __init__(self, families: Sequence[FamilyTuple], table_count: int) -> None: ...
    def render(
        self,
        body: Body,
        tables: Sequence[Table | None],
        labels: Labels | None = None,
        *,
        openmetrics: bool = False,
        selected: bytes | None = None,
    ) -> int:
        """Append the exposition of the tables to the body; the number of sample lines."""

def escape(value: Buffer) -> bytes:
    """A label value with backslash, double quote and newline escaped."""

def decimal(value: int, scale: Scale) -> bytes:
    """Text of a cell scaled by (subtract, multiply, divide, add, decimals, signed)."""
