"""The walk over processes of containers, and the TCP statistics of their namespaces, over files of a made-up host."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pymon._native.readers import Mailbox, Reader, Result, monotonic_ns
from pymon._native.table import Table
from pymon.catalogue.cadvisor import METRICS
from pymon.catalogue.cgroup_fields import ADVANCED_TCP_FIELDS, PROCESS_TABLES
from pymon.sources.cgroup import CgroupSource, columns_of, find_hierarchies

COLLECTORS = ("container_process", "container_sched", "container_file_descriptors", "container_ulimits")
MINUTE = 60 * 10**9
SHORT = 200 * 10**6
"""Less than 400,000 processes take, enough for their list."""
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max processes             unlimited            unlimited            processes 
Max open files            {:<20} 1048576              files     
Max locked memory         8388608              8388608              bytes     
"""  # noqa: W291 - as the kernel pads them
Cells = dict[str, dict[str, int | None]]


class Host:
    """A version 2 host with one container `box` in row 0, and readers over it."""

    def __init__(self, root: Path, collectors: Sequence[str]) -> None:
        self.root = root
        self.proc = root / "proc"
        self.group = root / "cgroup" / "box"
        self.group.mkdir(parents=True)
        (root / "cgroup" / "cgroup.controllers").write_text("pids\n")
        self.namespace(1, 1)
        self.list()
        self.mailbox = Mailbox()
        metrics = [metric for metric in METRICS if metric.collector in collectors]
        self.source = CgroupSource(
            find_hierarchies(root / "cgroup"),
            columns_of(metrics),
            self.mailbox,
            procfs=self.proc,
            sysfs=root / "sys",
            descriptors=1000,
        )
        self.result: Result | None = None
        self.tables: dict[str, Table] = {}
        self.source.add(0, "box", 0)

    def list(self, *pids: int, group: str = "") -> None:
        """These are the processes of the container, or of a group below it."""
        (self.group / group).mkdir(exist_ok=True)
        (self.group / group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def process(self, pid: int, schedstat: str = "1 2 3\n", *links: str, limit: object = 1024) -> Path:
        """A process with links of these targets for open files; its directory."""
        directory = self.proc / str(pid)
        shutil.rmtree(directory / "fd", ignore_errors=True)
        (directory / "fd").mkdir(parents=True)
        (directory / "schedstat").write_text(schedstat)
        (directory / "limits").write_text(LIMITS.format(limit))
        for number, target in enumerate(links):
            (directory / "fd" / str(number)).symlink_to(target)
        return directory

    def end(self, pid: int) -> None:
        """The process is no more."""
        shutil.rmtree(self.proc / str(pid))

    def namespace(self, pid: int, inode: int, **files: str) -> None:
        """The network namespace of a process, and files of its net directory."""
        (self.proc / str(pid) / "ns").mkdir(parents=True)
        (self.proc / str(pid) / "ns" / "net").symlink_to(f"net:[{inode}]")
        (self.proc / str(pid) / "net").mkdir()
        for name, content in files.items():
            (self.proc / str(pid) / "net" / name).write_text(content)

    def collect(self, *, row: int | None = None, rows: int = 1, deadline: int = MINUTE, at: int = 0) -> Cells:
        """Cells of row `at`: by the reader of processes, or where `row` is given by the row reader."""
        reader = self.source.readers["process"] if row is None else self.source.row_reader
        self.tables = {table.name: table for table in reader.new_tables()}
        jobs = [(reader, [None if name == "network" else table for name, table in self.tables.items()])]
        until = monotonic_ns() + deadline
        ticket = self.mailbox.collect(jobs, until, rows) if row is None else self.mailbox.collect_row(jobs, until, row)
        assert select.select([self.mailbox.fileno()], [], [], 60)[0]
        assert self.mailbox.take() is ticket
        self.result = ticket.results[0]
        return {
            name: {column: table.get(at, column) for column in table.columns}
            for name, table in self.tables.items()
            if name != "network"
        }

    @property
    def failures(self) -> dict[str, int]:
        """Of the last collection."""
        assert self.result
        return self.result.failures


@contextlib.contextmanager
def running(root: Path, *collectors: str) -> Iterator[Host]:
    host = Host(root, collectors)
    try:
        yield host
    finally:
        host.source.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with running(tmp_path, *COLLECTORS) as host:
        yield host


def sched(*values: int | None) -> dict[str, int | None]:
    return dict(zip(("run", "runqueue", "periods"), values or (None,) * 3, strict=True))


def files(count: int | None, sockets: int | None) -> dict[str, int | None]:
    return {"files": count, "sockets": sockets}


def test_sums_over_processes(host: Host) -> None:
    host.process(10, "100 20 3\n", "/dev/null", "socket:[1]", "pipe:[2]", limit=4096)
    host.process(11, "1000 200 30\n", "socket:[3]", "socket:[4]", "anon_inode:[eventfd]", "/socket:", "sock", limit=1)
    host.list(10, 11)
    for row in (None, 0):
        assert host.collect(row=row) == {
            "process": {"cgroup.procs": 2},
            "sched": sched(1100, 220, 33),
            "descriptors": files(8, 3),
            "ulimits": {"max_open_files": 4096},
        }
        assert host.failures == {}


def test_processes_of_groups_below(host: Host) -> None:
    for pid in (10, 11, 12):
        host.process(pid, f"{pid} 1 1\n", "socket:[1]")
    host.list(11, 12, group="init")
    host.list(12, 10, group="other")  # 12 moved while the groups were listed
    cells = host.collect()
    assert cells["sched"] == sched(33, 3, 3)
    assert cells["descriptors"] == files(3, 3)
    assert cells["ulimits"] == {"max_open_files": 1024}


def test_an_empty_container(host: Host) -> None:
    cells = host.collect()
    assert cells["sched"] == sched()
    assert cells["descriptors"] == files(0, 0)
    assert cells["ulimits"] == {"max_open_files": None}
    assert host.failures == {}


def test_a_container_that_is_no_more(host: Host) -> None:
    shutil.rmtree(host.group)
    cells = host.collect()
    assert (cells["sched"], cells["descriptors"]) == (sched(), files(None, None))


def test_counters_keep_what_ended_processes_had(host: Host) -> None:
    host.process(10, "100 20 3\n")
    host.process(11, "1000 200 30\n")
    host.list(10, 11)
    host.collect()
    host.process(11, "1001 202 33\n")
    host.end(10)
    host.list(11)
    for _ in range(3):
        assert host.collect()["sched"] == sched(1101, 222, 36)
    host.end(11)
    host.list()
    assert host.collect()["sched"] == sched(1101, 222, 36)
    host.process(9, "5 5 5\n")
    host.list(9)
    assert host.collect()["sched"] == sched(1106, 227, 41)
    assert host.failures == {}


@pytest.mark.parametrize("field", range(3))
def test_a_pid_that_is_used_again(host: Host, field: int) -> None:
    host.process(10, "100 100 100\n")
    host.list(10)
    host.collect()
    fresh = [200, 200, 200]
    fresh[field] = 1
    host.process(10, "{} {} {}\n".format(*fresh))
    assert host.collect()["sched"] == sched(*(100 + value for value in fresh))


def test_a_process_that_goes_elsewhere_and_comes_back(host: Host) -> None:
    host.process(10, "100 20 3\n")
    host.process(11, "1 1 1\n")
    host.list(10, 11)
    host.collect()
    host.process(10, "500 60 7\n")
    host.list(11)
    assert host.collect()["sched"] == sched(101, 21, 4)
    host.list(10, 11)
    assert host.collect()["sched"] == sched(501, 61, 8)
    host.list(11)
    host.end(10)
    assert host.collect()["sched"] == sched(501, 61, 8)


def test_many_processes_come_and_go(host: Host) -> None:
    total = 0
    for generation in range(20):
        pids = [100 + (generation * 7 + i) % 50 for i in range(10)]
        for pid in pids:
            host.process(pid, f"{1000 - generation} 0 1\n")  # always less than the one before with the number
        host.list(*reversed(pids))
        total += 10 * (1000 - generation)
        cells = host.collect()
        assert cells["sched"]["run"] == total
        assert cells["sched"]["periods"] <= 10 * (generation + 1)
        for pid in pids:
            host.end(pid)
    host.list()
    assert host.collect()["sched"]["run"] == total


def test_a_new_container_in_the_row_begins_anew(host: Host) -> None:
    host.process(10, "100 20 3\n")
    host.list(10)
    host.collect()
    host.source.remove(0)
    host.source.add(0, "box", 0)
    host.process(10, "7 7 7\n")
    assert host.collect()["sched"] == sched(7, 7, 7)


def test_processes_that_have_gone(host: Host) -> None:
    host.process(10, "100 20 3\n", "socket:[1]")
    host.list(99, 10, 98)
    cells = host.collect()
    assert cells["process"] == {"cgroup.procs": 3}
    assert cells["sched"] == sched(100, 20, 3)
    assert cells["descriptors"] == files(1, 1)
    assert cells["ulimits"] == {"max_open_files": 1024}
    host.list(99)
    cells = host.collect()
    assert cells["sched"] == sched(100, 20, 3)
    assert cells["descriptors"] == files(None, None)
    assert host.failures == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ("1 2 3", "truncated"),
        ("1 2\n", "malformed"),
        ("1 2 3 4\n", "malformed"),
        ("1  2 3\n", "malformed"),
        ("x 2 3\n", "malformed"),
        ("1 2 99999999999999999999999\n", "malformed"),
        ("\n", "malformed"),
        ("1 2 3\n4 5 6\n", "malformed"),
    ],
)
def test_a_malformed_schedstat(host: Host, content: str, reason: str) -> None:
    host.process(10, "100 20 3\n", "socket:[1]")
    host.process(11, "100 20 3\n", "socket:[1]")
    host.process(12, "100 20 3\n", "socket:[1]")
    host.list(10, 11, 12)
    host.collect()
    (host.proc / "11" / "schedstat").write_text(content)
    cells = host.collect()
    assert cells["sched"] == sched()
    assert cells["descriptors"] == files(3, 3)
    assert host.failures == {reason: 1}
    (host.proc / "11" / "schedstat").write_text("101 21 4\n")
    assert host.collect()["sched"] == sched(301, 61, 10)


