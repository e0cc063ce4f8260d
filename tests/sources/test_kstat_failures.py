"""Reads that fail, data that lies, chains and libraries that cannot be had."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.kstat import KstatReader, LinkAppeared, ZoneAppeared, ZoneGone
from tests.kstat.double import SYMBOLS, build
from tests.sources.kstats import NEVER, READ_WAYS, cells, link, table_of, zone


@READ_WAYS
@pytest.mark.parametrize(("number", "reason"), [(errno.ENXIO, "enxio"), (errno.EAGAIN, "eagain"), (errno.EIO, "eio")])
def test_a_read_that_fails_costs_that_kstat(double, open_reader, number, reason, direct):
    double.generate(2)
    double.direct(direct)
    reader = open_reader()
    reader.collect()
    name = reader_name(double, reader, 1)
    double.fail(("memory_cap", 1, name), number)
    reader.collect()
    assert reader.failures == {reason: 1}
    assert cells(table_of(reader, "kstat.memcap"), 0) == {}
    assert cells(table_of(reader, "kstat.memcap"), 1) != {}
    assert table_of(reader, "kstat.status").get(0, "memcap:available") == 0
    tables = reader.new_row_tables()
    assert reader.collect_zone(0, tables)
    assert reader.failures == {reason: 1}


def reader_name(double, reader, zone_id):
    """The name that a zone's kstats have."""
    with double.opened() as control:
        headers = double.chain(control)
        return next(
            bytes(item.name).rstrip(b"\0").decode()
            for item in headers
            if bytes(item.module).startswith(b"zones\0") and item.instance == zone_id
        )


@READ_WAYS
def test_eagain_is_tried_again_but_not_for_ever(double, open_reader, direct):
    double.generate(200)
    double.direct(direct)
    reader = open_reader()
    reader.collect()
    name = reader_name(double, reader, 3)
    double.fail(("zone_vfs", 3, name), errno.EAGAIN, 2)
    reader.collect()
    assert reader.failures == {}
    assert cells(table_of(reader, "kstat.zone_vfs"), 2) != {}
    for zone_id in range(1, 201):
        double.fail(("tcp", zone_id, "tcp"), errno.EAGAIN)
    started = time.monotonic()
    reader.collect()
    assert time.monotonic() - started < 5
    assert reader.failures == {"eagain": 200}


@READ_WAYS
@pytest.mark.parametrize(
    ("ndata", "data_size"),
    [
        (2**32 - 1, -1),
        (2**31, -1),
        (200, -1),
        (-1, 2**62),
        (-1, 2**40),
        (-1, 48),
        (5, 100),
        (2**32 - 1, 2**62),
        (10**6, 6 * 10**7),
    ],
)
def test_sizes_that_lie_cost_that_kstat(double, open_reader, ndata, data_size, direct):
    double.generate(2)
    double.direct(direct)
    reader = open_reader()
    reader.collect()
    double.tell(("tcp", 1, "tcp"), ndata=ndata, data_size=data_size)
    for _ in range(2):
        reader.collect()
        assert cells(table_of(reader, "kstat.tcp"), 0) == {}
        assert cells(table_of(reader, "kstat.tcp"), 1) != {}
        assert sum(reader.failures.values()) == 1
    late = open_reader()  # one that has known it no other way
    late.collect()
    assert cells(table_of(late, "kstat.tcp"), 0) == {}


@READ_WAYS
@pytest.mark.parametrize(
    ("pointer", "length", "relative"),
    [(0, 5, False), (16, 5, False), (2**63, 5, False), (0, 2**32 - 1, True), (2**40, 5, True), (2**64 - 1, 1, False)],
)
def test_a_string_that_lies_is_no_name(double, open_reader, pointer, length, relative, direct):
    double.direct(direct)
    double.load([zone(4, "short"), link("z4_net0", zonename="short")])
    double.set_string(("zones", 4, "short"), "zonename", pointer, length, relative=relative)
    double.set_string(("link", 0, "z4_net0"), "zonename", pointer, length, relative=relative)
    reader = open_reader()
    assert reader.collect(NEVER) == [ZoneAppeared(0, 4, "short", 1004), LinkAppeared(0, 0, "z4_net0")]
    assert reader.failures == {"string": 2}


