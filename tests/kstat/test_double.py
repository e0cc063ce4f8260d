import ctypes
import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.kstat.double import (
    CHAINS,
    CHAR,
    INT32,
    INT64,
    INVALID,
    IO,
    NAMED,
    STRING,
    SYMBOLS,
    UINT32,
    UINT64,
    VAR_SIZE,
    VIRTUAL,
    Control,
    Double,
    Header,
    Named,
    build,
    plain,
)

KSTAT_IOC_CHAIN_ID, KSTAT_IOC_READ, KSTAT_IOC_WRITE = 0x4B01, 0x4B02, 0x4B03
ZONE = ("caps", 1, "cpucaps_zone_1")


@pytest.fixture(scope="module")
def loaded():
    return Double()


@pytest.fixture
def double(loaded, monkeypatch):
    for name in ("KSTAT_JSON", "KSTAT_ZONES", "KSTAT_DIRECT"):
        monkeypatch.delenv(name, raising=False)
    loaded.reset()
    yield loaded
    assert loaded.counters()["headers"] == 0
    loaded.reset()


def kstat(name="a", data=None, **members):
    return {"module": "m", "instance": 0, "name": name, "class": "misc", "type": 1, "data": data or {}, **members}


def stats_of(header):
    stats = ctypes.cast(header.data, ctypes.POINTER(Named))
    return [stats[i] for i in range(header.ndata)]


def read_one(double, text, key=("m", 0, "a")):
    double.load(text)
    with double.opened() as control:
        return double.read(control, key)


def header_of(double, control, name):
    return next(header for header in double.chain(control) if plain(header.name) == name)


def read_error(double, control, header, buffer=None):
    ctypes.set_errno(0)
    answer = double.library.kstat_read(control, ctypes.byref(header), buffer)
    return ctypes.get_errno() if answer < 0 else 0


def keep(header):
    return ctypes.addressof(header), header.kid, plain(header.name)


# --- the library ---


def test_structures_have_the_sizes_of_illumos():
    assert (ctypes.sizeof(Header), ctypes.sizeof(Control), ctypes.sizeof(Named)) == (184, 24, 48)
    assert (Header.name.offset, Header.class_.offset, Header.data.offset, Header.snaptime.offset) == (56, 88, 120, 144)


@pytest.mark.parametrize("symbol", [*SYMBOLS, "ioctl"])
def test_a_build_may_lack_a_symbol(symbol):
    library = ctypes.CDLL(str(build(without=[symbol])))
    # A symbol that the library lacks may be found in what it depends on.
    found = ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value if hasattr(library, symbol) else None
    libc = ctypes.CDLL(None)
    assert found == (ctypes.cast(libc.ioctl, ctypes.c_void_p).value if symbol == "ioctl" else None)


def test_kept_headers_keep_their_address_and_new_ones_come_behind(double):
    double.generate(3)
    with double.opened() as control:
        before = [keep(header) for header in double.chain(control)]
        assert double.library.kstat_chain_update(control) == 0
        double.remove_zone(2)
        double.generate(1, first=7)
        chain_id = control.contents.chain_id
        assert double.library.kstat_chain_update(control) == control.contents.chain_id > chain_id
        after = [keep(header) for header in double.chain(control)]
        assert after[:14] == before[:7] + before[14:]
        assert len(after) == 21
        assert [kid for _, kid, _ in after] == sorted(kid for _, kid, _ in after)
        assert min(kid for _, kid, _ in after[14:]) > max(kid for _, kid, _ in before)
        assert double.library.kstat_chain_update(control) == 0


