"""Averages of numbers that decay."""

from collections.abc import Sequence

from pymon._native.table import Table

class Loads:
    """Averages of a number of numbers of each container. One thread at a time."""

    series: int
    def __init__(self, series: int) -> None: ...
    def forget(self, row: int) -> None:
        """Forget the container of a row."""
    def take(self, table: Table, columns: Sequence[str], rows: int, keep: float) -> None:
        """Take a sample of every container: columns of a table that has a row for each, one for each number.

        keep: the share, of 0 to 1, that the average before has in the new one. The first number of a container is its
        average. The GIL is released. KeyError: no such column. ValueError: another number of columns.
        """
    def write(self, table: Table, rows: int) -> None:
        """Make a table anew: a row for each container, a column for each average, in thousandths.

        The GIL is released. ValueError: the table has another number of columns.
        """
