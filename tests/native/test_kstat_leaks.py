"""The kstat reader keeps nothing of what came and went, and gives back everything."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.kstat import KstatReader
from tests.kstat.double import Double, build

ROOT = Path(__file__).parents[2]
REPEATS = 1_000
GROWTH = 1 << 20
NOTHING = frozenset()


@pytest.fixture(scope="module")
def double():
    made = Double()
    made.generate(10)
    yield made
    made.reset()


@pytest.fixture(scope="module")
def reader(double):
    opened = KstatReader(double.path)
    opened.collect()
    yield opened
    opened.close()


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_and_close(double, reader):
    opened = KstatReader(double.path)
    opened.collect()
    opened.close()


def open_and_forget(double, reader):
    KstatReader(double.path).collect()


def fail_to_open(double, reader):
    double.fail_open(errno.EACCES)
    with pytest.raises(SourceError):
        KstatReader(double.path)
    double.fail_open(0)


def find_no_library(double, reader):
    with pytest.raises(SourceError):
        KstatReader("/nothing/here")


def find_no_symbol(double, reader):
    with pytest.raises(SourceError):
        KstatReader(build(without=("kstat_read",)))


def fail_to_update(double, reader):
    double.fail_update(errno.EIO, 1)
    with pytest.raises(SourceError):
        reader.collect()


def change(double, reader):
    double.generate(3, first=50)
    assert len(reader.collect(NOTHING)) == 6
    double.remove_zone(51)
    tables = reader.new_row_tables()
    reader.collect_zone(1, tables)
    for zone in (50, 52):
        double.remove_zone(zone)
    assert len(reader.changes()) == 1
    assert len(reader.collect()) == 2


CALLS = (open_and_close, open_and_forget, fail_to_open, find_no_library, find_no_symbol, fail_to_update, change)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_memory_does_not_grow(double, reader, call):
    def repeat(times):
        for _ in range(times):
            call(double, reader)
        return resident()

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    before = repeat(REPEATS // 5)
    growth = repeat(REPEATS) - before
    if growth > GROWTH:  # the allocator may have taken its share only now
        before = resident()
        growth = repeat(REPEATS) - before
    assert growth <= GROWTH
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_finds_nothing_after_a_thousand_collections_with_churn(tmp_path):
    program = tmp_path / "test_kstat"
    folders = ("native/core", "native/illumos")
    sources = [path for folder in folders for path in sorted((ROOT / folder).glob("*.c"))]
    includes = [f"-I{ROOT / folder}" for folder in folders]
    options = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", *includes]
    subprocess.run(
        [os.environ.get("CC", "cc"), *options, "-o", program, ROOT / "native/tests/test_kstat.c", *sources], check=True
    )
    found = subprocess.run(
        ["valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=all", "--error-exitcode=9", program],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
