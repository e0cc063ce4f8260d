"""What holds for every collector of the node."""

import os
import threading
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node import CMON_COLLECTORS, NODE_COLLECTORS, NodeContext
from pymon.sources.node.attributes import AttributeSource

NAMES = [collector.name for collector in NODE_COLLECTORS]
EVERY = (*NODE_COLLECTORS, *CMON_COLLECTORS)
EVERY_NAME = [collector.name for collector in EVERY]
REAL = NodeContext()
HOSTS = [path.parent for path in sorted(Path(__file__).parents[2].glob("fixtures/*/proc"))]
GARBAGE = [b"", b"\n", b"x", b"\xff\xfe\x00\n" * 50, b"cpu0 : - 8:1\n" * 3, b" ".join([b"9" * 30] * 20) + b"\n"]


def test_the_list():
    assert sorted(NAMES) == NAMES
    assert len(set(NAMES)) == len(NAMES)
    tables = [table.name for collector in NODE_COLLECTORS for table in collector.make(REAL).tables]
    assert len(set(tables)) == len(tables)
    assert [collector.make(REAL).name for collector in NODE_COLLECTORS] == NAMES


@pytest.mark.parametrize("collector", EVERY, ids=EVERY_NAME)
def test_collections_leave_nothing_open(collector):
    def open_files():
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    source = collector.make(REAL)
    before = open_files()
    threads = threading.active_count()
    counts = []
    for _ in range(5):
        error = failure(source)
        assert error is None or error.reason in {"nodata", "eopnotsupp", "enoent"}
        counts.append(open_files())
    assert counts == counts[:1] * 5, "descriptors are kept, not gathered"
    source.close()
    assert open_files() == before
    assert threading.active_count() <= threads + 1


@pytest.mark.parametrize("collector", EVERY, ids=EVERY_NAME)
def test_empty_roots(collector, tmp_path):
    source = collector.make(NodeContext(tmp_path, tmp_path, tmp_path))
    error = failure(source)
    if collector.name in {"time", "timex"}:
        assert error is None, "only the clock needs no file"
    else:
        assert error.reason in {"enoent", "nodata"}
        assert "\n" not in str(error)
    source.close()


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("collector", EVERY, ids=EVERY_NAME)
def test_garbage_in_every_file(collector, garbage, tmp_path):
    """Whatever a file holds, a collection ends with tables or a SourceError, and so does the next one."""
    source = collector.make(NodeContext(tmp_path, tmp_path, tmp_path))
    for file in source._files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(garbage)
    for _ in range(2):
        error = failure(source)
        assert error is None or error.reason in {"parse", "nodata", "enoent"}
    source.close()


CUT_SHORT = ("arp cpu diskstats filefd loadavg meminfo netdev netstat pressure sockstat softnet stat vmstat").split()


@pytest.mark.parametrize("name", CUT_SHORT)
def test_real_files_cut_short(name, tmp_path):
    """A number of which a part was cut off is absent: every number published is one that the whole file has."""
    source = NODE_COLLECTORS[NAMES.index(name)].make(NodeContext(tmp_path, tmp_path, tmp_path))
    whole = {file.path: content(Path("/proc") / file.path.relative_to(tmp_path)) for file in source._files}
    for path, data in whole.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert failure(source) is None
    complete = published(source)
    for percent in range(100):
        for path, data in whole.items():
            path.write_bytes(data[: len(data) * percent // 100])
        error = failure(source)
        assert error is None or error.reason in {"parse", "nodata", "enoent"}
        assert published(source) <= complete
    source.close()


@pytest.mark.parametrize("host", HOSTS, ids=[host.name for host in HOSTS])
@pytest.mark.parametrize("collector", EVERY, ids=EVERY_NAME)
def test_captured_hosts(host, collector):
    context = NodeContext(
        host / "proc", host / "sys", host, clock=lambda: 10**18, statvfs=lambda path: os.statvfs_result(range(10))
    )
    source = collector.make(context)
    error = failure(source)
    source.close()
    missing = [file.path for file in source._files if not file.path.exists()]
    absent = isinstance(source, AttributeSource) and error is not None and error.reason == "nodata"
    no_bus = collector.name == "systemd" and error is not None and error.reason == "enoent"
    assert error is None or missing or absent or no_bus, f"{error}, though every file is there"
    assert not [problem for problem in source.problems if problem.reason == "parse"]


def failure(source):
    try:
        source.collect()
    except SourceError as error:
        return error
    return None


def published(source):
    return {
        (table.name, table.labels(row), column, table.get(row, column))
        for table in source.tables
        for row in range(len(table))
        for column in table.columns
        if table.get(row, column) is not None
    }


def content(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""