@pytest.mark.parametrize(
    ("content", "value", "reason"),
    [
        (LIMITS.format("unlimited"), None, None),
        (LIMITS.format(0), 0, None),
        (LIMITS.format(2**63), 2**63, None),
        (LIMITS.format("many"), None, "malformed"),
        (LIMITS.format("1024x"), None, "malformed"),
        (LIMITS.format(""), 1048576, None),
        ("", None, "empty"),
        ("Max open files", None, "truncated"),
        ("Max open files \n", None, "malformed"),
        ("Max open files 1\n", None, "malformed"),
        ("Max processes 1 1 processes\n", None, "malformed"),
    ],
)
def test_limits(host: Host, content: str, value: int | None, reason: str | None) -> None:
    (host.process(10) / "limits").write_text(content)
    host.list(10)
    assert host.collect()["ulimits"] == {"max_open_files": value}
    assert host.failures == ({reason: 1} if reason else {})


def test_an_entry_that_is_no_link(host: Host) -> None:
    directory = host.process(10, "1 2 3\n", "socket:[1]")
    (directory / "fd" / "7").write_text("")
    host.process(11, "1 2 3\n", "socket:[1]")
    host.list(10, 11)
    assert host.collect()["descriptors"] == files(3, None)
    assert host.failures == {"errno": 1}


