import gc
import io

import pytest

from pymon._native.table import Table

LARGEST = 2**64 - 1


@pytest.fixture
def table():
    return Table("t", ("x", "y", "z"))


def rows(table):
    return [tuple(table.get(row, column) for column in table.columns) for row in range(len(table))]


def test_cells(table):
    assert len(table) == 0
    assert table.add_row() == 0
    assert table.add_row([("a", "1")]) == 1
    table.set(1, "y", LARGEST)
    table.set(1, "z", -1)
    table.set(0, "x", 0)
    assert rows(table) == [(0, None, None), (None, LARGEST, LARGEST)]
    table.set(0, "x", -(2**63))
    assert table.get(0, "x") == 2**63
    table.unset(1)
    assert rows(table) == [(2**63, None, None), (None, None, None)]
    table.clear()
    assert (len(table), table.add_row(), rows(table)) == (0, 0, [(None, None, None)])


def test_names():
    table = Table("t", iter(["a", "b"]))
    assert (table.name, table.columns) == ("t", ("a", "b"))
    with pytest.raises(ValueError, match="table t: a column is named twice"):
        Table("t", ["a", "b", "a"])
    empty = Table("nothing", [])
    assert (empty.add_row([("a", "b")]), empty.labels(0)) == (0, b'a="b",')
    with pytest.raises(TypeError):
        Table(1, ["a"])


def test_more_columns_than_a_word_of_presence_bits():
    names = [f"c{i}" for i in range(130)]
    table = Table("t", names)
    for row in range(50):
        table.fill(table.add_row(), [row * i if i % 3 else None for i in range(130)])
    assert rows(table) == [tuple(row * i if i % 3 else None for i in range(130)) for row in range(50)]


def test_fill(table):
    table.fill(table.add_row(), [1, None, 3, 4, 5])
    table.fill(table.add_row(), [7, 8, 9], 1)
    table.fill(table.add_row(), [7], 3)
    table.fill(table.add_row(), ())
    assert rows(table) == [(1, None, 3), (None, 7, 8), (None, None, None), (None, None, None)]


def test_wrong_cells_and_rows(table):
    table.add_row()
    for wrong in (2**64, -(2**63) - 1):
        with pytest.raises(OverflowError):
            table.set(0, "x", wrong)
        with pytest.raises(OverflowError):
            table.fill(0, [wrong])
    for wrong in ("1", None, 1.5j):
        with pytest.raises(TypeError):
            table.set(0, "x", wrong)
    with pytest.raises(KeyError):
        table.set(0, "none", 1)
    with pytest.raises(KeyError):
        table.get(0, "none")
    for row in (1, -1, 2**40):
        for call in (
            lambda row: table.set(row, "x", 1),
            lambda row: table.get(row, "x"),
            lambda row: table.fill(row, [1]),
            lambda row: table.scan_keyed(row, b"x 1\n"),
            table.labels,
            table.parent,
            table.unset,
            lambda row: Table("u", table.columns).assign_row(table, row),
        ):
            with pytest.raises(IndexError, match=f"table t: no row {row}"):
                call(row)
    with pytest.raises(OverflowError):
        table.fill(0, [1], -1)
    with pytest.raises(OverflowError):
        table.grow(2**32)
    with pytest.raises(MemoryError):
        table.grow(2**32 - 1)
    assert rows(table) == [(None, None, None)]


def test_labels_and_parents(table):
    table.add_row([("a", 'q"\\\n'), ("b", "é\udcff"), ("c", "")])
    table.add_row()
    assert table.labels(0) == 'a="q\\"\\\\\\n",b="é\\\\xff",c="",'.encode()
    assert table.labels(1) == b""
    assert (table.parent(0), table.parent(1)) == (None, None)
    table.grow(4)
    assert [table.parent(row) for row in range(4)] == [None, None, 2, 3]
    table.grow(2)
    assert len(table) == 4


@pytest.mark.parametrize(("label", "error"), [
    (("a", 1), TypeError),
    (("a", None), (TypeError, AttributeError)),
    ((b"a", "x"), TypeError),
    (("a", "\ud800"), UnicodeEncodeError),
    (("a",), ValueError),
])  # fmt: skip
def test_a_row_with_a_wrong_label_is_not_added(table, label, error):
    with pytest.raises(error):
        table.add_row([("good", "1"), label])
    assert len(table) == 0


