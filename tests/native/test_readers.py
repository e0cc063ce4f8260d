import gc
import os
import select
import time
from pathlib import Path

import pytest

from pymon._native.readers import (
    Mailbox,
    PlanFile,
    PlanTarget,
    Reader,
    Result,
    Ticket,
    is_keyed,
    monotonic_ns,
)
from pymon._native.table import Table

FOREVER = 2**62
COLUMNS = ("current", "anon", "file", "max")
ONE = [PlanTarget(0)]
FILES = (
    PlanFile("current", "value", ONE),
    PlanFile("stat", "flat", ONE, keys=[("anon", 1), ("file", 2)]),
    PlanFile("max", "limit", ONE, slow=True, column=3),
)


def write_group(path, number):
    path.mkdir(parents=True, exist_ok=True)
    (path / "current").write_text(f"{number}0\n")
    (path / "stat").write_text(f"anon {number}1\nfile {number}2\n")
    (path / "max").write_text(f"{number}3\n")


def values(number):
    return tuple(10 * number + i for i in range(4))


def wait(mailbox, timeout=60):
    """The next finished ticket."""
    assert select.select([mailbox], [], [], timeout)[0], "no ticket came"
    return mailbox.take()


def collect(mailbox, reader, rows, deadline_ns=FOREVER):
    tables = reader.new_tables()
    ticket = mailbox.collect([(reader, tables)], deadline_ns, rows)
    assert wait(mailbox) is ticket
    assert ticket.done
    assert [result.done for result in ticket.results] == [True]
    return tables, ticket.results[0]


def cells(table):
    found = {row: tuple(table.get(row, column) for column in table.columns) for row in range(len(table))}
    return {row: of_row for row, of_row in found.items() if any(cell is not None for cell in of_row)}


def descriptors(thread=None):
    """Open descriptors of a thread's table; without one, of this thread's."""
    directory = Path("/proc/thread-self/fd" if thread is None else f"/proc/self/task/{thread}/fd")
    return len(list(directory.iterdir()))


def threads():
    return {int(entry.name) for entry in Path("/proc/self/task").iterdir()}


def threads_are(expected, timeout=10):
    """Whether these are the threads now or soon: the kernel lists one for a moment after it was joined."""
    deadline = time.monotonic() + timeout
    while threads() != expected and time.monotonic() < deadline:
        os.sched_yield()
    return threads() == expected


@pytest.fixture
def mailbox():
    return Mailbox()


@pytest.fixture
def start(tmp_path, mailbox):
    """Start a reader over tmp_path/cgroup."""
    readers = []
    (tmp_path / "cgroup").mkdir()

    def start(name="memory", **arguments):
        options = {
            "roots": [str(tmp_path / "cgroup")],
            "procfs": str(tmp_path / "proc"),
            "sysfs": str(tmp_path / "sys"),
            "files": FILES,
            "layout": [("t", COLUMNS)],
            "budget": 1000,
            "slow_seconds": 3600,
        }
        readers.append(Reader(name, mailbox, **(options | arguments)))
        return readers[-1]

    yield start
    for reader in readers:
        reader.close()


def test_containers_come_and_go(tmp_path, mailbox, start):
    for name, number in (("a", 1), ("b/c", 2), ("", 3)):
        write_group(tmp_path / "cgroup" / name, number)
    reader = start()
    assert (reader.name, reader.layout, reader.shares_descriptors) == ("memory", (("t", COLUMNS),), False)
    reader.add(0, "a", 0)
    reader.add(3, "b/c", 0)
    reader.add(1, "", 0)
    (table,), result = collect(mailbox, reader, 4)
    assert cells(table) == {0: values(1), 3: values(2), 1: values(3)}
    assert [table.parent(row) for row in range(4)] == [0, 1, 2, 3]
    assert result.failures == {}
    assert 0 < result.seconds < 60
    assert reader.open_descriptors == 6
    reader.remove(0)
    reader.add(3, "a", 0)
    assert cells(collect(mailbox, reader, 4)[0][0]) == {1: values(3), 3: values(1)}
    assert reader.open_descriptors == 4


