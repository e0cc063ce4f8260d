"""Columns that BPF fills: the decision, the comparison, and files that take over."""

from __future__ import annotations

import gc
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pymon._native.table import Table
from pymon.sources.bpf import (
    BpfColumn,
    BpfFiller,
    BpfSource,
    ColumnName,
    Decision,
    Facts,
    Finding,
    all_columns,
    capabilities_missing,
    decide,
    probe,
    refusal_text,
)
from pymon.sources.bpf_check import ROUNDS, BpfCheck, Row, choose_groups, compare, judge, with_anchors
from pymon.sources.cgroup import Hierarchies, Layout, find_hierarchies
from tests.sources.check_source import Numbers, check_source
from tests.sources.test_sources import MEMORY_COLUMNS, CgroupSystem
from tests.sources.walks import ABSENT, IN_FILES, UNKNOWN, Walks

USAGE = ColumnName("memory.v1", "memory.usage_in_bytes")
COLUMN = BpfColumn(USAGE, "memory", "gauge", 0)

# --- the decision ---


def test_a_column_is_filled_when_it_was_compared():
    assert decide(COLUMN, Facts(), {}, {USAGE: Finding(True, "equal")}) == Decision(True, "equal")


@pytest.mark.parametrize(
    ("facts", "refusals", "findings", "reason"),
    [
        (Facts(object="no object"), {}, {USAGE: Finding(True, "")}, "no object"),
        (Facts(library="no libbpf"), {}, {USAGE: Finding(True, "")}, "no libbpf"),
        (Facts(btf="no BTF"), {}, {USAGE: Finding(True, "")}, "no BTF"),
        (Facts(capabilities="without CAP_BPF"), {}, {USAGE: Finding(True, "")}, "without CAP_BPF"),
        (Facts(tree="/x is no cgroup"), {}, {USAGE: Finding(True, "")}, "/x is no cgroup"),
        (Facts(), {"memory": "refused: R1"}, {USAGE: Finding(True, "")}, "refused: R1"),
        (Facts(), {"cpu": "refused: R1"}, {USAGE: Finding(False, "disagrees")}, "disagrees"),
        (Facts(), {}, {USAGE: Finding(None, "nothing to compare")}, "nothing to compare"),
        (Facts(), {}, {}, "not yet compared with the files"),
    ],
)
def test_else_files_are_read(facts, refusals, findings, reason):
    assert decide(COLUMN, facts, refusals, findings) == Decision(False, reason)


@pytest.mark.parametrize(
    ("mask", "missing"),
    [
        (0, "without CAP_BPF and CAP_PERFMON"),
        (1 << 39, "without CAP_PERFMON"),
        (1 << 38, "without CAP_BPF"),
        (1 << 38 | 1 << 39, ""),
        (1 << 21, ""),
    ],
)
def test_capabilities(mask, missing):
    assert capabilities_missing(f"Name:\tx\nCapEff:\t{mask:016x}\n") == missing


def test_capabilities_that_are_not_said():
    assert capabilities_missing("Name:\tx\n") == "capabilities are not known"


def test_a_refusal_is_what_the_verifier_said_last():
    log = (
        "libbpf: prog 'walk_pids': BPF program load failed: Permission denied\n"
        "libbpf: prog 'walk_pids': -- BEGIN PROG LOAD LOG --\n"
        "32: (79) r1 = *(u64 *)(r1 +256)\n"
        "R1 invalid mem access 'scalar'\n"
        "processed 35 insns (limit 1000000) max_states_per_insn 0\n"
        "-- END PROG LOAD LOG --\n"
    )
    assert refusal_text(13, log) == "refused: R1 invalid mem access 'scalar'"
    assert refusal_text(2, "libbpf: failed to find valid kernel BTF\n") == "refused: failed to find valid kernel BTF"
    assert refusal_text(13, "") == "refused: Permission denied"
    assert refusal_text(71, "") == "refused: the object is of another version than the agent"


def test_every_column_has_one_place():
    names = [column.name for column in all_columns()]
    assert len(names) == len(set(names)) > 60


# --- the comparison ---


