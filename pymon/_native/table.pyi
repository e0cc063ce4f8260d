"""Tables of kernel numbers in native memory."""

from collections.abc import Sequence

class Table:
    """A matrix of 64-bit integers with a presence bit for each cell, and a label block for each row.

    Cells hold the kernel's own integers (signed or not, the catalogue knows). A cell that was
    not set is absent, which is not zero. Supports the buffer protocol: a read-only view of shape
    (rows, columns) of 64-bit integers.
    """

    name: str
    columns: tuple[str, ...]
    @property
    def address(self) -> int:
        """Where the pm_table of native/core/table.h is: for modules that are no Cython. Good as long as the Table."""
    def __init__(self, name: str, columns: Sequence[str]) -> None: ...
    def clear(self) -> None:
        """Drop every row. Memory is kept for the next collection."""
    def add_row(self, labels: Sequence[tuple[str, str]] = ()) -> int:
        """Append a row of absent cells with this label block; its index. Labels are escaped here, once."""
    def relabel(self, row: int, labels: Sequence[tuple[str, str]]) -> None:
        """Give a row other labels of its own. Its parent stays."""
    def grow(self, rows: int) -> None:
        """Have at least this many rows, each with the label block of the parent of its index."""
    def unset(self, row: int) -> None:
        """Make the cells of a row absent."""
    def assign(self, other: Table) -> None:
        """Become a copy of a table of the same columns."""
    def assign_row(self, other: Table, row: int) -> None:
        """Become one row: that of a table of the same columns, with the label block of parent 0."""
    def stamp(self, column: str, value: int) -> None:
        """Set a column in every row that has any cell."""
    def set(self, row: int, column: str, value: int) -> None:
        """Set one cell. KeyError on an unknown column; OverflowError outside -2**63 .. 2**64-1."""
    def fill(self, row: int, values: Sequence[int | None], first: int = 0) -> None:
        """Set cells from column index `first`; None leaves a cell absent; what is past the last column is not set."""
    def get(self, row: int, column: str) -> int | None:
        """One cell as an unsigned integer, or None when it is absent."""
    def scan_keyed(self, row: int, data: bytes, field: int = 1) -> int:
        """Set cells from lines of ``key value`` (as meminfo, vmstat, arcstats): the key ends at a colon or blank and is
        matched with the column names; field 1 is the first word after the key. Unknown keys and words that are no
        integers leave cells absent. The number of cells set.
        """
    def scan_rows(self, data: bytes, label: str, skip: int = 0, key: int = 0, first: int = 1) -> int:
        """Append one row for each line after the first `skip`: word number `key` (a trailing colon dropped) becomes the
        value of `label`, the integers from word `first` on fill the columns in order. Short lines leave cells
        absent. The number of rows added.
        """
    def labels(self, row: int) -> bytes:
        """The escaped label block of a row, without braces, each label followed by a comma."""
    def __len__(self) -> int: ...
    def parent(self, row: int) -> int | None:
        """Index of the label block that the renderer puts behind the row's own, or None."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
