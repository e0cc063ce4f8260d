"""What BPF programs say of cgroups under load, compared with their files; and objects that do not fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pymon._native.readers import Mailbox
from pymon.catalogue import cadvisor
from pymon.catalogue.model import Column
from pymon.sources.bpf import OBJECTS, BpfSource, ColumnName, Facts
from pymon.sources.bpf_check import BpfCheck
from pymon.sources.cgroup import CgroupSource, columns_of, find_hierarchies
from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, Group, World, run, until
from tests.sources.walks import build_objects

pytestmark = pytest.mark.root

PROCFS, SYSFS, CGROUPFS = Path("/proc"), Path("/sys"), Path("/sys/fs/cgroup")
EQUAL = "equal to the files"

MAY_BE_ZERO = """
io.v1 blkio.v1 io.v2 blkio.v2 memory.stat:inactive_file memory.stat:active_file memory.stat:total_swap
memory.stat:pgmajfault memory.stat:total_pgmajfault memory.stat:file_dirty memory.stat:file_writeback
memory.stat:workingset_refault_file memory.stat:workingset_refault_anon memory.swap.current cpu.stat:nr_bursts
cpu.stat:burst_usec memory.pressure:some:total memory.pressure:full:total io.pressure:some:total
io.pressure:full:total memory.memsw.limit_in_bytes memory.swap.max memory.min memory.low memory.events:high
memory.events:low memory.events:oom_group_kill memory.stat:sec_pagetables
""".split()
"""Tables and columns that stay at 0 without swap, with fast disks, or without any, as in the guest of tests/vm."""

BURN = "import os\nwhile True:\n    for _ in range(20000): os.stat('/')\n    sum(range(300000))"
HOG = """
import mmap, sys, time
held = bytearray(48 << 20)
for at in range(0, len(held), 4096): held[at] = 1
huge = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
huge.madvise(mmap.MADV_HUGEPAGE)
huge.write(b"1" * len(huge))
file = open(sys.argv[1], "w+b"); file.write(bytes(8 << 20)); file.flush()
for again in range(4): file.seek(0); file.read()  # pages that are used again are active
file.write(bytes(8 << 20)); file.flush()
mapped = mmap.mmap(file.fileno(), 0)
print(sum(mapped[::4096]), flush=True)
time.sleep(1000)
"""


def all_of_the_host(*, by_cpu: bool) -> list[Column]:
    """Return all columns; of CPU time those by CPU or else the total."""
    metrics = cadvisor.METRICS
    if not by_cpu:
        metrics = tuple(cadvisor.without_table(metric, "percpu.v1") for metric in metrics)
    return columns_of(metric for metric in metrics if metric.collector != "container_numa")


class Host:
    """BPF on this host, compared for some cgroups."""

    def __init__(self, groups: Callable[[], list[str]], objects: Path, *, by_cpu: bool) -> None:
        hierarchies = find_hierarchies(CGROUPFS)
        self.bpf = BpfSource(hierarchies, procfs=PROCFS, sysfs=SYSFS, objects=objects)
        if self.bpf.facts != Facts():
            pytest.skip(f"BPF is not to be had: {self.bpf.facts.obstacle}")
        columns = all_of_the_host(by_cpu=by_cpu)
        self.files = CgroupSource(
            hierarchies, columns, Mailbox(), procfs=PROCFS, sysfs=SYSFS, descriptors=0, filler=self.bpf.filler
        )
        self.check = BpfCheck(self.bpf, hierarchies, columns, procfs=PROCFS, sysfs=SYSFS, choose=groups)

    def findings(self) -> dict[ColumnName, str]:
        """Compare once, and return the text of the latest finding for each column."""
        self.check.run()
        return {name: finding.text for name, finding in self.bpf.findings.items()}

    def close(self) -> None:
        self.check.close()
        self.files.close()


@contextmanager
def host(groups: Callable[[], list[str]], objects: Path = OBJECTS, *, by_cpu: bool = False) -> Iterator[Host]:
    opened = Host(groups, objects, by_cpu=by_cpu)
    try:
        yield opened
    finally:
        opened.close()


def burner(world: World) -> Group:
    """Two processes that want more than a fiftieth of a processor."""
    group = world.group("burner")
    group.limit("cpu", {"cpu.cfs_quota_us": "2000", "cpu.shares": "200"}, {"cpu.max": "2000", "cpu.weight": "30"})
    for _ in range(2):
        group.start([sys.executable, "-c", BURN])
    return group


def has_used_ticks(group: Group) -> bool:
    """Whether it has user and system time, as far as the kernel counts in ticks: version 1 does."""
    if HIERARCHIES.version("cpuacct") != 1:
        return True
    return all(int(line.split()[1]) for line in group.file("cpuacct", "cpuacct.stat").read_text().splitlines())


def hog(world: World, file: Path) -> Group:
    """Memory of its own, a file in the page cache that is mapped, and limits."""
    group = world.group("hog")
    group.limit(
        "memory",
        {"memory.limit_in_bytes": str(512 << 20), "memory.soft_limit_in_bytes": str(256 << 20)},
        {"memory.max": str(512 << 20), "memory.high": str(500 << 20), "memory.min": str(1 << 20)},
    )
    group.limit("pids", {"pids.max": "50"}, {"pids.max": "50"})
    process = group.start([sys.executable, "-c", HOG, str(file)])
    assert process.stdout
    assert process.stdout.readline() == b"0\n"
    return group


def victim(world: World) -> Group:
    """One whose process is killed for want of memory."""
    group = world.group("victim")
    group.limit(
        "memory",
        {"memory.limit_in_bytes": str(16 << 20)},
        {"memory.max": str(16 << 20), "memory.swap.max": "0"},
    )
    process = group.start([sys.executable, "-c", "held = bytearray(b'1') * (64 << 20)"])
    assert process.wait(60) != 0
    return group


def refused_here() -> set[ColumnName]:
    """Return the columns whose programs call what this kernel lacks. Before Linux 6.7 tasks cannot be iterated over."""
    is_there = "bpf_iter_css_task_new" in Path("/proc/kallsyms").read_text()
    return set() if is_there else {ColumnName("process", "cgroup.procs")}


@pytest.mark.parametrize("by_cpu", [False, True], ids=["total", "by CPU"])
def test_programs_say_what_files_say_under_load(world: World, tmp_path: Path, by_cpu: bool) -> None:
    groups = [burner(world), hog(world, tmp_path / "file"), victim(world)]
    seen: dict[ColumnName, set[str]] = {}

    def unseen(compared: Host) -> dict[ColumnName, set[str]]:
        for name, text in compared.findings().items():
            seen.setdefault(name, set()).add(text)
        return {name: seen[name] for name in must_be_seen if EQUAL not in seen[name]}

    with host(lambda: [group.name for group in groups], by_cpu=by_cpu) as compared:
        known = set(compared.bpf.decisions())
        must_be_seen = {name for name in known if not {name.table, name.key} & set(MAY_BE_ZERO)}
        refused = refused_here()
        must_be_seen -= refused
        must_be_seen = {name for name in must_be_seen if HIERARCHIES.version("cpuacct") != 1 or name.table != "cpu.v2"}
        for _ in range(3):
            unseen(compared)
        until("the burner has used a tick of each kind", lambda: has_used_ticks(groups[0]))
        for group in groups:
            group.kill()  # what the kernel had to add to pressures it adds now
        for _ in range(20):
            if not unseen(compared):
                break
        assert unseen(compared) == {}, "compared at no value that is not 0"
        assert compared.bpf.decisions().keys() == known
        lost = {name: decision.reason for name, decision in compared.bpf.decisions().items() if not decision.is_bpf}
        for name in refused:
            assert lost.pop(name).startswith("refused")
        assert lost == {}
    told = [texts for name, texts in seen.items() if name not in refused]
    assert not [text for texts in told for text in texts if text.startswith("disagrees")]


def test_an_agent_fills_columns_by_bpf(world: World, tmp_path: Path) -> None:
    group = hog(world, tmp_path / "file")
    with host(lambda: [group.name]):
        pass
    with Agent("--container.all", "--source=bpf") as agent:
        until("BPF fills columns", lambda: agent.scrape().series["pymon_bpf_columns", frozenset()] > 0)


def test_doctor_says_where_columns_come_from_and_which_capability_is_missing(world: World) -> None:
    group = world.group()
    group.sleep()
    with host(lambda: [group.name]):
        pass
    doctor = [sys.executable, "-m", "pymon", "doctor"]
    said = run(*doctor).stdout.decode()
    assert re.search(r"^source +BPF fills \d+ columns;", said, re.MULTILINE)
    assert re.search(r"^column +pids\.v\d pids\.current: BPF, equal to the files", said, re.MULTILINE)
    without = ["setpriv", "--bounding-set=-perfmon,-sys_admin"]
    said = run(*without, *doctor).stdout.decode()
    assert re.search(r"^BPF +not used: without CAP_PERFMON$", said, re.MULTILINE)


def test_a_kernel_whose_struct_lacks_a_member(world: World, tmp_path: Path) -> None:
    group = hog(world, tmp_path / "file")
    objects = build_objects(tmp_path, watermark="no_kernel_has_this")
    if objects is None:
        pytest.skip("clang is not installed")
    with host(lambda: [group.name], objects) as compared:
        findings = compared.findings()
    lacking = {name.key for name, text in findings.items() if text == "this kernel's structs lack it"}
    assert lacking & {"memory.max_usage_in_bytes", "memory.peak"}
    assert len(lacking) == 1
    assert EQUAL in {text for name, text in findings.items() if name.table.startswith("memory.v")}


@pytest.mark.parametrize(
    ("word", "by", "reason"),
    [
        ('"GPL"', '"Proprietary"', "refused: .* from non-GPL compatible program"),
        ("PM_BPF_VERSION 3", "PM_BPF_VERSION 4", "refused: the object is of another version than the agent"),
    ],
    ids=["verifier", "version"],
)
def test_an_object_that_is_refused(world: World, tmp_path: Path, word: str, by: str, reason: str) -> None:
    group = world.group()
    group.sleep()
    objects = build_objects(tmp_path, **{word: by})
    if objects is None:
        pytest.skip("clang is not installed")
    with host(lambda: [group.name], objects) as compared:
        compared.findings()
        decisions = compared.bpf.decisions()
        reasons = {decision.reason for name, decision in decisions.items() if name not in refused_here()}
        assert reasons
        assert [text for text in reasons if not re.fullmatch(reason, text)] == []
        assert compared.bpf.filled == 0