def test_a_kid_that_comes_in_front_has_all_behind_it_made_anew(double):
    double.generate(1)
    double.load([kstat("low", flags=INVALID)], add=True)
    double.generate(1, first=2)
    with double.opened() as control:
        before = [keep(header) for header in double.chain(control)]
        assert len(before) == 14
        double.set_flags(("m", 0, "low"), VIRTUAL)
        assert double.library.kstat_chain_update(control) == 0  # as the kernel's: the id stays the same
        double.generate(1, first=3)
        made = double.counters()["made"]
        assert double.library.kstat_chain_update(control) > 0
        after = [keep(header) for header in double.chain(control)]
        assert after[:7] == before[:7]
        assert after[7][2] == "low"
        assert [kid for _, kid, _ in after[8:15]] == [kid for _, kid, _ in before[7:]]
        assert double.counters()["made"] - made == len(after) - 7
        assert double.counters()["headers"] == len(after) == 22


def test_a_kstat_that_is_not_valid_is_hidden_and_eagain(double):
    double.generate(1)
    with double.opened() as control:
        header = header_of(double, control, ZONE[2])
        double.set_flags(ZONE, INVALID)
        assert read_error(double, control, header) == errno.EAGAIN
        assert double.library.ioctl(control.contents.kd, KSTAT_IOC_READ, ctypes.byref(header)) == -1
        assert ctypes.get_errno() == errno.EAGAIN
        double.generate(1, first=2)
        assert double.library.kstat_chain_update(control) > 0
        assert ZONE[2] not in [plain(header.name) for header in double.chain(control)]
        double.set_flags(ZONE, VIRTUAL)
        double.remove_zone(2)
        assert double.library.kstat_chain_update(control) > 0
        assert double.read(control, ZONE)["value"] == 1000003


def test_what_came_and_went_between_two_updates_is_never_seen(double):
    double.generate(1)
    with double.opened() as control:
        double.generate(1, first=2)
        double.remove_zone(2)
        assert double.library.kstat_chain_update(control) > 0
        assert len(double.chain(control)) == 7


def test_two_handles_see_the_same_kernel_each_at_its_own_update(double):
    double.generate(1)
    with double.opened() as one, double.opened() as other:
        double.replace_zone(1)
        double.library.kstat_chain_update(one)
        assert {header.kid for header in double.chain(one)}.isdisjoint(header.kid for header in double.chain(other))
        assert len(double.chain(one)) == len(double.chain(other)) == 7


def test_a_read_of_what_went_is_enxio_by_either_way(double):
    double.generate(1)
    with double.opened() as control:
        double.remove(ZONE)
        header = header_of(double, control, ZONE[2])
        assert read_error(double, control, header) == errno.ENXIO
        assert double.library.ioctl(control.contents.kd, KSTAT_IOC_READ, ctypes.byref(header)) == -1
        assert ctypes.get_errno() == errno.ENXIO


def test_a_read_relocates_strings_to_where_they_are_copied(double):
    double.generate(1)
    with double.opened() as control:
        header = header_of(double, control, ZONE[2])
        buffer = ctypes.create_string_buffer(header.data_size)
        assert read_error(double, control, header, buffer) == 0
        copy = ctypes.cast(buffer, ctypes.POINTER(Named))[11]
        assert plain(copy.name) == "zonename"
        for base, string in (
            (ctypes.addressof(buffer), copy.value.string),
            (header.data, stats_of(header)[11].value.string),
        ):
            assert string.pointer == base + 12 * 48
            assert (string.len, len(ctypes.string_at(string.pointer))) == (37, 36)


def test_the_direct_read_needs_the_kid_and_room_alone(double):
    double.generate(1)
    with double.opened() as control:
        header = header_of(double, control, ZONE[2])
        mine = Header(kid=header.kid, data_size=10)
        assert double.library.ioctl(control.contents.kd, KSTAT_IOC_READ, ctypes.byref(mine)) == -1
        assert (ctypes.get_errno(), mine.data_size, mine.ndata) == (errno.ENOMEM, 12 * 48 + 37, 12)
        buffer = ctypes.create_string_buffer(mine.data_size)
        mine.data = ctypes.addressof(buffer)
        chain_id = double.library.ioctl(control.contents.kd, KSTAT_IOC_CHAIN_ID, None)
        assert double.library.ioctl(control.contents.kd, KSTAT_IOC_READ, ctypes.byref(mine)) == chain_id
        assert stats_of(mine)[0].value.uint64 == 1000003
        assert header.data is None