def test_one_row(tmp_path, mailbox, start):
    write_group(tmp_path / "cgroup/a", 1)
    reader = start()
    reader.add(7, "a", 0)
    tables = reader.new_tables()
    for row, expected in ((7, {0: values(1)}), (3, {}), (2**31, {})):
        mailbox.collect_row([(reader, tables)], FOREVER, row)
        wait(mailbox)
        assert (len(tables[0]), cells(tables[0])) == (1, expected)


def test_settings_are_read_rarely_and_after_a_refresh(tmp_path, mailbox, start):
    write_group(tmp_path / "cgroup/a", 1)
    reader = start()
    reader.add(0, "a", 0)
    ticket = mailbox.collect([(reader, [None])], FOREVER, 1)
    assert wait(mailbox) is ticket
    write_group(tmp_path / "cgroup/a", 2)
    assert cells(collect(mailbox, reader, 1)[0][0]) == {0: (20, 21, 22, 13)}, "the setting was read when it was due"
    reader.refresh(0)
    assert cells(collect(mailbox, reader, 1)[0][0]) == {0: values(2)}
    (tmp_path / "cgroup/a/max").write_text("max\n")
    reader.refresh(0)
    assert cells(collect(mailbox, reader, 1)[0][0]) == {0: (20, 21, 22, None)}


def test_failures(tmp_path, mailbox, start):
    group = tmp_path / "cgroup/a"
    write_group(group, 1)
    (group / "current").write_text("word\n")
    (group / "stat").write_text("anon 1\nfile")
    (group / "max").unlink()
    (group / "max").mkdir()
    reader = start()
    reader.add(0, "a", 0)
    (table,), result = collect(mailbox, reader, 1)
    assert result.failures == {"malformed": 1, "truncated": 1, "errno": 1}
    assert cells(table) == {0: (None, 1, None, None)}
    (table,), result = collect(mailbox, reader, 1, deadline_ns=monotonic_ns() - 1)
    assert result.failures == {"deadline": 1}
    assert (len(table), cells(table)) == (1, {})


def test_a_late_ticket_belongs_to_the_reader_until_it_is_done(tmp_path, mailbox, start):
    write_group(tmp_path / "cgroup/a", 1)
    reader = start()
    reader.add(0, "a", 0)
    tickets = [mailbox.collect([(reader, reader.new_tables())], FOREVER, 1) for _ in range(20)]
    seen = [wait(mailbox) for _ in tickets]
    assert seen == tickets, "in the order they were posted"
    assert mailbox.take() is None
    assert select.select([mailbox], [], [], 0)[0] == []


def test_one_ticket_for_two_readers(tmp_path, mailbox, start):
    write_group(tmp_path / "cgroup/a", 1)
    readers = [start("one"), start("two")]
    jobs = [(reader, reader.new_tables()) for reader in readers]
    for reader in readers:
        reader.add(0, "a", 0)
    ticket = mailbox.collect(jobs, FOREVER, 1)
    assert wait(mailbox) is ticket
    assert len(ticket.results) == 2
    assert [cells(tables[0]) for _, tables in jobs] == [{0: values(1)}] * 2


def test_the_thread_has_a_descriptor_table_of_its_own(tmp_path, mailbox, start):
    for i in range(50):
        write_group(tmp_path / f"cgroup/{i}", i)
    before, others = descriptors(), threads()
    reader = start()
    for i in range(50):
        reader.add(i, str(i), 0)
    collect(mailbox, reader, 50)
    assert reader.open_descriptors == 100
    assert descriptors() == before
    (thread,) = threads() - others
    standard_and_own = 3 + 1 + 3  # the mailbox; the root, procfs and sysfs at most
    assert 100 < descriptors(thread) <= 100 + standard_and_own
    paths = {str(entry.readlink()) for entry in Path(f"/proc/self/task/{thread}/fd").iterdir() if int(entry.name) > 2}
    foreign = [path for path in paths if not path.startswith((str(tmp_path), "anon_inode:[eventfd]"))]
    assert foreign == [], "nothing of the process stays open in it"


