"""The native renderer: a compiled catalogue that converts tables to an exposition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Buffer

from pymon._native.table import Table

class Unit(Protocol):
    """How a cell is written: ((value - subtract) * multiply // divide + add) / 10**decimals."""

    @property
    def subtract(self) -> int: ...
    @property
    def multiply(self) -> int: ...
    @property
    def divide(self) -> int: ...
    @property
    def add(self) -> int: ...
    @property
    def decimals(self) -> int: ...
    @property
    def signed(self) -> bool: ...

@dataclass(frozen=True)
class SampleLine:
    """A line for each row of a table.

    table: index of the table. column: of the value. prefix: name, brace and constant labels, each followed by a comma,
    of rows that have labels. bare: the whole of name and labels, of those that have none. minus: a column to subtract,
    with a floor of 0. plus: one to add. when: one that must be present. part: what it is in a histogram, one of
    `PARTS`. bound: of a bucket. created: whether it counts from the creation of its parent. For protocol buffers:
    fields: the constant labels, encoded. For OpenMetrics 2.0: composite: of a bucket its bound and a colon, of a count
    the prefix of the whole histogram.
    """

    table: int
    column: int
    unit: Unit
    prefix: bytes
    bare: bytes
    minus: int | None = None
    plus: int | None = None
    when: int | None = None
    fields: bytes = b""
    part: str = "value"
    bound: float = 0.0
    created: bool = False
    composite: bytes = b""

@dataclass(frozen=True)
class FamilyLines:
    """A family. text, openmetrics, openmetrics2: its metadata lines in each format.

    protobuf: the encoded fields before its metrics. type: the number of its type in MetricType of io.prometheus.client.
    native: of a histogram that is also written as a native one, its schema and the index of the bucket up to the first
    bound. by_row: whether the samples of a row are written together, as those of a histogram must be. They are of one
    table.
    """

    text: bytes
    openmetrics: bytes
    samples: Sequence[SampleLine]
    by_row: bool
    protobuf: bytes = b""
    type: int = 3
    native: tuple[int, int] | None = None
    openmetrics2: bytes = b""

class Body:
    """The bytes of a response in native memory, with the buffer protocol.

    `clear`, `append` and rendering raise BufferError while a memoryview of it exists.
    """

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def clear(self) -> None: ...
    def append(self, data: Buffer) -> None: ...

class Labels:
    """Label blocks of parents by index. A block has no braces and no trailing comma; None for no parent."""

    def __init__(self, blocks: Sequence[bytes | None]) -> None: ...
    def __len__(self) -> int: ...

PARTS: tuple[str, ...]
"""What a sample is in a histogram."""

class Renderer:
    """Families that were compiled once. pymon.exposition.compile makes them."""

    table_count: int
    def __init__(
        self, families: Sequence[FamilyLines], table_count: int, created: tuple[int, int] | None = None
    ) -> None:
        """created: the table, with row i for parent i, and the column of when parents were created.

        The column is in seconds since the epoch. ValueError: a unit or a table that does not fit.
        """

    def render(
        self,
        body: Body,
        tables: Sequence[Table | None],
        labels: Labels | None = None,
        *,
        openmetrics: bool = False,
        protobuf: bool = False,
        openmetrics2: bool = False,
        selected: bytes | None = None,
    ) -> int:
        """Append the exposition of the tables to the body. Returns the number of samples.

        The format is text 0.0.4, unless another one is named; openmetrics: 1.0.0 or 0.0.1, openmetrics2: 2.0.0.
        tables: one for each table index, None to leave out its samples. They must not change during the call. labels:
        label blocks of the parents. selected: one byte for each family, 0 to leave it out; None for all families. The
        GIL is released.
        """

def escape(value: Buffer) -> bytes:
    """Return a label value with escapes for backslash, double quote and newline."""

def decimal(value: int, unit: Unit) -> bytes:
    """Return the text of a cell in this unit. ValueError: `divide` is 0, or there are more than 18 decimals."""