def test_only_the_descriptor_of_a_handle_answers_and_only_what_it_knows(double):
    double.generate(1)
    with double.opened() as control:
        for fd, request, error in (
            (control.contents.kd, 0x5413, errno.ENOTTY),
            (control.contents.kd, KSTAT_IOC_WRITE, errno.EACCES),
            (control.contents.kd + 1, KSTAT_IOC_CHAIN_ID, errno.EBADF),
        ):
            assert double.library.ioctl(fd, request, None) == -1
            assert ctypes.get_errno() == error
        double.direct(False)
        assert double.library.ioctl(control.contents.kd, KSTAT_IOC_CHAIN_ID, None) == -1
        assert ctypes.get_errno() == errno.ENOTTY
        assert double.read(control, ZONE)["value"] == 1000003


def test_a_handle_can_have_any_descriptor_and_leaves_that_open(double):
    reader, writer = os.pipe()
    double.descriptor(reader)
    with double.opened() as control:
        assert control.contents.kd == reader
    os.close(reader)
    os.close(writer)


def test_lookups_find_by_name_and_say_what_is_missing(double):
    double.load([kstat(data={"one": 1, "two": 2}), kstat("b", {"hard": 3}, type=2)])
    with double.opened() as control:
        header = double.library.kstat_lookup(control, None, -1, b"a")
        assert double.library.kstat_lookup(control, b"m", 0, b"a").contents.kid == header.contents.kid
        assert not double.library.kstat_lookup(control, b"m", 1, None)
        assert ctypes.get_errno() == errno.ENOENT
        assert read_error(double, control, header.contents) == 0
        found = double.library.kstat_data_lookup(header, b"two")
        assert ctypes.cast(found, ctypes.POINTER(Named)).contents.value.uint64 == 2
        assert double.library.kstat_data_lookup(header, b"three") is None
        assert ctypes.get_errno() == errno.ENOENT
        assert double.library.kstat_data_lookup(double.library.kstat_lookup(control, None, -1, b"b"), b"hard") is None
        assert ctypes.get_errno() == errno.EINVAL
        assert double.library.kstat_write(control, header, None) == -1
        assert ctypes.get_errno() == errno.EACCES


# --- what tests make of it ---


def test_reads_fail_so_many_times_with_the_errno_that_was_asked_for(double):
    double.generate(1)
    double.fail(ZONE, errno.EAGAIN, 2)
    with double.opened() as control:
        header = header_of(double, control, ZONE[2])
        assert [read_error(double, control, header) for _ in range(3)] == [errno.EAGAIN, errno.EAGAIN, 0]
        double.fail(ZONE, errno.EIO)
        assert [read_error(double, control, header) for _ in range(3)] == [errno.EIO] * 3
    counters = double.counters()
    assert (counters["errors"], counters["eagain"], double.reads(ZONE)) == (5, 2, 6)


def test_open_and_update_fail_when_told_to(double):
    double.fail_open(errno.EACCES)
    with pytest.raises(PermissionError), double.opened():
        pass
    double.fail_open(0)
    with double.opened() as control:
        double.fail_update(errno.EAGAIN, 1)
        assert double.library.kstat_chain_update(control) == -1
        assert ctypes.get_errno() == errno.EAGAIN
        assert double.library.kstat_chain_update(control) == 0


@pytest.mark.parametrize(("returns", "left"), [(False, 7), (True, 14)])
def test_a_zone_vanishes_in_the_middle_of_reading(double, returns, left):
    double.generate(2)
    double.vanish_after(3, 2, returns=returns)
    with double.opened() as control:
        chain = double.chain(control)
        assert [read_error(double, control, header) for header in reversed(chain)] == [0] * 3 + [errno.ENXIO] * 4 + [
            0
        ] * 7
        double.library.kstat_chain_update(control)
        assert len(double.chain(control)) == left