def test_relabel(table):
    for i in range(3):
        table.add_row([("a", str(i))])
    table.grow(4)
    table.relabel(1, [("a", '"'), ("b", "longer than it was")])
    table.relabel(3, [("c", "\udcff")])
    table.relabel(2, [])
    assert [table.labels(row) for row in range(4)] == [
        b'a="0",', b'a="\\"",b="longer than it was",', b"", b'c="\\\\xff",',
    ]  # fmt: skip
    assert table.parent(3) == 3
    with pytest.raises(IndexError, match="table t: no row 4"):
        table.relabel(4, [])
    with pytest.raises(TypeError):
        table.relabel(0, [("good", "1"), ("a", 1)])
    assert table.labels(0) == b'a="0",'


def test_an_address_is_that_of_one_table(table):
    assert table.address == table.address != Table("t", ["x"]).address


def test_stamp(table):
    table.fill(table.add_row(), [1])
    table.add_row()
    table.fill(table.add_row(), [None, 2, 3])
    table.stamp("z", 9)
    assert rows(table) == [(1, None, 9), (None, None, None), (None, 2, 9)]
    with pytest.raises(KeyError):
        table.stamp("none", 1)
    with pytest.raises(OverflowError):
        table.stamp("x", 2**64)


def test_copies(table):
    table.fill(table.add_row([("a", "1")]), [1, 2, 3])
    table.fill(table.add_row([("a", "2")]), [None, 5])
    other = Table("other", table.columns)
    other.grow(100)
    other.assign(table)
    assert (rows(other), other.labels(1), other.parent(1)) == (rows(table), b'a="2",', None)
    other.assign_row(table, 1)
    assert (rows(other), other.labels(0), other.parent(0)) == ([(None, 5, None)], b'a="2",', 0)
    table.clear()
    other.assign(table)
    assert len(other) == 0
    stranger = Table("stranger", ("x", "y"))
    for copy in (lambda: stranger.assign(table), lambda: stranger.assign_row(table, 0)):
        with pytest.raises(ValueError, match="table t has other columns than stranger"):
            copy()
    with pytest.raises(TypeError):
        table.assign(None)
    with pytest.raises(TypeError):
        table.assign([1])


def test_scan_keyed(table):
    table.add_row()
    assert table.scan_keyed(0, b"x 1\ny: 2 kB\nunknown 3\nz word\n") == 2
    assert rows(table) == [(1, 2, None)]
    assert table.scan_keyed(0, b"") == 0
    assert table.scan_keyed(0, bytearray(b"z 4 17\n"), 2) == 1
    assert table.scan_keyed(0, memoryview(b"x 5\ny 6")) == 1
    assert rows(table) == [(5, 2, 17)]
    with pytest.raises(TypeError):
        table.scan_keyed(0, "x 1\n")


def test_scan_rows(table):
    assert table.scan_rows(b"head\n a: 1 2 3 4\nb 5\n", "name", skip=1) == 2
    assert table.scan_rows(b"8 0 sda 6 x 7\n", "device", key=2, first=3) == 1
    assert table.scan_rows(b"", "name") == 0
    assert rows(table) == [(1, 2, 3), (5, None, None), (6, None, 7)]
    assert [table.labels(row) for row in range(3)] == [b'name="a",', b'name="b",', b'device="sda",']


def test_the_buffer(table):
    for row in range(3):
        table.fill(table.add_row(), [10 * row + i for i in range(3)])
    view = memoryview(table)
    assert (view.readonly, view.format, view.itemsize, view.ndim) == (True, "Q", 8, 2)
    assert (view.shape, view.strides, view.nbytes, view.c_contiguous) == ((3, 3), (24, 8), 72, True)
    assert view.tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert view[2, 1] == 21
    with pytest.raises(TypeError, match="read-only"):
        view[0, 0] = 1
    with pytest.raises((BufferError, TypeError)):
        io.BytesIO(b"12345678").readinto(table)


def test_the_buffer_of_no_rows(table):
    with memoryview(table) as view:
        assert (view.shape, view.nbytes, view.tobytes()) == ((0, 3), 0, b"")
    assert memoryview(Table("t", [])).nbytes == 0


def test_a_lent_table_keeps_its_rows(table):
    table.fill(table.add_row(), [1, 2, 3])
    other = Table("other", table.columns)
    views = [memoryview(table), memoryview(table)]
    changes = [
        table.clear,
        table.add_row,
        lambda: table.grow(5),
        lambda: table.relabel(0, []),
        lambda: table.assign(other),
        lambda: table.assign_row(table, 0),
        lambda: table.scan_rows(b"a 1\n", "n"),
    ]
    for view in views:
        for change in changes:
            with pytest.raises(BufferError, match="table t is lent"):
                change()
        assert view.tolist() == [[1, 2, 3]]
        view.release()
    table.clear()
    assert len(table) == 0


def test_a_view_keeps_the_memory():
    table = Table("t", ("x",))
    table.fill(table.add_row(), [7])
    view = memoryview(table)
    del table
    gc.collect()
    assert view.tolist() == [[7]]