@pytest.mark.parametrize(
    ("nature", "row", "agrees"),
    [
        ("counter", Row(1, 2, 3), True),
        ("counter", Row(1, 4, 3), False),
        ("counter", Row(2, 1, 3), False),
        ("counter", Row(2, None, 3), False),
        ("counter", Row(None, None, None), True),
        ("counter", Row(None, 0, None), False),
        ("counter", Row(None, 0, 0), None),
        ("gauge", Row(5, 5, 5), True),
        ("gauge", Row(5, 6, 5), False),
        ("gauge", Row(5, 6, 7), True),
        ("gauge", Row(7, 6, 5), True),
        ("gauge", Row(5, 9, 7), None),
        ("setting", Row(5, 5, 5), True),
        ("setting", Row(5, 4, 5), False),
        ("setting", Row(5, 6, 7), None),
        ("setting", Row(None, None, 7), None),
    ],
)
def test_compare(nature, row, agrees):
    assert compare(nature, row) is agrees


def test_one_cgroup_that_disagrees_in_every_round_is_enough():
    wrong = {"a": Row(1, 1, 1), "b": Row(5, 6, 5)}
    finding = judge("gauge", [wrong] * ROUNDS)
    assert finding.agrees is False
    assert finding.text == "disagrees with the files: 6 between 5 and 5 in b"
    assert judge("gauge", [wrong] * (ROUNDS - 1) + [{"a": Row(1, 1, 1), "b": Row(5, 5, 5)}]).agrees
    moving = [{"a": Row(1, 1, 1), "b": Row(5, 6, 5)}, {"a": Row(1, 2, 1), "b": Row(5, 5, 5)}] * ROUNDS
    assert judge("gauge", moving[:ROUNDS]).agrees


def test_zeros_alone_are_said():
    assert judge("gauge", [{"a": Row(0, 0, 0)}]) == Finding(True, "equal to the files, which have no number but 0")
    assert judge("gauge", [{}]).agrees is None
    assert judge("gauge", []).agrees is None


def test_memory_stat_needs_numbers_that_are_not_zero():
    zeros = Finding(True, "equal to the files, which have no number but 0")
    equal = Finding(True, "equal to the files")
    names = [ColumnName("memory.v1", f"memory.stat:{key}") for key in ("a", "b", "c", "d")]
    assert with_anchors(dict(zip(names, [equal, equal, equal, zeros], strict=True)))[names[3]].agrees
    known = with_anchors({**dict(zip(names, [equal, equal, zeros, zeros], strict=True)), USAGE: zeros})
    assert [known[name].agrees for name in names] == [None] * 4
    assert known[USAGE].agrees


def test_groups_are_chosen_of_each_hierarchy(tmp_path):
    for path, usage in (("a", 5), ("a/b", 4), ("c", 9), ("own", 99)):
        (tmp_path / "memory" / path).mkdir(parents=True)
        (tmp_path / "memory" / path / "memory.usage_in_bytes").write_text(f"{usage}\n")
    (tmp_path / "cpu/x").mkdir(parents=True)
    hierarchies = Hierarchies({"memory": tmp_path / "memory", "cpu": tmp_path / "cpu"}, None, frozenset())
    assert choose_groups(hierarchies, frozenset({"own"})) == ["c", "a", "a/b", "x"]


# --- files take over ---

VALUE_OF = {"memory.current": 0, "memory.swap.current": 5, "memory.stat:anon": 11}  # of native/bpf/record.h


class BpfSystem(CgroupSystem):
    """Files of control groups that are not to be read, and records of a BPF walk that has their numbers."""

    def __init__(self, root: Path) -> None:
        self.numbers: dict[str, Numbers] = {}
        self.spoilt: set[str] = set()
        self.walks = Walks(self.records)
        super().__init__(root, self)

    def bind(self, _reader: str, layout: Layout) -> BpfFiller:
        _, library = probe(find_hierarchies(self.root), Path("/proc"), Path("/sys"))
        self.bpf = BpfFiller(library, find_hierarchies(self.root), layout, self.walks.pointer)
        assert set(self.bpf.columns) == {("memory.v2", key) for key in MEMORY_COLUMNS}
        for column in self.bpf.columns:
            self.bpf.enable(column, True)
        return self.bpf

    def records(self, program: str) -> dict[int, dict[int, int]]:
        assert program == "memory"
        records = {}
        for name, numbers in self.numbers.items():
            if (self.root / name).is_dir():
                values = [ABSENT if number is None else number for number in numbers]
                if name in self.spoilt:
                    values[0] = IN_FILES
                of_columns = zip(MEMORY_COLUMNS, values, strict=True)
                records[(self.root / name).stat().st_ino] = {VALUE_OF[key]: value for key, value in of_columns}
        return records

    def write(self, name: str, numbers: Numbers) -> None:
        self.numbers[name] = numbers
        self.write_files(name, "4", "4", "4")

    def write_files(self, name: str, current: str, swap: str, anon: str) -> None:
        group = self.root / name
        group.mkdir(exist_ok=True)
        (group / "memory.current").write_text(f"{current}\n")
        (group / "memory.swap.current").write_text(f"{swap}\n")
        (group / "memory.stat").write_text(f"file 3\nanon {anon}\n")

    def spoil(self, name: str) -> None:
        _, swap, anon = self.numbers[name]
        self.write_files(name, "x", str(swap), str(anon))
        self.spoilt.add(name)