def test_a_zone_that_cannot_be_identified_is_tried_again(double, open_reader):
    double.load([zone(4, "a"), link("z4_net0", zonename="a")])
    double.fail(("zones", 4, "a"), errno.EIO, 2)
    reader = open_reader()
    assert reader.collect() == []
    assert reader.failures == {"eio": 1}
    assert reader.collect() == []
    assert reader.collect() == [ZoneAppeared(0, 4, "a", 1004), LinkAppeared(0, 0, "z4_net0")]


@READ_WAYS
@pytest.mark.parametrize("returns", [False, True])
def test_a_zone_that_vanishes_while_it_is_read_is_absent(double, open_reader, returns, direct):
    for after in range(0, 40, 3):
        double.reset()
        double.direct(direct)
        double.generate(5)
        reader = open_reader()
        reader.collect()
        double.vanish_after(after + 1, 3, returns=returns)
        reader.collect()
        assert reader.failures.keys() <= {"enxio"}
        assert cells(table_of(reader, "kstat.tcp"), 4) != {}
        while reader.rows and not (changes := reader.collect()):
            pass
        assert changes[0] == ZoneGone(2)
        assert len(changes) == (3 if returns else 1)
        reader.close()


def test_a_chain_that_cannot_be_updated_says_why(double, open_reader):
    double.generate(1)
    reader = open_reader()
    reader.collect()
    double.fail_update(errno.EIO, 1)
    with pytest.raises(SourceError, match=r"kstat_chain_update: Input/output error") as caught:
        reader.collect()
    assert caught.value.reason == "eio"
    double.generate(1, first=2)
    assert [change.zone_id for change in reader.collect() if isinstance(change, ZoneAppeared)] == [2]


def test_a_chain_that_cannot_be_opened_says_why(double):
    double.fail_open(errno.EACCES)
    with pytest.raises(SourceError, match=r"libkstat-.*: kstat_open: Permission denied") as caught:
        KstatReader(double.path)
    assert caught.value.reason == "eacces"


@pytest.mark.parametrize("text", ["libkstat.so", "./libkstat.so", "here/../libkstat.so"])
def test_a_library_is_found_by_a_path_from_here(double, tmp_path, monkeypatch, text):
    (tmp_path / "libkstat.so").symlink_to(double.path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    # As an option, which is a Path, has lost what says that it is no name for the loader.
    reader = KstatReader(Path(text))
    reader.close()
    assert reader.library == f"{tmp_path}/{Path(text)}"


def test_a_library_that_is_not_there_is_named():
    names = ("libkstat.so.1", "/nothing/here.so", f"{Path.cwd()}/nothing/here.so", __file__)
    for library, name in zip((None, names[1], "nothing/here.so", __file__), names, strict=True):
        with pytest.raises(SourceError) as caught:
            KstatReader(library)
        assert caught.value.reason == "library"
        assert str(caught.value).startswith(f"{name}: cannot be opened as the kstat library: ")
        assert "\n" not in str(caught.value)


def test_a_name_that_is_no_file_here_is_for_the_loader():
    # The C library is found by its name, and is no libkstat.
    with pytest.raises(SourceError, match=r"^libc\.so\.6: has no function kstat_open, ") as caught:
        KstatReader("libc.so.6")
    assert caught.value.reason == "symbol"


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_library_without_a_function_is_named_with_it(symbol):
    path = build(without=(symbol,))
    with pytest.raises(SourceError) as caught:
        KstatReader(path)
    assert caught.value.reason == "symbol"
    assert str(caught.value) == f"{path}: has no function {symbol}, which libkstat has"


@pytest.mark.parametrize("place", ["closed", "pipe", "file", "terminal"])
def test_a_descriptor_that_is_no_kstat_device_is_left_alone(double, open_reader, tmp_path, place):
    opened = []
    if place == "pipe":
        opened = list(os.pipe())
    elif place == "terminal":
        opened = list(os.openpty())
    elif place == "file":
        opened = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)]
    double.generate(1)
    double.descriptor(opened[-1] if opened else -1)
    before = double.counters()["chain_ids"]
    reader = open_reader()
    reader.collect()
    assert double.counters()["chain_ids"] == before
    assert double.counters()["library_reads"] > 0
    assert cells(table_of(reader, "kstat.tcp"), 0) != {}
    reader.close()
    for descriptor in opened:
        os.fstat(descriptor)
        os.close(descriptor)