def test_counts_and_sizes_are_told_as_a_test_wants_them(double):
    double.generate(1)
    double.tell(ZONE, ndata=2**32 - 1, data_size=2**40)
    with double.opened() as control:
        header = header_of(double, control, ZONE[2])
        assert (header.ndata, header.data_size) == (2**32 - 1, 2**40)
        assert read_error(double, control, header) == 0
        assert (header.ndata, header.data_size) == (2**32 - 1, 2**40)
        assert double.library.ioctl(control.contents.kd, KSTAT_IOC_READ, ctypes.byref(Header(kid=header.kid))) == -1
        assert ctypes.get_errno() == errno.ENOMEM
        double.tell(ZONE)
        assert read_error(double, control, header) == 0
        assert (header.ndata, header.data_size) == (12, 12 * 48 + 37)


def test_data_types_and_strings_are_told_as_a_test_wants_them(double):
    double.generate(1)
    double.set(ZONE, "usage", -2)
    double.set_data_type(ZONE, "usage", INT64)
    double.set_data_type(ZONE, "value", 77)
    double.set_string(ZONE, "zonename", 0x10, 2**31)
    double.set_type(ZONE, IO)
    with double.opened() as control:
        header = header_of(double, control, ZONE[2])
        assert header.type == IO
        assert read_error(double, control, header) == 0
        stats = {plain(stat.name): stat for stat in stats_of(header)}
        assert (stats["usage"].data_type, stats["usage"].value.int64, stats["value"].data_type) == (INT64, -2, 77)
        assert (stats["zonename"].value.string.pointer, stats["zonename"].value.string.len) == (0x10, 2**31)
        double.set_string(ZONE, "zonename", 48 * 12, 37, relative=True)
        assert len(double.read(control, ZONE)["zonename"]) == 36
    with pytest.raises(KeyError):
        double.set(ZONE, "nothing", 1)
    with pytest.raises(KeyError):
        double.set_string(ZONE, "usage", 0, 0)


def test_a_kstat_of_variable_size_grows_under_a_reader(double):
    double.load([kstat(data={"one": 1}, flags=VAR_SIZE), kstat("b", {"one": 1})])
    with double.opened() as control:
        kids = [header.kid for header in double.chain(control)]
        double.load([kstat(data={"one": 1, "two": 2}, flags=VAR_SIZE), kstat("b", {"one": 1, "two": 2})])
        header = header_of(double, control, "a")
        assert (header.ndata, read_error(double, control, header), header.ndata) == (1, 0, 2)
        assert double.library.kstat_chain_update(control) > 0
        assert header_of(double, control, "a").kid == kids[0]
        assert header_of(double, control, "b").kid > kids[1]


def test_generated_zones_are_what_the_readme_says(double):
    double.generate(2, first=5, salt=3)
    with double.opened() as control:
        chain = double.chain(control)
        assert [
            plain(header.module) for header in chain
        ] == "zones memory_cap zone_vfs zone_zfs caps tcp link".split() * 2
        names = [plain(header.name) for header in chain[:7]]
        assert names[4:] == ["cpucaps_zone_5", "tcp", "z5_net0"]
        zone = double.read(control, ("zones", 5, names[0]))
        assert zone["zonename"][:30] == names[0] == names[3]
        assert zone["nsec_user"] == 5 * 1000003 + 7919 + 3
        assert double.read(control, ("link", 0, "z5_net0"))["zonename"] == zone["zonename"]
        assert double.read(control, ("tcp", 5, "tcp"))["connTableSize6"] == 5 * 1000003 + 52 * 7919 + 3
        assert read_error(double, control, chain[1]) == 0
        assert [stat.name[0] for stat in stats_of(chain[1])[-2:]] == [0, 0]
    assert double.remove_zone(5) == 7
    assert double.counters()["records"] == 7