@pytest.fixture(autouse=True)
def no_garbage_collection() -> Iterator[None]:
    """The walker's Python runs on reader threads. These have a table of descriptors of their own, in which a finalizer
    that is run there would close another descriptor than its own, or none.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in itertools.count())


@contextmanager
def opened(directories: Iterator[Path]) -> Iterator[BpfSystem]:
    system = BpfSystem(next(directories))
    yield system
    system.source.close()
    assert system.walks.open == {}, "the reader's thread closes what it has opened"


def test_the_source_does_what_sources_do(directories):
    check_source(lambda: opened(directories))


FILES, BPF = (4, 4, 4), (11, 12, 13)


def numbers_of(system: BpfSystem) -> set[Numbers]:
    outcome = system.collect()
    assert outcome.failures == {}
    return set(outcome.numbers.values())


@pytest.fixture
def system(directories: Iterator[Path]) -> Iterator[BpfSystem]:
    with opened(directories) as system:
        system.add([f"c{number}" for number in range(20)], lambda _: BPF)
        assert numbers_of(system) == {BPF}
        assert system.source.open_descriptors == 0
        yield system


def test_a_walk_that_is_aborted(system):
    system.walks.result = -125  # ECANCELED
    assert numbers_of(system) == {FILES}
    assert system.bpf.fallbacks == {"aborted": 1}
    system.walks.result = -1
    assert numbers_of(system) == {FILES}
    assert system.bpf.fallbacks == {"aborted": 1, "failed": 1}
    system.walks.result = 0
    assert numbers_of(system) == {BPF}


def test_a_map_that_is_too_small_is_made_larger(system):
    first = system.walks.opened[0]
    names = [f"c{number}" for number in range(20, first + 40)]
    system.add(names, lambda _: BPF)
    outcome = system.collect()
    missing = len(system.rows) - first
    assert sorted(outcome.numbers.values()).count(FILES) == missing
    assert system.bpf.fallbacks == {"full": missing}
    assert numbers_of(system) == {BPF}
    assert system.walks.opened == [first, 2 * first]


def test_a_map_that_is_as_large_as_it_gets(system):
    system.walks.room = 5
    for _ in range(10):
        system.collect()
    assert system.walks.opened[-1] == 65536
    assert len(system.walks.opened) < 10
    assert set(system.collect().numbers.values()) == {BPF, FILES}


def test_a_cgroup_that_is_removed_and_made_again(system):
    old = (system.root / "c3").stat().st_ino
    shutil.rmtree(system.root / "c3")
    numbers = system.collect().numbers
    assert numbers.pop("c3") == (None, None, None)
    assert set(numbers.values()) == {BPF}
    assert system.bpf.fallbacks == {"gone": 1}
    (system.root / "other").mkdir()
    system.write("c3", (21, 22, 23))
    assert (system.root / "c3").stat().st_ino != old
    assert system.collect().numbers["c3"] == (21, 22, 23)


def test_a_struct_that_lacks_a_member(system):
    for name in system.rows:
        system.numbers[name] = (UNKNOWN, 12, 13)
    assert numbers_of(system) == {FILES}
    assert system.bpf.fallbacks == {"no_member": 20}
    assert numbers_of(system) == {(4, 12, 13)}
    assert system.bpf.lacking == {("memory.v2", "memory.current")}


def test_a_cgroup_of_which_files_have_more(system):
    system.numbers["c5"] = (IN_FILES, 12, 13)
    numbers = system.collect().numbers
    assert numbers.pop("c5") == FILES
    assert set(numbers.values()) == {BPF}
    assert system.bpf.fallbacks == {}


def test_a_program_that_is_refused(directories):
    system = BpfSystem(next(directories))
    system.walks.refusal = "R1 is bad\nprocessed 1 insns\n"
    system.add(["c1"], lambda _: BPF)
    for _ in range(2):
        assert numbers_of(system) == {FILES}
    assert system.bpf.fallbacks == {"refused": 1}
    assert system.bpf.refusals == {"memory": "refused: R1 is bad"}
    system.source.close()


def test_a_column_that_is_switched_off(system):
    system.bpf.enable(ColumnName("memory.v2", "memory.current"), False)
    assert numbers_of(system) == {(4, 12, 13)}
    system.bpf.enable(ColumnName("memory.v2", "memory.current"), True)
    assert numbers_of(system) == {BPF}


def filled_by_hand(
    root: Path, hierarchies: Hierarchies, column: ColumnName, records: dict[str, dict[int, int]]
) -> tuple[Table, bytes]:
    """Fill the column's table for the group of each record, and return it with what says which groups were filled."""
    walks = Walks(lambda _: {(root / name).stat().st_ino: values for name, values in records.items()})
    _, library = probe(hierarchies, Path("/proc"), Path("/sys"))
    filler = BpfFiller(library, hierarchies, [(column.table, (column.key,))], walks.pointer)
    filler.enable(column, True)
    table = Table(column.table, (column.key,))
    filled = filler.fill([table], list(records))
    filler.close()
    return table, filled


