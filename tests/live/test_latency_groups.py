"""What is counted of cgroups that come, go, move, hide or share an id, by the programs themselves without an agent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pymon._native.bpf import lib
from pymon._native.table import Table
from pymon.catalogue.latency import COLUMNS, REQUESTS, TASKS
from pymon.sources.cgroup import Hierarchies, find_hierarchies
from pymon.sources.latency import LOOK_ROWS, LatencySource
from tests.live.test_latency import BURN, NAP, loop_device, start
from tests.live.world import HIERARCHIES, Group, World, until

pytestmark = pytest.mark.root

PROCFS, SYSFS, CGROUPFS = Path("/proc"), Path("/sys"), Path("/sys/fs/cgroup")
COUNT = COLUMNS[TASKS][14]
PREEMPTED = [column for column in COLUMNS[TASKS] if column.startswith("preempted:")]

Open = Callable[[Hierarchies], LatencySource]


@pytest.fixture
def opened() -> Iterator[Open]:
    sources: list[LatencySource] = []

    def open_source(hierarchies: Hierarchies) -> LatencySource:
        source = LatencySource(hierarchies, procfs=PROCFS, sysfs=SYSFS)
        sources.append(source)
        if source.error is not None:
            pytest.skip(f"BPF cannot count here: {source.error}")
        return source

    yield open_source
    for source in sources:
        source.close()


@pytest.fixture
def source(opened: Open) -> LatencySource:
    return opened(find_hierarchies(CGROUPFS))


def tasks(source: LatencySource, row: int) -> dict[str, int | None]:
    """What is counted of the tasks of a row, by column."""
    table = Table(TASKS, COLUMNS[TASKS])
    source.fill_one({TASKS: table}, row)
    return {column: table.get(0, column) for column in COLUMNS[TASKS]}


def tasks_root() -> Path:
    """The root of the hierarchy in which tasks are looked for."""
    root = HIERARCHIES.v1.get("cpu", HIERARCHIES.v2)
    assert root is not None
    return root


def move(processes: list[subprocess.Popen[bytes]], directory: Path) -> None:
    for process in processes:
        (directory / "cgroup.procs").write_text(str(process.pid))


def nonvoluntary(processes: list[subprocess.Popen[bytes]]) -> int:
    """How often these processes have lost their CPU."""
    return sum(
        int(line.split()[1])
        for process in processes
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("nonvoluntary_ctxt_switches")
    )


def test_a_cgroup_that_comes_later_is_counted(world: World, source: LatencySource) -> None:
    group = world.group()
    root = tasks_root()
    (root / group.name).rmdir()
    source.add(0, group.name)
    source.add(1, group.name + "-none")
    assert tasks(source, 0)[COUNT] is None
    (root / group.name).mkdir()
    source.look(0)
    start(group, NAP)
    until("it is counted", lambda: (tasks(source, 0)[COUNT] or 0) > 0)


def test_a_cgroup_that_is_made_anew_is_found_without_being_told(world: World, source: LatencySource) -> None:
    group = world.group()
    root = tasks_root()
    source.add(LOOK_ROWS, group.name)
    (root / group.name).rmdir()
    (root / group.name).mkdir()
    start(group, NAP)
    for _ in range(2):
        source.look_further(LOOK_ROWS + 1)
    until("it is counted", lambda: (tasks(source, LOOK_ROWS)[COUNT] or 0) > 0)


def test_a_task_that_runs_when_its_row_is_given_away_is_not_counted_there(world: World, source: LatencySource) -> None:
    group, empty = world.group(), world.group()
    processes = [start(group, BURN)]
    for _ in range(40):
        source.add(0, group.name)
        move(processes, tasks_root() / group.name)
        until("it is counted", lambda: (tasks(source, 0)[COUNT] or 0) > 0)
        switches = nonvoluntary(processes)
        move(processes, tasks_root())
        source.remove(0)
        source.add(0, empty.name)
        until("it has lost its CPU", lambda switches=switches: nonvoluntary(processes) > switches)
        assert [tasks(source, 0)[column] for column in PREEMPTED] == [0] * len(PREEMPTED)


def test_a_task_in_cgroups_far_below_is_the_containers(world: World, source: LatencySource) -> None:
    group = world.group()
    source.add(0, group.name)
    inner = group
    for level in range(lib.PM_LATENCY_LEVELS - 1):
        inner = world.child(inner, f"{level}")
    start(inner, NAP)
    until("it is counted", lambda: (tasks(source, 0)[COUNT] or 0) > 0)


def device_reads(source: LatencySource, row: int) -> int:
    table = Table(REQUESTS, COLUMNS[REQUESTS])
    source.fill_one({REQUESTS: table}, row)
    return sum(table.get(at, COUNT) or 0 for at in range(len(table)))


def read_directly(group: Group, device: str) -> None:
    done = group.start(["dd", f"if={device}", "of=/dev/null", "bs=4096", "count=4", "iflag=direct"])
    assert done.wait(60) == 0


def test_ids_of_one_hierarchy_say_nothing_of_another(world: World, opened: Open, tmp_path: Path) -> None:
    whole = find_hierarchies(CGROUPFS)
    if "blkio" not in whole.v1 or whole.v2 is None:
        pytest.skip("no hierarchies of both versions here")
    group = world.group()
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    # Tasks are counted by the ids that requests have in truth. Requests are to be looked for by those of version 2.
    crossed = opened(replace(whole, v1={"cpu": whole.v1["blkio"]}))
    right = opened(whole)
    for source in (crossed, right):
        source.add(0, group.name)
    with loop_device(tmp_path / "disk") as device:
        read_directly(group, device)
        until("the requests are counted", lambda: device_reads(right, 0) >= 4)  # and what dd is read from
        assert device_reads(crossed, 0) == 0


def test_without_a_hierarchy_of_requests_none_is_counted(world: World, opened: Open) -> None:
    whole = find_hierarchies(CGROUPFS)
    if "cpu" not in whole.v1:
        pytest.skip("no version 1 here")
    source = opened(Hierarchies({"cpu": whole.v1["cpu"]}, None, frozenset()))
    group = world.group()
    source.add(0, group.name)
    start(group, NAP)
    until("its tasks are counted", lambda: (tasks(source, 0)[COUNT] or 0) > 0)
    assert device_reads(source, 0) == 0


def test_a_container_for_which_there_is_no_room_is_said_until_it_goes(world: World, source: LatencySource) -> None:
    group = world.group()
    row = lib.PM_LATENCY_GROUPS
    source.add(row, group.name)
    assert source.left_out == {row}
    source.remove(row)
    assert source.left_out == set()


def test_what_is_closed_leaves_no_descriptor(opened: Open) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    opened(find_hierarchies(CGROUPFS)).close()
    before = descriptors()
    opened(find_hierarchies(CGROUPFS)).close()
    assert descriptors() == before