@pytest.mark.parametrize("budget", [0, 1, 5, 7, 12, 1000])
def test_a_budget_changes_no_value(tmp_path, mailbox, start, budget):
    reader = start(budget=budget)
    for i in range(6):
        write_group(tmp_path / f"cgroup/{i}", i)
        reader.add(i, str(i), 0)
        (table,), result = collect(mailbox, reader, i + 1)
        assert cells(table) == {row: values(row) for row in range(i + 1)}
        assert result.failures == {}
        assert reader.open_descriptors == min(budget, 2 * (i + 1))


def test_nothing_stays_open(tmp_path, mailbox, start):
    for i in range(10):
        write_group(tmp_path / f"cgroup/{i}", i)
    others = threads()
    reader = start()
    (thread,) = threads() - others
    idle = descriptors(thread)
    for round_ in range(50):
        for i in range(10):
            reader.add((i + round_) % 16, str(i), round_)
        collect(mailbox, reader, 16)
        for row in range(16):
            reader.remove(row)
        collect(mailbox, reader, 16)
        assert reader.open_descriptors == 0
    assert descriptors(thread) == idle


def test_close(tmp_path, mailbox, start):
    write_group(tmp_path / "cgroup/a", 1)
    before, others = descriptors(), threads()
    reader = start()
    reader.add(0, "a", 0)
    tables = reader.new_tables()
    ticket = mailbox.collect([(reader, tables)], FOREVER, 1)
    reader.close()
    assert ticket.done, "what was posted is done first"
    assert mailbox.take() is ticket
    assert cells(tables[0]) == {0: values(1)}
    assert threads_are(others)
    assert descriptors() == before
    assert (reader.open_descriptors, reader.shares_descriptors) == (0, False)
    for call in (
        lambda: reader.add(0, "a", 0),
        lambda: reader.remove(0),
        lambda: reader.refresh(0),
        lambda: mailbox.collect([(reader, tables)], FOREVER, 1),
        lambda: mailbox.collect_row([(reader, tables)], FOREVER, 1),
    ):
        with pytest.raises(ValueError, match="memory: the reader is closed"):
            call()
    reader.close()


def test_a_reader_that_nobody_holds_is_closed(tmp_path, mailbox, start):
    others = threads()
    Reader("x", mailbox, roots=[], procfs="/proc", sysfs="/sys", files=[], layout=[], budget=0, slow_seconds=1)
    gc.collect()
    assert threads_are(others)


def test_a_root_that_cannot_be_opened(tmp_path, start):
    others = threads()
    with pytest.raises(FileNotFoundError) as caught:
        start(roots=[str(tmp_path), str(tmp_path / "none")])
    assert caught.value.filename == str(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        start(roots=[str(tmp_path / "file")])
    assert threads_are(others)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"files": [PlanFile("f", "value", ONE, root=1)]}, IndexError, "memory: f: no root 1"),
        ({"files": [PlanFile("f", "value", ONE, column=4)]}, IndexError, "memory: f: more than the 4 columns of t"),
        ({"files": [PlanFile("f", "pair", ONE, column=3)]}, IndexError, "memory: f: more than the 4 columns of t"),
        ({"files": [PlanFile("f", "flat", ONE, keys=[("a", 4)])]}, IndexError, "memory: f: more than the 4 columns"),
        ({"files": [PlanFile("f", "value", [PlanTarget(1)])]}, IndexError, None),
        ({"files": [PlanFile("f", "value", [])]}, ValueError, "memory: f: 1 to 2 targets expected"),
        ({"files": [PlanFile("f", "nested", ONE * 3)]}, ValueError, "memory: f: 1 to 2 targets expected"),
        (
            {"files": [PlanFile("f", "nested", [PlanTarget(0, [("a", "key")] * 4)])]},
            ValueError,
            "memory: f: more than 3 labels",
        ),
        ({"files": [PlanFile("f", "nested", [PlanTarget(0, [("a", "wrong")])])]}, KeyError, "wrong"),
        ({"files": [PlanFile("f", "flat", ONE, slow=True, keys=[("a", 0)])]}, ValueError, "memory: f: of kind flat"),
        ({"files": [PlanFile("f", "wrong", ONE)]}, KeyError, "wrong"),
        ({"net_files": [PlanFile("f", "tcp", ONE, column=4)]}, IndexError, "memory: f: more than the 4 columns of t"),
        ({"layout": [("t", COLUMNS)] * 65}, ValueError, "memory: more than 64 tables"),
        ({"budget": -1}, OverflowError, None),
    ],
)
def test_a_plan_that_does_not_fit(start, arguments, error, message):
    with pytest.raises(error, match=message):
        start(**arguments)