def test_rows_of_cpus_are_those_of_the_file(tmp_path):
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
    times, cpus = 5, os.sysconf("SC_NPROCESSORS_CONF")  # of native/bpf/record.h
    a = {times: cpus} | {times + 1 + cpu: 10 * cpu for cpu in range(cpus)}
    records = {"a": a, "b": {times: ABSENT}, "c": {times: UNKNOWN}, "d": {times: 1, times + 1: 7}}
    hierarchies = Hierarchies({"cpuacct": tmp_path}, None, frozenset())
    table, filled = filled_by_hand(tmp_path, hierarchies, ColumnName("percpu.v1", "cpuacct.usage_percpu"), records)
    assert list(filled) == [1, 1, 0, 1]
    rows = [(table.parent(row), table.labels(row), table.get(row, "cpuacct.usage_percpu")) for row in range(len(table))]
    assert rows == [(0, f'cpu="cpu{cpu:02}",'.encode(), 10 * cpu) for cpu in range(1, cpus)] + [(3, b'cpu="cpu00",', 7)]


# --- the host ---


def test_an_object_that_is_missing(tmp_path):
    hierarchies = Hierarchies({}, None, frozenset())
    source = BpfSource(hierarchies, procfs=Path("/proc"), sysfs=Path("/sys"), objects=tmp_path)
    assert re.fullmatch(r"cgroup\.bpf\.o: No such file .*: pymon was built without clang", source.facts.obstacle)
    assert source.filler("memory", [("memory.v2", ("memory.current",))]) is None
    assert source.filled == 0


def test_files_that_are_no_cgroups(tmp_path):
    hierarchies = Hierarchies({}, tmp_path, frozenset())
    source = BpfSource(hierarchies, procfs=Path("/proc"), sysfs=Path("/sys"))
    assert source.facts.obstacle == f"{tmp_path} is not of a cgroup file system"


def test_a_kernel_without_btf(tmp_path):
    source = BpfSource(Hierarchies({}, None, frozenset()), procfs=Path("/proc"), sysfs=tmp_path)
    assert source.facts.btf == f"no BTF: {tmp_path}/kernel/btf/vmlinux: No such file or directory"


def test_a_column_that_disagrees_later_goes_back_to_files(tmp_path):
    source = BpfSource(Hierarchies({}, None, frozenset()), procfs=Path("/proc"), sysfs=Path("/sys"))
    source.facts = Facts()
    source._hierarchies = Hierarchies({}, tmp_path, frozenset({"memory"}))
    name = ColumnName("memory.v2", "memory.current")
    source.filler("memory", [("memory.v2", ("memory.current",))])
    assert source.learn({name: Finding(True, "equal")}, {}) == []
    assert source.filled == 1
    assert source.learn({name: Finding(None, "nothing")}, {}) == []
    assert source.filled == 1, "what was seen before counts on"
    assert source.learn({name: Finding(False, "disagrees")}, {}) == [(name, "disagrees")]
    assert (source.filled, source.disagreements) == (0, 1)


def test_the_own_cgroup_may_have_any_name(tmp_path):
    hierarchies = Hierarchies({}, None, frozenset())
    source = BpfSource(hierarchies, procfs=Path("/proc"), sysfs=Path("/sys"))
    source.facts = Facts()
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_bytes(b"0::/not-utf-8-\xff\n")
    check = BpfCheck(source, hierarchies, [], procfs=tmp_path, sysfs=tmp_path)
    assert check.run() == []
    check.close()