def test_many_open_files(host: Host) -> None:
    """More than one listing of a directory holds."""
    host.process(10, "1 2 3\n", *(f"socket:[{number}]" if number % 3 else "/long" * 100 for number in range(2000)))
    host.list(10)
    assert host.collect()["descriptors"] == files(2000, 2000 - 667)


def test_a_foreign_pid_namespace(host: Host) -> None:
    host.process(10)
    host.list(0, 10)
    cells = host.collect()
    assert (cells["sched"], cells["descriptors"]) == (sched(), files(None, None))
    assert host.failures == {"esrch": 1}


@pytest.mark.root
def test_without_permission(host: Host) -> None:
    for pid in (10, 11):
        (host.process(pid, "1 2 3\n", "socket:[1]") / "fd").chmod(0)
    (host.proc / "11" / "schedstat").chmod(0)
    host.list(10, 11)
    nobody = 65534
    os.seteuid(nobody)  # the C library has every thread do it
    try:
        cells = host.collect()
    finally:
        os.seteuid(0)
    assert host.failures == {"eacces": 2}
    assert (cells["sched"], cells["descriptors"]) == (sched(), files(None, None))
    assert cells["ulimits"] == {"max_open_files": 1024}
    cells = host.collect()
    assert (cells["sched"], cells["descriptors"]) == (sched(2, 4, 6), files(2, 2))


def test_the_deadline_stops_the_walk(host: Host) -> None:
    """What was read before the walk is there in time; no sum is there that lacks a process; none is forgotten."""
    host.process(10, "100 20 3\n", "socket:[1]")
    host.list(10)
    host.collect()
    host.list(10, *range(100, 400100))
    cells = host.collect(deadline=SHORT)
    assert host.failures.keys() == {"deadline"}
    assert cells["process"] == {"cgroup.procs": 400001}
    assert (cells["sched"], cells["descriptors"]) == (sched(), files(None, None))
    host.end(10)
    host.list()
    assert host.collect()["sched"] == sched(100, 20, 3)
    assert host.failures == {}


