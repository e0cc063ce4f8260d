"""All collectors of the node on a host with hardware that most machines lack, to the byte, and with every file broken.

`pytest tests/sources/node/test_hardware.py --update-golden` writes tests/golden/hardware.prom anew.
"""

import os
import shutil
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node import NODE_COLLECTORS, NODE_METRICS, NodeContext
from pymon.sources.node.adjtimex import Timex
from tests.fixtures.hardware_host import copy_hardware
from tests.oracle import parse, render_text

TESTS = Path(__file__).parents[2]
GOLDEN = TESTS / "golden" / "hardware.prom"
NAMES = [collector.name for collector in NODE_COLLECTORS]
DECIDED_BY_FILES = [collector for collector in NODE_COLLECTORS if collector.name not in {"filesystem", "time", "timex"}]
BROKEN = {
    "empty": b"",
    "no newline": b"7",
    "zeros": bytes(5000),
    "not text": b"\xff\xfe \xc3(\n" * 40,
    "too many digits": b"9" * 6000 + b"\n",
    "negative": b"-1\n",
    "words": b"a b c : [x] (y)\n" * 300,
    "a name twice": b"eth0 eth0\neth0 eth0\n" * 3,
}


def context(root):
    return NodeContext(
        root / "proc",
        root / "sys",
        root,
        clock=lambda: 10**18,
        statvfs=lambda path: os.statvfs_result(range(10)),
        adjtimex=lambda: (0, Timex()),
    )


def collect(collector, root):
    """The source after a collection, and the error of it."""
    source = collector.make(context(root))
    try:
        source.collect()
    except SourceError as error:
        return source, error
    finally:
        source.close()
    return source, None


@pytest.fixture
def copy(tmp_path):
    return copy_hardware(tmp_path / "host")


def test_golden(request, copy):
    tables = []
    for collector in DECIDED_BY_FILES:
        source, error = collect(collector, copy)
        assert error is None or error.reason in {"enoent", "nodata"}, error
        tables += source.tables if error is None else ()
    # The path of a zone is a label of node_exporter's.
    got = render_text(NODE_METRICS, tables).decode().replace(str(copy), "")
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(got)
    assert got.splitlines() == GOLDEN.read_text().splitlines()
    parse(got.encode())  # asserts that no series is given twice


def files(root):
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.parametrize("how", BROKEN)
def test_every_file_broken(copy, how):
    """A collection ends with tables that can be published, or with an error of one line."""
    for path in files(copy):
        path.write_bytes(BROKEN[how])
    publish(copy)


def test_every_file_a_directory(copy):
    for path in files(copy):
        path.unlink()
        path.mkdir()
    publish(copy)


def test_every_file_a_named_pipe(copy):
    """Those of sysfs. Nothing waits for a writer."""
    for path in files(copy / "sys"):
        path.unlink()
        os.mkfifo(path)
    publish(copy, [collector for collector in NODE_COLLECTORS if collector.name not in {"cpu", "diskstats", "machine"}])


@pytest.mark.parametrize("name", NAMES)
def test_lines_twice(name, copy):
    """No series is given twice, whatever a file repeats."""
    for path in files(copy):
        path.write_bytes(path.read_bytes() * 2)
    publish(copy, [NODE_COLLECTORS[NAMES.index(name)]])


def publish(root, collectors=NODE_COLLECTORS):
    tables = []
    for collector in collectors:
        source, error = collect(collector, root)
        expected = {"parse", "nodata", "enoent", "eisdir", "enodev", "eloop", "espipe"}
        assert error is None or error.reason in expected, error
        assert "\n" not in str(error)
        tables += source.tables
    parse(render_text(NODE_METRICS, tables))


def test_two_of_a_kind_with_one_name(copy):
    """File systems, chips and clocks that say the same of themselves are told apart."""
    shutil.copytree(next(copy.glob("sys/fs/btrfs/*-*")), copy / "sys/fs/btrfs/1abb23a9-579b-43e6-ad30-227ef47fcb9d")
    shutil.copytree(copy / "sys/class/hwmon/hwmon3", copy / "sys/class/hwmon/hwmon4")
    (copy / "sys/class/hwmon/hwmon4/freq2_label").write_text("sclk\n")
    publish(copy)


def test_a_directory_without_end_is_cut_off(tmp_path):
    directory = tmp_path / "sys/class/thermal"
    directory.mkdir(parents=True)
    for number in range(4200):
        (directory / f"thermal_zone{number}").mkdir()
        (directory / f"thermal_zone{number}/temp").write_text("1000\n")
    source, error = collect(NODE_COLLECTORS[NAMES.index("thermal_zone")], tmp_path)
    assert error is None
    assert len(source.tables[0]) == 4096
    assert [problem.reason for problem in source.problems] == ["toomany"]
