import pytest

from pymon.catalogue.program_fields import ZPOOL_FIELDS, ZPOOL_HEALTH
from pymon.sources.programs import Zpool
from pymon.sources.programs.background import Problems
from pymon.sources.programs.zpool import parse_list
from tests.sources.node.rows import by_label
from tests.sources.programs.scripts import calls, capture, printing, run_once


def parse(output):
    problems = Problems("zpool")
    return parse_list(output, problems), problems.found


def test_pools_with_and_without_percent_signs_and_padding(started, tmp_path, clock, woken):
    printing(tmp_path, "zpool", capture("zpool-list.txt"))
    program = started(Zpool)
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert (filled.available, filled.problems, filled.missing) == (True, (), ())
    (table,) = program.tables
    assert by_label(table, "pool") == {
        "rpool": {"allocated": 4612542464, "fragmentation": 12, "health": 0, "size": 16911433728},
        "zones": {"allocated": 87129012224, "fragmentation": 37, "health": 1, "size": 498216206336},
        "tank": {"health": 2**64 - 1},  # -1, and nothing else known
        "old pool": {"allocated": 77, "health": 5, "size": 1000204886016},
    }
    assert calls(tmp_path, "zpool") == ["list -Hpo name,allocated,fragmentation,health,size"]


def test_a_pool_that_has_gone_has_no_row(started, tmp_path, clock, woken):
    printing(tmp_path, "zpool", capture("zpool-list.txt"))
    program = started(Zpool)
    run_once(program, clock, woken)
    program.fill(clock())
    printing(tmp_path, "zpool", "")
    clock.now += Zpool.ttl_seconds
    run_once(program, clock, woken)
    assert program.fill(clock()).available
    assert len(program.tables[0]) == 0


@pytest.mark.parametrize(("word", "number"), [*((word, i) for i, word in enumerate(ZPOOL_HEALTH)), ("online", -1)])
def test_health_is_a_number(word, number):
    assert parse(f"zones\t1\t2\t{word}\t3\n") == ({"zones": (1, 2, number, 3)}, [])


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("word", ["", "1.5", "12G", "%", "1%%", "-1"])
def test_a_word_that_does_not_parse_costs_its_cell(at, word):
    words = ["1", "2", "ONLINE", "3"]
    words[at] = word
    pools, problems = parse("zones\t" + "\t".join(words) + "\n")
    assert pools["zones"][at] is None
    assert pools["zones"].count(None) == 1
    assert f"zpool: zones: {ZPOOL_FIELDS[at]}: expected an integer" in str(problems[0])


def test_lines_of_other_widths_cost_themselves():
    pools, problems = parse("no pools available\nzones\t1\t2\tONLINE\t3\nzones\t1\t2\tONLINE\t3\t4\n\nrpool\t1")
    assert pools == {"zones": (1, 2, 0, 3)}
    assert [problem.reason for problem in problems] == ["parse"] * 4


def test_bytes_that_are_no_utf_8_keep_names_apart(started, tmp_path, clock, woken):
    (tmp_path / "zpool.bin").write_bytes(b"a\xff\t1\t2\tONLINE\t3\na\xfe\t4\t5\tONLINE\t6\n")
    printing(tmp_path, "zpool", "")
    (tmp_path / "zpool.bin").replace(tmp_path / "zpool.out")
    program = started(Zpool)
    run_once(program, clock, woken)
    program.fill(clock())
    assert len(program.tables[0]) == 2
    assert program.tables[0].labels(0) != program.tables[0].labels(1)