def test_jobs_that_do_not_fit(mailbox, start):
    reader = start()
    tables = reader.new_tables()
    for jobs, error, message in [
        ([], ValueError, "no reader to post to"),
        ([(None, tables)], TypeError, "no reader"),
        ([(reader, [])], ValueError, "memory: 1 tables expected, got 0"),
        ([(reader, tables * 2)], ValueError, "memory: 1 tables expected, got 2"),
        ([(reader, [Table("other", ["a"])])], ValueError, "memory: table other: 4 columns expected"),
        ([(reader, ["table"])], TypeError, None),
    ]:
        with pytest.raises(error, match=message):
            mailbox.collect(jobs, FOREVER, 1)
    with pytest.raises(ValueError, match="memory: the reader answers to another mailbox"):
        Mailbox().collect([(reader, tables)], FOREVER, 1)
    with memoryview(tables[0]), pytest.raises(BufferError, match="table t is lent"):
        mailbox.collect([(reader, reader.new_tables()), (reader, tables)], FOREVER, 1)
    with pytest.raises(TypeError):
        Reader("x", None, roots=[], procfs="/", sysfs="/", files=[], layout=[], budget=0, slow_seconds=1)
    assert mailbox.take() is None


def test_kinds():
    assert [is_keyed(kind) for kind in ("flat", "nested", "statistics", "value", "pair", "procs")] == [True] * 3 + [
        False
    ] * 3
    with pytest.raises(KeyError):
        is_keyed("wrong")


NESTED = {
    "io.stat": ({"label": "device"}, "8:0 rbytes=1 wbytes=0\n7:0 rbytes=2\n", {"8:0": (1, 0), "7:0": (2, None)}),
    "rdma.current": ({"label": "key"}, "mlx4_0 rbytes=2 hca=3\nocrdma1 wbytes=max\n", {"mlx4_0": (2, None)}),
    "numa_stat": ({"label": "node"}, "rbytes N0=1 N1=2\nother N2=3\nwbytes N0=4 x=5\n", {"0": (1, 4), "1": (2, None)}),
    "any": ({"label": "subkey"}, "rbytes a=1\nwbytes a=2 b=3\n", {"a": (1, 2), "b": (None, 3)}),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested_keyed_files(tmp_path, mailbox, start, name):
    """What the labels do not say of key and subkey is the column."""
    labels, content, expected = NESTED[name]
    (tmp_path / "cgroup/a").mkdir()
    (tmp_path / "cgroup/a" / name).write_text(content)
    target = PlanTarget(0, list(labels.items()))
    file = PlanFile(name, "nested", [target], keys=[("rbytes", 0), ("wbytes", 1)])
    reader = start(files=[file], layout=[("t", ("r", "w"))])
    reader.add(0, "a", 0)
    (table,), result = collect(mailbox, reader, 1)
    assert {table.labels(row): cells(table)[row] for row in range(len(table))} == {
        f'label="{value}",'.encode(): numbers for value, numbers in expected.items()
    }
    assert {table.parent(row) for row in range(len(table))} == {0}
    assert result.failures == {}, "max is no limit, and no failure"


def test_nested_keyed_files_without_labels(tmp_path, mailbox, start):
    (tmp_path / "cgroup/a").mkdir()
    (tmp_path / "cgroup/a/cpu.pressure").write_text("some avg10=0.00 total=5\nfull avg10=1.25 total=0\nnew total=9\n")
    file = PlanFile("cpu.pressure", "nested", ONE, keys=[("some:total", 0), ("full:total", 1), ("irq:total", 2)])
    reader = start(files=[file])
    reader.add(0, "a", 0)
    (table,), result = collect(mailbox, reader, 1)
    assert (cells(table), result.failures) == ({0: (5, 0, None, None)}, {})


def test_new_ones_are_not_done():
    assert Ticket().done
    assert not Result().done
    assert (Result().failures, Result().seconds) == ({}, 0.0)
    assert monotonic_ns() <= monotonic_ns()