def test_churn_leaves_nothing_behind(double):
    double.generate(10)
    with double.opened() as control:
        for turn in range(1000):
            double.replace_zone(1 + turn % 10, salt=turn)
            double.library.kstat_chain_update(control)
            assert len(double.chain(control)) == 70
        assert double.counters()["headers"] == double.counters()["records"] == 70


# --- files ---


def test_data_types_are_inferred_and_every_digit_counts(double):
    double.load(
        '[{"module":"m","instance":-1,"name":"a","class":"c","type":1,"snaptime":1.5,"data":{'
        '"big": 18446744073709551615, "odd": 9007199254740993, "minus": -1, "half": 0.5, "text": "t", "none": null,'
        '"word": on-line,\n"small": 7, "chars": "0123456789abcdef", "crtime": 1.000000001, "snaptime": 12.345678901}, '
        '"types": {"small": "uint32", "chars": "char", "odd": 55}}]'
    )
    with double.opened() as control:
        (header,) = double.chain(control)
        assert read_error(double, control, header) == 0
        assert (header.instance, header.type, header.crtime, header.snaptime) == (-1, NAMED, 1000000001, 12345678901)
        stats = {plain(stat.name): stat for stat in stats_of(header)}
        assert (stats["big"].data_type, stats["big"].value.uint64) == (UINT64, 2**64 - 1)
        assert (stats["odd"].data_type, stats["odd"].value.uint64) == (55, 2**53 + 1)
        assert (stats["minus"].data_type, stats["minus"].value.int64) == (INT64, -1)
        assert (stats["small"].data_type, stats["small"].value.uint32) == (UINT32, 7)
        assert (stats["half"].data_type, stats["half"].value.double) == (6, 0.5)
        assert (stats["text"].data_type, stats["text"].value.string.len) == (STRING, 2)
        assert (stats["none"].data_type, stats["none"].value.string.pointer) == (STRING, None)
        assert (stats["word"].data_type, plain(stats["word"].value.char)) == (CHAR, "on-line")
        assert bytes(stats["chars"].value.char) == b"0123456789abcdef"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"what\?", "what?"),
        (r"\"\\\/\b\f\n\r\t", '"\\/\b\f\n\r\t'),
        (r"\u00e9\u20ac\ud83d\ude00", "é€😀"),
        ("é\\é", "éé"),
        ("line\nbreak", "line\nbreak"),
        ("\udcff", "\udcff"),
    ],
)
def test_strings_are_read_as_kstat_prints_them(double, written, read):
    text = '[{"module":"m","instance":0,"name":"a","class":"c","type":1,"data":{"s": "%s",},},]'
    assert read_one(double, text % written) == {"s": read}


def test_names_of_31_bytes_have_no_terminator(double):
    name = "n" * 31
    double.load([kstat(name, {name: 1})])
    with double.opened() as control:
        (header,) = double.chain(control)
        assert bytes(header.name) == name.encode()
        assert read_error(double, control, header) == 0
        assert bytes(stats_of(header)[0].name) == name.encode()


def test_io_interrupt_timer_and_raw_have_their_own_data(double):
    io = {"nread": 2**63, "reads": 3, "wtime": 1.25, "rlentime": 2**40, "rcnt": 5}
    timer = {"name": "t", "num_events": 4, "elapsed_time": 0.000000009}
    double.load(
        [
            kstat("io", io, type=3),
            kstat("intr", {"hard": 1, "multiple_service": 9}, type=2),
            kstat("timer", timer, type=4),
            kstat("raw", {"v_buf": 100}, type=0),
        ]
    )
    with double.opened() as control:
        chain = double.chain(control)
        assert [(header.ndata, header.data_size) for header in chain] == [(1, 80), (1, 20), (1, 80), (64, 64)]
        assert [read_error(double, control, header) for header in chain] == [0] * 4
        words = [ctypes.cast(header.data, ctypes.POINTER(ctypes.c_uint64)) for header in chain]
        assert (words[0][0], words[0][2], words[0][3], words[0][7]) == (2**63, 3, 1250000000, 2**40)
        assert words[0][9] >> 32 == 5
        assert list(ctypes.cast(chain[1].data, ctypes.POINTER(ctypes.c_uint32))[:5]) == [1, 0, 0, 0, 9]
        assert (ctypes.string_at(chain[2].data), words[2][4], words[2][5]) == (b"t", 4, 9)


