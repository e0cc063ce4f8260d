"""Every value of a container lies between what its kernel file says before the scrape and after it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from pymon.catalogue import cadvisor
from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, Group, World, until

pytestmark = pytest.mark.root

ROUNDS = 20
"""A gauge may come and go between two readings; it has to fit in one of so many rounds."""

Labels = frozenset[tuple[str, str]]
Read = Callable[[Group], "dict[Labels, Fraction] | None"]
"""What a kernel file says, by labels; None where the kernel has no such file or key."""

MICRO, NANO, TICK = Fraction(1, 10**6), Fraction(1, 10**9), Fraction(1, os.sysconf("SC_CLK_TCK"))


def labels(**pairs: str) -> Labels:
    return frozenset(pairs.items())


def value(controller: str, name: str, scale: Fraction = Fraction(1), **names: str) -> Read:
    """A file with one number. No limit is the word max, or with version 1 the most that a counter of pages has."""

    def read(group: Group) -> dict[Labels, Fraction] | None:
        text = group.read(controller, name)
        if text is None:
            return None
        unlimited = text.strip() in ("max", "-1") or int(text) > 1 << 62
        return {} if unlimited else {labels(**names): int(text) * scale}

    return read


def keyed(controller: str, name: str, key: str, scale: Fraction = Fraction(1), **names: str) -> Read:
    """A file of lines of a key and a number."""

    def read(group: Group) -> dict[Labels, Fraction] | None:
        text = group.read(controller, name)
        found = dict(line.split() for line in (text or "").splitlines()).get(key)
        return None if found is None else {labels(**names): int(found) * scale}

    return read


def word(controller: str, name: str, index: int) -> Read:
    """One of the numbers of a line."""

    def read(group: Group) -> dict[Labels, Fraction] | None:
        text = group.read(controller, name)
        return None if text is None else {labels(): Fraction(text.split()[index])}

    return read


def minus(left: Read, right: Read) -> Read:
    """The difference of two readings, 0 at least."""

    def read(group: Group) -> dict[Labels, Fraction] | None:
        a, b = left(group), right(group)
        return None if a is None or b is None else {key: max(Fraction(0), a[key] - b[key]) for key in a}

    return read


def pressure(resource: str, kind: str) -> Read:
    """The total of a line of a pressure file."""

    def read(group: Group) -> dict[Labels, Fraction] | None:
        found = re.search(rf"^{kind} .*total=(\d+)", group.read("", f"{resource}.pressure") or "", re.MULTILINE)
        return None if found is None else {labels(): int(found[1]) * MICRO}

    return read


def percpu(group: Group) -> dict[Labels, Fraction] | None:
    text = group.read("cpuacct", "cpuacct.usage_percpu")
    if text is None:
        return None
    return {labels(cpu=f"cpu{cpu:02}"): int(ns) * NANO for cpu, ns in enumerate(text.split()) if int(ns)}


def device(number: str) -> str:
    for line in Path(f"/sys/dev/block/{number}/uevent").read_text().splitlines():
        if line.startswith("DEVNAME="):
            return "/dev/" + line.removeprefix("DEVNAME=")
    raise AssertionError(number)


def device_labels(number: str, *, numbered: bool, **names: str) -> Labels:
    major, minor = number.split(":")
    return labels(device=device(number), **({"major": major, "minor": minor} if numbered else {}), **names)


def io(key: str, scale: Fraction = Fraction(1), *, numbered: bool = False, **names: str) -> Read:
    """A key of each line of io.stat."""

    def read(group: Group) -> dict[Labels, Fraction] | None:
        found = {}
        for line in (group.read("io", "io.stat") or "").splitlines():
            number, *words = line.split()
            values = dict(pair.split("=") for pair in words)
            if key in values:
                found[device_labels(number, numbered=numbered, **names)] = int(values[key]) * scale
        return found or None

    return read


def blkio(name: str, wanted: str, /, *, numbered: bool = False, **names: str) -> Read:
    """An operation of each device of a blkio file, as the scheduler BFQ says it where it does."""

    def read(group: Group) -> dict[Labels, Fraction] | None:
        found = {}
        said = (group.read("blkio", one) or "" for one in (name, name.replace("throttle", "bfq")))
        for line in "".join(said).splitlines():
            words = line.split()
            if len(words) == 3 and words[1] == wanted:
                found[device_labels(words[0], numbered=numbered, **names)] = Fraction(words[2])
        return found or None

    return read


def procs(group: Group) -> dict[Labels, Fraction] | None:
    controller = next((name for name in ("pids", "memory", "cpuacct", "cpu", "blkio") if name in HIERARCHIES.v1), "")
    text = group.read(controller, "cgroup.procs")
    return None if text is None else {labels(): Fraction(len(text.split()))}


@dataclass(frozen=True)
class Case:
    """A metric, the controller that decides which version counts, and what its files say. None is: not published."""

    metric: str
    controller: str
    v2: Read | None
    v1: Read | None
    needs_disk: bool = False

    @property
    def read(self) -> Read | None:
        return {1: self.v1, 2: self.v2, 0: None}[HIERARCHIES.version(self.controller)]


def stat(v2: str | None, v1: str | None, **names: str) -> tuple[Read | None, Read | None]:
    return (
        keyed("memory", "memory.stat", v2, **names) if v2 else None,
        keyed("memory", "memory.stat", v1, **names) if v1 else None,
    )


def both(controller: str, v2: str, v1: str) -> tuple[Read, Read]:
    return value(controller, v2), value(controller, v1)


def disk(name: str, v2: Read | None, v1: Read | None) -> Case:
    return Case(name, "blkio" if "blkio" in HIERARCHIES.v1 else "io", v2, v1, needs_disk=True)


def shares(group: Group) -> dict[Labels, Fraction] | None:
    text = group.read("cpu", "cpu.weight")
    return None if text is None else {labels(): Fraction(2 + (int(text) - 1) * 262142 // 9999)}


CPU = "cpuacct" if "cpuacct" in HIERARCHIES.v1 else ""
INACTIVE = stat("inactive_file", "total_inactive_file")

CASES = (
    Case("container_cpu_usage_seconds_total", CPU, keyed("", "cpu.stat", "usage_usec", MICRO, cpu="total"), percpu),
    Case(
        "container_cpu_user_seconds_total", CPU,
        keyed("", "cpu.stat", "user_usec", MICRO), keyed("cpuacct", "cpuacct.stat", "user", TICK),
    ),
    Case(
        "container_cpu_system_seconds_total", CPU,
        keyed("", "cpu.stat", "system_usec", MICRO), keyed("cpuacct", "cpuacct.stat", "system", TICK),
    ),
    Case(
        "container_cpu_cfs_periods_total", "cpu",
        keyed("", "cpu.stat", "nr_periods"), keyed("cpu", "cpu.stat", "nr_periods"),
    ),
    Case(
        "container_cpu_cfs_throttled_periods_total", "cpu",
        keyed("", "cpu.stat", "nr_throttled"), keyed("cpu", "cpu.stat", "nr_throttled"),
    ),
    Case(
        "container_cpu_cfs_throttled_seconds_total", "cpu",
        keyed("", "cpu.stat", "throttled_usec", MICRO), keyed("cpu", "cpu.stat", "throttled_time", NANO),
    ),
    Case("container_cpu_cfs_burst_periods_total", "cpu", keyed("", "cpu.stat", "nr_bursts"), None),
    Case("container_cpu_cfs_burst_seconds_total", "cpu", keyed("", "cpu.stat", "burst_usec", MICRO), None),
    Case("container_memory_cache", "memory", *stat("file", "total_cache")),
    Case("container_memory_rss", "memory", *stat("anon", "total_rss")),
    Case("container_memory_swap", "memory", value("memory", "memory.swap.current"), stat(None, "total_swap")[1]),
    Case("container_memory_mapped_file", "memory", *stat("file_mapped", "total_mapped_file")),
    Case(
        "container_memory_kernel_usage", "memory",
        keyed("memory", "memory.stat", "kernel"), value("memory", "memory.kmem.usage_in_bytes"),
    ),
    Case("container_memory_failcnt", "memory", None, value("memory", "memory.failcnt")),
    Case("container_memory_usage_bytes", "memory", *both("memory", "memory.current", "memory.usage_in_bytes")),
    Case("container_memory_max_usage_bytes", "memory", *both("memory", "memory.peak", "memory.max_usage_in_bytes")),
    Case(
        "container_memory_working_set_bytes", "memory",
        minus(value("memory", "memory.current"), INACTIVE[0] or procs),
        minus(value("memory", "memory.usage_in_bytes"), INACTIVE[1] or procs),
    ),
    Case("container_memory_total_active_file_bytes", "memory", *stat("active_file", "total_active_file")),
    Case("container_memory_total_inactive_file_bytes", "memory", *INACTIVE),
    *(
        Case("container_memory_failures_total", "memory", *stat(key, prefix + key, failure_type=key, scope=scope))
        for key in ("pgfault", "pgmajfault")
        for scope, prefix in (("container", ""), ("hierarchy", "total_"))
    ),
    Case("container_memory_events_high_total", "memory", keyed("memory", "memory.events", "high"), None),
    Case("container_memory_events_max_total", "memory", keyed("memory", "memory.events", "max"), None),
    *(
        Case(f"container_memory_events_{key}_total", "memory", keyed("memory", "memory.events", key), None)
        for key in ("low", "oom", "oom_group_kill")
    ),
    Case("container_memory_active_anon_bytes", "memory", *stat("active_anon", "total_active_anon")),
    Case("container_memory_inactive_anon_bytes", "memory", *stat("inactive_anon", "total_inactive_anon")),
    Case("container_memory_anon_thp_bytes", "memory", *stat("anon_thp", "total_rss_huge")),
    Case("container_memory_secondary_pagetables_bytes", "memory", *stat("sec_pagetables", None)),
    Case("container_spec_memory_low_bytes", "memory", value("memory", "memory.low"), None),
    Case("container_spec_memory_high_bytes", "memory", value("memory", "memory.high"), None),
    Case("container_memory_file_dirty_bytes", "memory", *stat("file_dirty", None)),
    Case("container_memory_file_writeback_bytes", "memory", *stat("file_writeback", None)),
    Case("container_memory_pgscan_total", "memory", *stat("pgscan", None)),
    Case("container_memory_pgsteal_total", "memory", *stat("pgsteal", None)),
    Case("container_memory_workingset_refault_file_total", "memory", *stat("workingset_refault_file", None)),
    Case("container_memory_workingset_refault_anon_total", "memory", *stat("workingset_refault_anon", None)),
    Case(
        "container_oom_events_total", "memory",
        keyed("memory", "memory.events", "oom_kill"), keyed("memory", "memory.oom_control", "oom_kill"),
    ),
    disk("container_fs_reads_bytes_total", io("rbytes"), blkio("blkio.throttle.io_service_bytes_recursive", "Read")),
    disk("container_fs_writes_bytes_total", io("wbytes"), blkio("blkio.throttle.io_service_bytes_recursive", "Write")),
    disk("container_fs_reads_total", io("rios"), blkio("blkio.throttle.io_serviced_recursive", "Read")),
    disk("container_fs_writes_total", io("wios"), blkio("blkio.throttle.io_serviced_recursive", "Write")),
    *(
        disk(f"container_fs_io_cost_{key}_seconds_total", io(f"cost.{key}", MICRO), None)
        for key in ("usage", "wait", "indebt", "indelay")
    ),
    *(
        disk(
            "container_blkio_device_usage_total",
            io(key, numbered=True, operation=operation) if key else None,
            blkio("blkio.throttle.io_service_bytes_recursive", operation, numbered=True, operation=operation),
        )
        for operation, key in (
            ("Read", "rbytes"), ("Write", "wbytes"), ("Sync", ""), ("Async", ""), ("Discard", ""), ("Total", ""),
        )
    ),
    Case("container_processes", "pids", procs, procs),
    Case("container_threads", "pids", *both("pids", "pids.current", "pids.current")),
    Case("container_threads_max", "pids", *both("pids", "pids.max", "pids.max")),
    *(
        Case(f"container_pressure_{resource}_{name}_seconds_total", "", pressure(resource, kind), None)
        for resource in ("cpu", "memory", "io")
        for name, kind in (("waiting", "some"), ("stalled", "full"))
    ),
    Case("container_spec_cpu_quota", "cpu", word("cpu", "cpu.max", 0), value("cpu", "cpu.cfs_quota_us")),
    Case("container_spec_cpu_period", "cpu", word("cpu", "cpu.max", 1), value("cpu", "cpu.cfs_period_us")),
    Case("container_spec_cpu_shares", "cpu", shares, value("cpu", "cpu.shares")),
    Case("container_spec_memory_limit_bytes", "memory", *both("memory", "memory.max", "memory.limit_in_bytes")),
    Case(
        "container_spec_memory_swap_limit_bytes", "memory",
        *both("memory", "memory.swap.max", "memory.memsw.limit_in_bytes"),
    ),
    Case(
        "container_spec_memory_reservation_limit_bytes", "memory",
        *both("memory", "memory.min", "memory.soft_limit_in_bytes"),
    ),
)  # fmt: skip

ELSEWHERE = {
    "container_last_seen": "test_lifecycle.py",
    "container_health_state": "tests/containers: runtimes tell it",
    "container_start_time_seconds": "test_lifecycle.py",
    "container_creation_time_seconds": "test_lifecycle.py",
    "container_memory_migrate": "fixtures: a group of cpuset takes no process before its CPUs are set",
    "container_memory_numa_pages": "test_numa_pages",
    "container_tasks_state": "test_tasks.py",
    "container_cpuset_cpus": "fixtures: a group of cpuset takes no process before its CPUs are set",
    r"container_(memory_numa_bytes|(spec_)?memory_swap_.*|(spec_)?memory_zsw.*|misc_.*|rdma_.*|dmem_.*)": "fixtures",
    r"container_(threads_peak|threads_max_events_total|frozen.*|cgroups.*)": "test_kernel_counts.py",
    r"container_fs_(sector_.*|.*_merged_total|io_current|io_time_.*|(read|write)_seconds_total)": "fixtures",
    r"pymon_container_effective_.*": "test_kernel_counts.py",
    r"container_cpu_(nice|core_sched|local)_.*": "fixtures: the cpu controller is read of version 1 where there is one",
    "container_pressure_irq_stalled_seconds_total": "fixtures: a kernel without irq.pressure",
    r"container_hugetlb_.*": "fixtures: huge pages are the machine's to give",
    r"container_cpu_schedstat_.*": "test_processes.py",
    r"container_(file_descriptors|sockets|ulimits_soft)": "test_processes.py",
    "container_network_advance_tcp_stats_total": "test_processes.py",
    r"container_network_.*": "test_network.py",
    r"container_sockstat_.*": "test_network.py",
}

BUSY = """
import mmap, os, sys, threading, time
memory = mmap.mmap(-1, 24 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(b"x" * (24 << 20))
name = sys.argv[1]
with open(name, "wb") as file:
    file.write(b"y" * (6 << 20))
    file.flush()
    os.fsync(file.fileno())
file = open(name, "rb")
mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(mapped[::4096])
block = mmap.mmap(-1, 1 << 20)
try:
    for flags, move in ((os.O_WRONLY, os.pwrite), (os.O_RDONLY, lambda fd, data, at: os.preadv(fd, [data], at))):
        fd = os.open(name + ".direct", flags | os.O_CREAT | os.O_DIRECT)
        move(fd, block, 0)
        os.close(fd)
except OSError as error:
    print(f"no O_DIRECT: {error}", flush=True)
try:
    for device in sys.argv[2:]:
        fd = os.open(device, os.O_RDONLY | os.O_DIRECT)
        os.preadv(fd, [block], 0)
        os.close(fd)
except OSError as error:
    print(f"no reading of the disk itself: {error}", flush=True)
print("ready", flush=True)
threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()
while True:
    pass
"""
"""Uses each thing that is counted. One thread burns its quota, one sleeps."""


@pytest.fixture(scope="module")
def busy(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    group = shared_world.group("busy")
    group.limit(
        "memory",
        {"memory.limit_in_bytes": "134217728", "memory.soft_limit_in_bytes": "67108864"},
        {"memory.max": "134217728", "memory.min": "8388608"},
    )
    group.limit(
        "cpu",
        {"cpu.cfs_period_us": "50000", "cpu.cfs_quota_us": "10000", "cpu.shares": "512"},
        {"cpu.max": "10000 50000", "cpu.weight": "173"},
    )
    group.limit("pids", {"pids.max": "77"}, {"pids.max": "77"})
    for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
        if HIERARCHIES.version("memory") and group.read("memory", name) is not None:
            group.file("memory", name).write_text("201326592")
    file = tmp_path_factory.mktemp("disk") / "file"
    disks = [f"/dev/{disk.name}" for disk in Path("/sys/block").iterdir() if (disk / "device").exists()]
    process = group.start(
        [sys.executable, "-c", BUSY, str(file), *sorted(disks)[:1]]
    )  # where files are on no disk, it is read
    assert process.stdout
    said = b""
    while not said.endswith(b"ready\n"):
        line = process.stdout.readline()
        assert line, f"the busy process ended: {said!r}"
        said += line
    yield group
    group.kill()


def fits(before: Fraction, value: Fraction, after: Fraction) -> bool:
    return min(before, after) <= value <= max(before, after)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.metric)
def test_value_is_the_kernels(case: Case, busy: Group, agent: Agent) -> None:
    compared = 0
    missed: list[object] = []
    for _ in range(ROUNDS):
        before = case.read(busy) if case.read else None
        scraped = agent.scrape(f"/metrics?name[]={case.metric}").values(busy.path, case.metric)
        after = case.read(busy) if case.read else None
        if before is None or after is None:
            with_labels = sum(other.metric == case.metric for other in CASES) > 1
            assert with_labels or not scraped, "a sample without a kernel file"
            reason = f"{case.metric}: version {HIERARCHIES.version(case.controller)} of {case.controller or 'cgroup'}"
            if case.read is not None and case.needs_disk:
                pytest.skip(f"{reason}: no disk behind {busy.path}, or no such key")
            pytest.skip(f"{reason} has no such number on this kernel")
        missed = []
        for key in before.keys() & after.keys():
            assert key in scraped, (key, scraped)
            compared += 1
            if not fits(before[key], scraped[key], after[key]):
                missed.append((key, before[key], scraped[key], after[key]))
        if not missed and before:
            break
    assert not missed
    assert compared, "nothing was compared"


def test_every_container_metric_is_covered() -> None:
    names = {metric.name for metric in cadvisor.METRICS}
    covered = {case.metric for case in CASES}
    assert covered <= names
    missing = {name for name in names - covered if not any(re.fullmatch(pattern, name) for pattern in ELSEWHERE)}
    assert not missing


def test_what_the_busy_container_did_shows(busy: Group, agent: Agent) -> None:
    def throttled() -> bool:
        """Version 1 counts a period when it begins to throttle, and the time when that ends."""
        scrape = agent.scrape()
        counts = [f"container_cpu_cfs_throttled_{unit}_total" for unit in ("periods", "seconds")]
        return all(scrape.value(busy.path, count) for count in counts)

    if not HIERARCHIES.version("cpu"):
        pytest.skip("no cpu controller")
    until("throttled", throttled)
    scrape = agent.scrape()
    assert scrape.value(busy.path, "container_spec_cpu_quota") == 10000
    assert scrape.value(busy.path, "container_spec_cpu_period") == 50000
    assert scrape.value(busy.path, "container_spec_memory_limit_bytes") == 134217728
    assert scrape.value(busy.path, "container_threads_max") == 77
    assert scrape.value(busy.path, "container_threads") == 2
    assert scrape.value(busy.path, "container_processes") == 1
    assert (scrape.value(busy.path, "container_memory_rss") or 0) >= 24 << 20


def test_limits_that_are_not_set_have_no_sample(world: World, agent: Agent) -> None:
    group = world.group()
    group.sleep()
    scrape = agent.scrape()
    names = {name for name, _ in scrape.of(group.path)}
    assert "container_threads" in names
    for name in (
        "container_spec_cpu_quota",
        "container_spec_memory_limit_bytes",
        "container_spec_memory_swap_limit_bytes",
        "container_threads_max",
        "container_cpu_cfs_periods_total",
        "container_cpu_cfs_throttled_periods_total",
        "container_cpu_cfs_throttled_seconds_total",
    ):
        assert name not in names


def test_limits_set_after_the_first_scrape_show(world: World, agent: Agent) -> None:
    """A runtime makes the group first and writes its limits then; a scrape may come between."""
    group = world.group()
    group.sleep()
    assert agent.scrape().value(group.path, "container_spec_memory_limit_bytes") is None
    group.limit("memory", {"memory.limit_in_bytes": "67108864"}, {"memory.max": "67108864"})
    group.limit("cpu", {"cpu.cfs_quota_us": "30000"}, {"cpu.max": "30000 100000"})
    until(
        "limits of a young container",
        lambda: agent.scrape().value(group.path, "container_spec_memory_limit_bytes") == 67108864,
        seconds=10,
    )
    assert agent.scrape().value(group.path, "container_spec_cpu_quota") == 30000


def test_working_set_is_usage_less_inactive_file(world: World, agent: Agent, tmp_path: Path) -> None:
    """Of a container at rest, so that the three are of one moment."""
    group = world.group()
    program = "import sys; open(sys.argv[1], 'wb').write(b'z' * (4 << 20)); print('done', flush=True); input()"
    process = group.start([sys.executable, "-c", program, str(tmp_path / "file")])
    assert process.stdout
    assert process.stdout.readline() == b"done\n"

    def consistent() -> bool:
        scrape = agent.scrape()
        usage, inactive, working = (
            scrape.value(group.path, f"container_memory_{name}_bytes")
            for name in ("usage", "total_inactive_file", "working_set")
        )
        assert None not in (usage, inactive, working)
        return usage - inactive == working and inactive > 0

    until("working set", consistent)


def test_a_kill_for_want_of_memory_is_counted(world: World, agent: Agent) -> None:
    group = world.group()
    group.limit(
        "memory",
        {"memory.limit_in_bytes": str(16 << 20)},
        {"memory.max": str(16 << 20), "memory.swap.max": "0"},
    )
    if group.read("memory", "memory.memsw.limit_in_bytes"):
        group.file("memory", "memory.memsw.limit_in_bytes").write_text(str(32 << 20))
    group.sleep()
    assert agent.scrape().value(group.path, "container_oom_events_total") == 0
    greedy = group.start([sys.executable, "-c", "data = bytearray(b'x') * (64 << 20)"])
    assert greedy.wait(60) == -9
    assert agent.scrape().value(group.path, "container_oom_events_total") == 1
    if HIERARCHIES.version("memory") == 1:
        assert (agent.scrape().value(group.path, "container_memory_failcnt") or 0) > 0
    else:
        assert (agent.scrape().value(group.path, "container_memory_events_max_total") or 0) > 0


def test_numa_pages(world: World) -> None:
    if HIERARCHIES.version("memory") != 1:
        pytest.skip("memory.numa_stat is read of version 1 only")
    group = world.group()
    if group.read("memory", "memory.numa_stat") is None:
        pytest.skip("this kernel has no memory.numa_stat")
    group.sleep()
    with Agent("--container.all", "--collector.container_memory_numa") as agent:
        for _ in range(ROUNDS):
            before, after = numa(group), numa(group)
            scraped = agent.scrape().values(group.path, "container_memory_numa_pages")
            if before == after == scraped and before:
                return
    assert scraped == before


def numa(group: Group) -> dict[Labels, Fraction]:
    found = {}
    for line in (group.read("memory", "memory.numa_stat") or "").splitlines():
        head, *nodes = line.split()
        name, _, _ = head.partition("=")
        scope = "hierarchy" if name.startswith("hierarchical_") else "container"
        kind = name.removeprefix("hierarchical_")
        if kind == "total":
            continue  # the sum of the others, which cAdvisor leaves out
        for node in nodes:
            number, _, pages = node.partition("=")
            found[labels(node=number.removeprefix("N"), scope=scope, type=kind)] = Fraction(pages)
    return found


def test_total_cpu_where_cpus_are_not_told_apart(busy: Group) -> None:
    """With version 1 the total replaces the CPUs when their collector is off, as --disable_metrics=percpu does."""
    with Agent("--container.all", "--no-collector.container_percpu") as agent:
        if HIERARCHIES.version("cpuacct") == 1:
            read = value("cpuacct", "cpuacct.usage", NANO)
        else:
            read = keyed("", "cpu.stat", "usage_usec", MICRO)
        before = read(busy)
        scraped = agent.scrape().values(busy.path, "container_cpu_usage_seconds_total")
        after = read(busy)
        assert before is not None
        assert after is not None
        assert set(scraped) == {labels(cpu="total")}
        assert fits(before[labels()], scraped[labels(cpu="total")], after[labels()])


def test_one_container_alone_says_the_same(world: World, agent: Agent) -> None:
    group = world.group()
    group.sleep()
    inventory = json.loads(agent.get("/v1/containers").body)
    uuid = next(item["uuid"] for item in inventory["containers"] if item["id"] == group.path)
    # A CPU has a series from its first use on, which may be now.
    alone, together = until(
        "the same series",
        lambda: next(
            (
                pair
                for pair in [(agent.scrape(f"/v1/{uuid}/metrics").series, agent.scrape().of(group.path))]
                if set(pair[0]) == set(pair[1])
            ),
            None,
        ),
        seconds=5,
    )
    still = {"container_spec", "container_threads", "container_processes", "container_start"}
    for key in alone:
        if key[0].startswith(tuple(still)):
            assert alone[key] == together[key]