def test_the_deadline_spares_containers_after_it(host: Host) -> None:
    host.process(10)
    for row in (1, 2):
        (host.root / "cgroup" / f"box{row}").mkdir()
        (host.root / "cgroup" / f"box{row}" / "cgroup.procs").write_text("10\n")
        host.source.add(row, f"box{row}", 0)
    host.list(*range(100, 400100))
    host.collect(rows=3, deadline=SHORT)
    assert host.failures.keys() == {"deadline"}
    assert [host.tables["process"].get(row, "cgroup.procs") for row in range(3)] == [400000, 1, 1]


@pytest.mark.parametrize("collector", COLLECTORS[1:])
def test_a_collector_by_itself(tmp_path: Path, collector: str) -> None:
    with running(tmp_path, collector) as host:
        host.process(10, "1 2 3\n", "socket:[1]")
        host.list(10)
        tables = {column.table for column in columns_of(metric for metric in METRICS if metric.collector == collector)}
        for row in (None, 0):
            cells = host.collect(row=row)
            assert cells.keys() == {"process", *tables}
            assert all(value is not None for table in tables for value in cells[table].values())


def test_nothing_is_read_when_nothing_is_wanted(tmp_path: Path) -> None:
    with running(tmp_path, "container_process") as host:
        shutil.rmtree(host.process(10, "no number") / "fd")
        host.list(10)
        assert host.collect() == {"process": {"cgroup.procs": 1}}
        assert host.failures == {}
        assert not PROCESS_TABLES.keys() & host.source.layout.keys()


def test_descriptors_are_given_back(host: Host) -> None:
    for pid in range(10, 20):
        host.process(pid, "1 2 3\n", "socket:[1]")
    host.list(*range(10, 20))

    def descriptors() -> int:
        return sum(len(list((task / "fd").iterdir())) for task in Path("/proc/self/task").iterdir())

    host.collect()
    before = descriptors()
    for _ in range(20):
        host.collect()
    assert descriptors() == before


SNMP = """\
Ip: Forwarding DefaultTTL
Ip: 1 64
IcmpMsg: InType3
IcmpMsg: 6
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn Unknown InSegs
Tcp: 1 200 120000 -1 5 18446744073709551615
UdpLite:
UdpLite:
"""
NETSTAT = """\
TcpExt: TCPTimeouts TW RtoMin NewInThisKernel SyncookiesSent
TcpExt: 7 8 9 10 0
IpExt: InNoRoutes TW
IpExt: 1 2
"""
ADVANCED = {
    "Tcp:RtoAlgorithm": 1,
    "Tcp:RtoMin": 200,
    "Tcp:RtoMax": 120000,
    "Tcp:MaxConn": 2**64 - 1,
    "Tcp:InSegs": 2**64 - 1,
    "TcpExt:TCPTimeouts": 7,
    "TcpExt:TW": 8,
    "TcpExt:SyncookiesSent": 0,
}


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Host]:
    with running(tmp_path, "container_advtcp") as host:
        yield host


def advanced(cells: Cells) -> dict[str, int]:
    assert tuple(cells["advtcp"]) == ADVANCED_TCP_FIELDS
    return {key: value for key, value in cells["advtcp"].items() if value is not None}


def test_tcp_statistics(network: Host) -> None:
    network.namespace(10, 2, snmp=SNMP, netstat=NETSTAT, dev="broken")
    network.list(10)
    for row in (None, 0):
        assert advanced(network.collect(row=row)) == ADVANCED


def test_tcp_statistics_of_shared_namespaces(network: Host) -> None:
    """The host's is nobody's; one that is shared is the older container's."""
    for row, pid, inode in ((1, 11, 2), (2, 12, 1)):
        (network.root / "cgroup" / f"box{row}").mkdir()
        (network.root / "cgroup" / f"box{row}" / "cgroup.procs").write_text(f"{pid}\n")
        network.source.add(row, f"box{row}", row)
        network.namespace(pid, inode, snmp=SNMP, netstat=NETSTAT)
    network.namespace(10, 2, snmp=SNMP, netstat=NETSTAT)
    network.list(10)
    assert [bool(advanced(network.collect(rows=3, at=row))) for row in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ("Tcp: RtoMin\n", "truncated"),
        ("Tcp: RtoMin\nTcp: 1", "truncated"),
        ("Tcp: RtoMin", "truncated"),
        ("Tcp: RtoMin\nUdp: 1\n", "malformed"),
        ("Tcp: RtoMin\n\n", "malformed"),
        ("\n\n", "malformed"),
        ("no colon\nno colon\n", "malformed"),
        ("AProtocolOfALongName: A\nAProtocolOfALongName: 1\n", "malformed"),
        ("Tcp: Other RtoMin\nTcp: 1\n", "malformed"),
        ("Tcp: Other\nTcp: 1 2\n", "malformed"),
        ("Tcp: Other RtoMin\nTcp: x 2\n", "malformed"),
        ("Tcp: Other RtoMin\nTcp: 1 2x\n", "malformed"),
        (f"Tcp: {'A' * 100} Other\nTcp: 1 2\n", None),
        ("Tcp:\nTcp:\n", None),
        ("Tcp: \nTcp: \n", None),
    ],
)
def test_malformed_tcp_statistics(network: Host, content: str, reason: str | None) -> None:
    network.namespace(10, 2, snmp=content, netstat=NETSTAT)
    network.list(10)
    cells = advanced(network.collect())
    assert {key: value for key, value in cells.items() if key.startswith("TcpExt:")} == {
        key: value for key, value in ADVANCED.items() if key.startswith("TcpExt:")
    }
    assert network.failures == ({reason: 1} if reason else {})


