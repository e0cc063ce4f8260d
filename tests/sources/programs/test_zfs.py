import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.catalogue.program_fields import ZFS_FIELDS
from pymon.sources.errors import SourceError
from pymon.sources.programs import Zfs, Zpool
from pymon.sources.programs.background import PROBLEMS_LIMIT, Problems
from pymon.sources.programs.zfs import parse_list
from tests.sources.programs.scripts import calls, capture, printing, run_once, script

UUID = "54f1cc77-68f1-42ab-acac-5c4f64f5d6e0"
OTHER = "7b5981c4-1889-11e7-b4c5-3f3bdfc9b88b"
LINE = "zones/web\t1\t2\t3\t4\t5\t6\t7\t8\t9\t1.10x\t1.20x\n"


def parse(output, parent="zones"):
    problems = Problems("zfs")
    return parse_list(output, parent, problems), problems.found


def cells(table, row):
    return {field: value for field in table.columns if (value := table.get(row, field)) is not None}


def test_the_datasets_right_below_the_parent():
    space, problems = parse(capture("zfs-list.txt"))
    assert space.keys() == {UUID, OTHER, "web server"}
    assert not problems
    assert dict(zip(ZFS_FIELDS, space[UUID], strict=True)) == {
        "available": 10212876289,
        "used": 524541952,
        "logicalused": 802545664,
        "recordsize": 131072,
        "quota": 10737418240,
        "usedbydataset": 503316480,
        "usedbysnapshots": 21225472,
        "referenced": 503316481,
        "logicalreferenced": 770048000,
        "compressratio": 153,
        "refcompressratio": 147,
    }
    assert space["web server"] == (10212876291, 2**64 - 1, None, 131073, None, 0, 0, 98304, 8192, 100, None)


def test_another_parent():
    output = LINE.replace("zones/web", "rpool/zones/web") + LINE
    assert parse(output, "rpool/zones")[0].keys() == {"web"}


@pytest.mark.parametrize("at", range(len(ZFS_FIELDS)))
@pytest.mark.parametrize("word", ["", "none", "12G", "-1", "1.5", "99999999999999999999", "1.234x"])
def test_a_word_that_does_not_parse_costs_its_cell(at, word):
    words = LINE.rstrip("\n").split("\t")
    good = parse(LINE)[0]["web"]
    words[at + 1] = word
    space, problems = parse("\t".join(words) + "\n")
    assert space["web"] == (*good[:at], None, *good[at + 1 :])
    assert [problem.reason for problem in problems] == ["parse"]
    assert f"zfs: web: {ZFS_FIELDS[at]}: expected" in str(problems[0])


@pytest.mark.parametrize("bad", ["zones/db\n", "\n", "cannot open 'x': dataset does not exist\n", "zones/db\t1\t2\n"])
def test_a_line_that_does_not_parse_costs_itself(bad):
    space, problems = parse(bad + LINE)
    assert space.keys() == {"web"}
    assert [problem.reason for problem in problems] == ["parse"]


def test_a_line_that_was_cut_off_is_not_believed():
    space, problems = parse(LINE + LINE.replace("web", "db").rstrip("x\n"))
    assert space.keys() == {"web"}
    assert "a newline at its end" in str(problems[0])


def test_problems_are_bounded_and_of_one_line():
    odd = "\x1b[2J" + "x" * 1000
    _, problems = parse(f"{odd}\r\n" + LINE.replace("web\t1", f"{odd}\tx") + "bad\n" * 1000)
    assert len(problems) == PROBLEMS_LIMIT
    assert all(str(problem).isprintable() and len(str(problem)) < 350 for problem in problems)


def test_one_run_serves_every_zone(started, tmp_path, clock, woken):
    printing(tmp_path, "zfs", capture("zfs-list.txt"))
    program = started(Zfs)
    run_once(program, clock, woken)
    filled = program.fill(clock(), {OTHER: 0, UUID: 2, "halted": 3})
    assert filled.available
    assert filled.missing == (3,)
    (table,) = program.tables
    assert len(table) == 4
    assert [table.parent(row) for row in range(4)] == [0, 1, 2, 3]
    assert [table.get(row, "available") for row in range(4)] == [10212876290, None, 10212876289, None]
    assert cells(table, 0)["refcompressratio"] == 1002
    fields = ",".join(ZFS_FIELDS)
    assert calls(tmp_path, "zfs") == [f"list -H -p -t filesystem -d 1 -o name,{fields} zones"]