def test_members_of_ours_make_reads_fail_and_tell_lies(double):
    chain = [
        kstat("gone", error="ENXIO"),
        kstat("busy", {"a": 1}, error="EAGAIN", error_times=1),
        kstat("odd", error="what went wrong"),
        kstat("wild", {"a": 1}, ndata=9, data_size=48),
        kstat("more", {"a": 1}, unnamed=2),
    ]
    double.load(chain)
    with double.opened() as control:
        found = {plain(header.name): header for header in double.chain(control)}
        assert read_error(double, control, found["gone"]) == errno.ENXIO
        assert [read_error(double, control, found["busy"]) for _ in range(2)] == [errno.EAGAIN, 0]
        assert read_error(double, control, found["odd"]) == errno.EIO
        assert read_error(double, control, found["wild"]) == 0
        assert (found["wild"].ndata, found["wild"].data_size, found["more"].ndata) == (9, 48, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: expected '['"),
        ("[\n{}]", 'line 2: a kstat has no "module"'),
        ('[{"x": 1}]', "line 1: a kstat has no member x"),
        ('[{"module": "m"', "line 1: expected ',' or '}'"),
        ('[{"module": "m', "line 1: a string does not end"),
        ("[] x", "line 1: text after the end"),
        ([kstat("n" * 32)], "name: expected at most 31 bytes, got 32: " + "n" * 32),
        ([kstat(data={"a": 2**64})], "expected a whole number from -9223372036854775807 to 18446744073709551615"),
        ([kstat(data={"a": -1}, types={"a": "uint32"})], "expected a whole number from 0 to 4294967295, got -1"),
        ([kstat(data={"a": 1}, types={"a": "uint33"})], "types: uint33 is no data type"),
        ([kstat(data={"a": 1}, type=IO)], "data: a kstat of type 3 has no a"),
    ],
)
def test_a_text_that_is_wrong_is_refused_with_the_line(double, text, problem):
    with pytest.raises(ValueError, match=r"^line \d+: ") as raised:
        double.load(text)
    assert problem in str(raised.value)


def test_the_file_that_the_environment_names_is_the_chain_and_follows_it(double, tmp_path, monkeypatch, capfd):
    path = tmp_path / "chain.json"

    def write(name):
        partial = tmp_path / "partial"
        shutil.copy(CHAINS / name, partial)
        partial.rename(path)

    write("smartos-small.json")
    monkeypatch.setenv("KSTAT_JSON", str(path))
    with double.opened() as control:
        kids = [header.kid for header in double.chain(control)]
        assert len(kids) == 71
        path.write_text(path.read_text().replace('"model": 26', '"model": 2662'))
        assert double.library.kstat_chain_update(control) == 0
        assert double.read(control, ("cpu_info", 0, "cpu_info0"))["model"] == 2662
        path.write_text(path.read_text().replace("24847.587211675", "30000.1"))
        assert double.library.kstat_chain_update(control) > 0
        after = [header.kid for header in double.chain(control)]
        assert len(set(kids) & set(after)) == 71 - 13
        write("empty.json")
        assert double.library.kstat_chain_update(control) > 0
        assert double.chain(control) == []
        path.write_text("nothing")
        assert double.library.kstat_chain_update(control) == -1
        assert ctypes.get_errno() == errno.EINVAL
        assert capfd.readouterr().err == f"{path}: line 1: expected '['\n"
    path.unlink()
    with pytest.raises(FileNotFoundError), double.opened():
        pass


