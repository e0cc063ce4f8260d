"""The highest rates of counters in the last seconds."""

from collections.abc import Sequence

from pymon._native.table import Table

class Peaks:
    """Samples of a number of counters of each container. One thread at a time."""

    series: int
    def __init__(self, series: int) -> None: ...
    def forget(self, row: int) -> None:
        """Forget the container of a row."""
    def take(self, series: int, table: Table, column: str, rows: int, now_ns: int, scale: float) -> None:
        """Take a sample of a counter of every container: a column of a table, summed over the rows of a container.

        now_ns: on a monotonic clock. scale: what rates are multiplied with. A rate needs two samples, at least 0.2 s
        and at most 5 s apart. The GIL is released. IndexError: no such counter. KeyError: no such column.
        """
    def write(self, table: Table, rows: int, windows: Sequence[int], now_ns: int) -> None:
        """Make a table anew: a row for each container, for each counter a column for each window.

        A cell is the highest rate per second of the last `windows` seconds, each at most 60. The GIL is released.
        ValueError: the table has another number of columns.
        """