def test_missing_tcp_statistics(network: Host) -> None:
    network.namespace(10, 2, snmp=SNMP)
    network.list(10)
    assert advanced(network.collect()) == {key: value for key, value in ADVANCED.items() if key.startswith("Tcp:")}
    assert network.failures == {"enoent": 1}


@pytest.mark.parametrize(
    ("processes", "error", "message"),
    [
        ({"sched": 0}, IndexError, "name: 3 columns expected of sched"),
        ({"shed": 0}, ValueError, r"name: unknown process tables \['shed'\]"),
        ({"ulimits": 1}, IndexError, "out of range"),
    ],
)
def test_a_wrong_plan(tmp_path: Path, processes: dict[str, int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Reader(
            "name",
            Mailbox(),
            roots=[str(tmp_path)],
            procfs="/proc",
            sysfs="/sys",
            files=[],
            layout=[("one", ("a", "b"))],
            processes=processes,
            budget=1,
            slow_seconds=1.0,
        )


DEV = "head\nhead\n  eth0: {} 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n    lo: 9\n"


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Host]:
    with running(tmp_path, "container_network", "container_ulimits") as host:
        yield host


def received(host: Host) -> list[int | None]:
    table = host.tables["network"]
    return [table.get(row, "receive_bytes") for row in range(len(table))]


def collect_traffic(host: Host, *, row: int | None = None) -> list[int | None]:
    """Received bytes of the interfaces of the container."""
    reader = host.source.readers["process"] if row is None else host.source.row_reader
    host.tables = {table.name: table for table in reader.new_tables()}
    jobs = [(reader, list(host.tables.values()))]
    until = monotonic_ns() + MINUTE
    ticket = host.mailbox.collect(jobs, until, 1) if row is None else host.mailbox.collect_row(jobs, until, row)
    assert select.select([host.mailbox.fileno()], [], [], 60)[0]
    assert host.mailbox.take() is ticket
    host.result = ticket.results[0]
    return received(host)


@pytest.mark.parametrize("row", [None, 0])
def test_the_process_used_last_is_used_while_it_lives(traffic: Host, row: int | None) -> None:
    traffic.namespace(20, 2, dev=DEV.format(5))
    traffic.process(20, limit=200)
    traffic.list(10, 20)  # 10 has gone
    assert collect_traffic(traffic, row=row) == [5]
    assert traffic.tables["ulimits"].get(0, "max_open_files") == 200
    traffic.namespace(11, 2, dev=DEV.format(6))
    traffic.process(11, limit=300)
    traffic.list(11, 20)
    for _ in range(3):
        assert collect_traffic(traffic, row=row) == [5]
        assert traffic.tables["ulimits"].get(0, "max_open_files") == 200
    traffic.end(20)
    assert collect_traffic(traffic, row=row) == [6], "another one of the list takes its place in the same collection"
    assert traffic.tables["ulimits"].get(0, "max_open_files") == 300
    assert traffic.failures == {}


def test_all_listed_processes_have_gone(traffic: Host) -> None:
    traffic.list(10, 11)
    assert collect_traffic(traffic) == []
    traffic.namespace(12, 2, dev=DEV.format(7))
    traffic.list(10, 11, 12)
    assert collect_traffic(traffic) == [7]
    assert traffic.failures == {}


def test_a_file_that_the_kernel_lacks_is_no_process_that_has_gone(traffic: Host) -> None:
    traffic.namespace(10, 2)
    traffic.list(10)
    assert collect_traffic(traffic) == []
    assert traffic.failures == {"enoent": 1}