def test_the_environment_makes_zones_and_takes_the_direct_way_off(double, monkeypatch):
    monkeypatch.setenv("KSTAT_ZONES", "3")
    monkeypatch.setenv("KSTAT_DIRECT", "0")
    with double.opened() as control:
        assert len(double.chain(control)) == 21
        assert double.library.ioctl(control.contents.kd, KSTAT_IOC_CHAIN_ID, None) == -1


# --- the chains ---


@pytest.mark.parametrize(("name", "count"), [("empty", 0), ("smartos-small", 71), ("omnios", 37), ("hostile", 52)])
def test_every_chain_loads(double, name, count):
    double.load(CHAINS / f"{name}.json")
    assert double.counters()["records"] == count


def test_every_chain_says_where_it_comes_from():
    headings = {line[3:] for line in (CHAINS / "ORIGIN.md").read_text().splitlines() if line.startswith("## ")}
    assert headings == {path.name for path in CHAINS.glob("*.json")}


def test_smartos_has_what_was_captured(double):
    double.load(CHAINS / "smartos-small.json")
    with double.opened() as control:
        cap = double.read(control, ("caps", 20, "cpucaps_zone_20"))
        assert (cap["above_sec"], cap["maxusage"], cap["usage"], cap["value"]) == (4, 740, 1, 400)
        header = header_of(double, control, "cpucaps_zone_20")
        assert (header.crtime, header.snaptime) == (24848408812654, 76789292084743)
        shared = "962bc668-09d5-c087-b16f-d5aa6e"
        full = [double.read(control, ("zones", zone, shared))["zonename"] for zone in (28, 29)]
        assert full == ["962bc668-09d5-c087-b16f-d5aa6e88d042", "962bc668-09d5-c087-b16f-d5aa6e4f1c03"]
        assert double.read(control, ("memory_cap", 28, shared))["rss"] == 63193088
        assert double.read(control, ("link", 0, "z1_net0"))["rbytes64"] == 2**53 + 1
        info = header_of(double, control, "cpu_info0")
        assert read_error(double, control, info) == 0
        model = next(stat for stat in stats_of(info) if plain(stat.name) == "model")
        assert (model.data_type, model.value.int32) == (INT32, 26)


def test_omnios_has_what_was_captured(double):
    double.load(CHAINS / "omnios.json")
    with double.opened() as control:
        arcstats = double.read(control, ("zfs", 0, "arcstats"))
        assert (len(arcstats), arcstats["c"]) == (99, 6753403688)
        assert len(double.read(control, ("zones", 5, "cube-ws"))) == 15
        link = double.read(control, ("link", 0, "dns_net0"))
        assert (len(link), "zonename" in link) == (21, False)
        memory = double.library.kstat_lookup(control, b"memory_cap", 7, b"serv-wf").contents
        assert (read_error(double, control, memory), memory.ndata) == (0, 14)
        assert double.read(control, ("memory_cap", 7, "serv-wf"))["swapcap"] == 2**64 - 1


def test_hostile_names_come_through_byte_for_byte(double):
    double.load(CHAINS / "hostile.json")
    with double.opened() as control:
        names = {plain(header.name) for header in double.chain(control)}
        assert {'say "zone"', "back\\slash", "zürich-日本", "new\nline", "\udcff\udcfe not UTF-8", "what?"} <= names


def test_the_readme_names_every_member_and_variable():
    text = (Path(__file__).parent / "README.md").read_text()
    words = "types flags unnamed error error_times ndata data_size KSTAT_JSON KSTAT_ZONES KSTAT_DIRECT".split()
    assert [word for word in words if f"`{word}`" not in text] == []