def test_zones_that_come_and_go_between_runs(started, tmp_path, clock, woken):
    printing(tmp_path, "zfs", capture("zfs-list.txt"))
    program = started(Zfs)
    run_once(program, clock, woken)
    (table,) = program.tables
    rows = {UUID: 0, "halted": 1}
    assert program.fill(clock(), rows).missing == (1,)
    rows[OTHER] = 2
    assert program.fill(clock(), rows).missing == (1,)
    assert table.get(2, "recordsize") == 65536
    del rows["halted"], rows[UUID]
    rows["web server"] = 0  # a row that is used again, by a zone of fewer fields
    filled = program.fill(clock(), rows)
    assert (filled.cached, filled.missing) == (True, ())
    assert cells(table, 0).keys() == set(ZFS_FIELDS) - {"logicalused", "quota", "refcompressratio"}
    assert cells(table, 0)["available"] == 10212876291
    assert cells(table, 1) == {}
    assert program.fill(clock(), {}).missing == ()
    assert [cells(table, row) for row in range(3)] == [{}, {}, {}]


def test_a_new_run_replaces_every_cell(started, tmp_path, clock, woken):
    printing(tmp_path, "zfs", LINE)
    program = started(Zfs)
    run_once(program, clock, woken)
    program.fill(clock(), {"web": 0})
    printing(tmp_path, "zfs", LINE.replace("\t1\t", "\t-\t").replace("\t2\t", "\t22\t"))
    clock.now += Zfs.ttl_seconds
    run_once(program, clock, woken)
    assert program.fill(clock(), {"web": 0}).cached is False
    (table,) = program.tables
    assert cells(table, 0)["used"] == 22
    assert "available" not in cells(table, 0)


def test_a_node_without_the_parent_says_so(started, tmp_path, clock, woken):
    script(tmp_path, "zfs", "echo \"cannot open 'zones': dataset does not exist\" >&2; exit 1")
    program = started(Zfs)
    run_once(program, clock, woken)
    filled = program.fill(clock(), {"web": 0})
    assert not filled.available
    assert [(problem.reason, str(problem)) for problem in filled.problems] == [
        ("exit", "zfs: exit status 1, \"cannot open 'zones': dataset does not exist\"")
    ]


def test_what_ten_thousand_zones_cost_when_nothing_has_changed(started, tmp_path, clock, woken):
    zones = {f"00000000-0000-4000-8000-{number:012d}": number for number in range(10_000)}
    printing(tmp_path, "zfs", "".join(LINE.replace("web", zone) for zone in zones))
    program = started(Zfs)
    run_once(program, clock, woken)
    assert program.fill(clock(), zones).missing == ()
    (table,) = program.tables
    assert table.get(9_999, "used") == 2
    before = time.thread_time()
    for _ in range(100):
        program.fill(clock(), zones)
    assert time.thread_time() - before < 5  # a hundred times; reading them all takes longer than that


@pytest.mark.parametrize(("make", "name"), [(Zfs, "zfs"), (Zpool, "zpool")])
def test_the_real_program_is_asked_what_it_understands(make, name, clock, woken):
    if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"{name} is not installed")
    program = make(clock=clock)
    program.start(woken)
    try:
        run_once(program, clock, woken)
        assert {problem.reason for problem in program.fill(clock(), {}).problems} <= {"exit"}
    finally:
        program.close()


@given(st.lists(st.sampled_from(["zones/", "\t", "\n", "-", "1.00x", "7", "/"]) | st.text(max_size=5)).map("".join))
def test_any_text_is_numbers_or_problems(text):
    space, problems = parse(text)
    for fields in space.values():
        assert len(fields) == len(ZFS_FIELDS)
        assert all(field is None or 0 <= field < 2**64 for field in fields)
    assert all(isinstance(problem, SourceError) and str(problem).isprintable() for problem in problems)
