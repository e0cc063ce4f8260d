"""Tables of kernel numbers in native memory."""

from collections.abc import Collection, Sequence

class Table:
    """A matrix of 64-bit integers with a presence bit per cell and a label block per row.

    Cells hold the kernel's integers unchanged. The catalogue says whether a column is signed. A cell that was not set
    is absent, which is different from zero. The buffer protocol gives a read-only view of shape (rows, columns) of
    64-bit integers.
    """

    name: str
    columns: tuple[str, ...]
    @property
    def address(self) -> int:
        """Address of the pm_table (native/core/table.h), for native modules that do not use Cython.

        It is valid for the lifetime of this object.
        """
    malformed: bool
    """Whether the last scan found a word that is no number of its column."""
    def __init__(self, name: str, columns: Sequence[str], negative: Collection[str] = ()) -> None:
        """negative: columns whose number may be so in a file that is scanned. In others such a number is malformed."""

    def clear(self) -> None:
        """Remove all rows. The memory is kept for the next collection."""
    def add_row(self, labels: Sequence[tuple[str, str]] = ()) -> int:
        """Append a row of absent cells with the given labels, which are escaped here. Returns the row's index."""
    def relabel(self, row: int, labels: Sequence[tuple[str, str]]) -> None:
        """Replace the row's own labels. The parent of the row is unchanged."""
    def drop_repeated(self) -> None:
        """Remove rows that have the labels of an earlier row."""
    def grow(self, rows: int) -> None:
        """Append rows until the table has at least `rows`. The parent of each new row is its own index."""
    def unset(self, row: int) -> None:
        """Make all cells of a row absent."""
    def assign(self, other: Table) -> None:
        """Replace the content by a copy of `other`, a table with the same columns."""
    def assign_row(self, other: Table, row: int) -> None:
        """Replace the content by one row of `other`, a table with the same columns, with its own labels.

        The parent of the row is 0.
        """
    def stamp(self, column: str, value: int) -> None:
        """Set `column` to `value` in every row that has at least one cell set."""
    def set(self, row: int, column: str, value: int) -> None:
        """Set one cell. Raises KeyError for an unknown column, OverflowError outside -2**63 .. 2**64-1."""
    def fill(self, row: int, values: Sequence[int | None], first: int = 0) -> None:
        """Set consecutive cells from column index `first` on.

        None leaves a cell absent. Values past the last column are ignored.
        """
    def get(self, row: int, column: str) -> int | None:
        """Return one cell as an unsigned integer, or None when it is absent."""
    def scan_keyed(self, row: int, data: bytes, field: int = 1) -> int:
        """Set cells from lines of ``key value``, as in meminfo, vmstat and arcstats. Returns the number of cells set.

        A key ends at a colon or blank and names a column. field: the word to take; 1 is the first word after the key.
        Unknown keys are ignored. A word that is not an integer leaves its cell absent.
        """
    def scan_rows(self, data: bytes, label: str, skip: int = 0, key: int = 0, first: int = 1) -> int:
        """Append one row for each line after the first `skip` lines. Returns the number of rows added.

        Word number `key`, up to its last colon, is the value of the label `label`. Of lines with the same one, the
        first counts. What follows the colon, and the integers from word number
        `first` on fill the columns in order. A short line leaves the remaining cells absent.
        """
    def labels(self, row: int) -> bytes:
        """Return the row's own escaped label block: without braces, each label followed by a comma."""
    def __len__(self) -> int: ...
    def parent(self, row: int) -> int | None:
        """Return the index of the label block that the renderer appends to the row's own labels, or None."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
