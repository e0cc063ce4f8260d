"""How long containers wait, as BPF counts it, against what the kernel says of each task and against known delays."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests.agent.fuse_files import fuse_files, why_not
from tests.live.agent import Agent, Scrape
from tests.live.world import PREFIX, Group, World, run, until
from tests.web.browser import browser

pytestmark = pytest.mark.root

ON = "--collector.container_latency"
PATTERN = rf"--container.pattern=/{PREFIX}-\d+-(?P<name>(?P<account>alice|bob|nobody)\w*)"
CPU = "0"
BURN = "while True: pass"
NAP = "import time\nwhile True:\n    time.sleep(0.001)\n    sum(range(20000))"
DELAY = "container_cpu_run_delay_seconds"
READ_SECONDS = 0.05


def start(group: Group, program: str) -> subprocess.Popen[bytes]:
    """A Python program on the one CPU of these tests."""
    return group.start(["taskset", "-c", CPU, sys.executable, "-c", program])


def kernel_seconds(group: Group) -> float:
    """The run delay of all tasks of a group, by /proc/PID/task/TID/schedstat."""
    files = [file for process in group.processes for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


def seconds(scrape: Scrape, group: Group) -> float:
    value = scrape.value(group.path, f"{DELAY}_sum")
    assert value is not None
    return float(value)


def preempted(scrape: Scrape, group: Group, by: str) -> Fraction:
    value = scrape.value(group.path, "container_cpu_preemptions_total", by=by)
    assert value is not None
    return value


def uuid_of(agent: Agent, group: Group) -> str:
    inventory = json.loads(agent.get("/v1/containers").body)
    (uuid,) = [one["uuid"] for one in inventory["containers"] if one["id"] == group.path]
    return str(uuid)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent(ON, PATTERN) as agent:
        if agent.scrape().own("pymon_collector_success", collector="container_latency") != 1:
            pytest.skip(f"BPF cannot count here: {[line for line in agent.log if 'container_latency' in line]}")
        yield agent


def test_a_delay_is_what_the_kernel_says_it_was(world: World, agent: Agent) -> None:
    burner, napper = world.group("bob"), world.group("alice")
    until("both are there", lambda: {burner.path, napper.path} <= agent.scrape().paths)
    start(burner, BURN)
    start(napper, NAP)
    for group, enough in ((burner, 2.0), (napper, 0.2)):  # who sleeps now and then is soon let in
        # The kernel's readings lie between two of the agent's each, so what they say does too.
        outer = seconds(agent.scrape(), group)
        told = kernel_seconds(group)
        inner = seconds(agent.scrape(), group)
        waited = told + enough
        until(f"{enough} s of waiting", lambda group=group, waited=waited: kernel_seconds(group) > waited, 60)
        inner = seconds(agent.scrape(), group) - inner
        told = kernel_seconds(group) - told
        outer = seconds(agent.scrape(), group) - outer
        assert 0.95 * inner <= told <= 1.05 * outer  # the kernel counts a moment after the program


def test_buckets_count_what_the_sum_is_made_of(world: World, agent: Agent) -> None:
    group, neighbour = world.group("alice"), world.group("bob")
    until("both are there", lambda: {group.path, neighbour.path} <= agent.scrape().paths)
    start(group, BURN)
    start(neighbour, BURN)
    until("a second of waiting", lambda: kernel_seconds(group) > 1, 60)
    scrape = agent.scrape()
    buckets = sorted(
        (float(dict(labels)["le"]), float(value))
        for labels, value in scrape.values(group.path, f"{DELAY}_bucket").items()
    )
    counts = [count for _, count in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == scrape.value(group.path, f"{DELAY}_count") > 0
    finite = [0.0, *(bound for bound, _ in buckets)]
    single = [after - before for before, after in zip([0.0, *counts], counts, strict=False)]
    least = sum(count * bound for count, bound in zip(single, finite, strict=False))
    assert least <= seconds(scrape, group)
    assert single[-1] == 0, "nothing waited for more than a minute"
    assert seconds(scrape, group) <= sum(count * bound for count, bound in zip(single, finite[1:-1], strict=False))


def test_a_neighbour_is_told_from_a_friend_and_from_the_system(world: World, agent: Agent) -> None:
    alice, friend, bob = world.group("alice1"), world.group("alice2"), world.group("bob")
    quiet = world.group("nobody")
    groups = (alice, friend, bob, quiet)
    until("all are there", lambda: {group.path for group in groups} <= agent.scrape().paths)
    for group in (alice, friend, bob):
        start(group, BURN)
    for by in ("same", "other"):
        until(f"alice preempted by {by}", lambda by=by: preempted(agent.scrape(), alice, by) > 0, 60)
    scrape = agent.scrape()
    assert preempted(scrape, bob, "same") == 0
    taken = float(scrape.value(alice.path, "container_cpu_run_delay_other_seconds_total") or 0)
    assert 0 < taken <= seconds(scrape, alice)
    assert preempted(scrape, quiet, "other") == seconds(scrape, quiet) == 0


def test_a_task_below_a_container_is_the_containers(world: World, agent: Agent) -> None:
    outer = world.group("alice")
    inner = world.child(outer, "system.slice")
    until("it is there", lambda: outer.path in agent.scrape().paths)
    start(inner, NAP)
    until("it is counted", lambda: seconds(agent.scrape(), outer) > 0)


def test_a_row_that_is_used_again_begins_at_0(world: World, agent: Agent) -> None:
    first = world.group("alice")
    until("it is there", lambda: first.path in agent.scrape().paths)
    start(first, NAP)
    until("it is counted", lambda: (agent.scrape().value(first.path, f"{DELAY}_count") or 0) > 100)
    first.remove()
    until("it is gone", lambda: first.path not in agent.scrape().paths)
    second = world.group("alice")
    until("the other is there", lambda: second.path in agent.scrape().paths)
    assert agent.scrape().value(second.path, f"{DELAY}_count") == 0


def test_tenants_are_not_told_of_their_neighbours_unless_the_operator_says_so(world: World, agent: Agent) -> None:
    group = world.group("alice")
    until("it is there", lambda: group.path in agent.scrape().paths)
    of_neighbours = {"container_cpu_preemptions_total", "container_cpu_run_delay_other_seconds_total"}
    names = {name for name, _ in agent.scrape(f"/v1/{uuid_of(agent, group)}/metrics").series}
    assert f"{DELAY}_sum" in names
    assert not names & of_neighbours
    with Agent(ON, PATTERN, "--container.show-neighbours") as open_agent:
        until("it is there", lambda: group.path in open_agent.scrape().paths)
        names = {name for name, _ in open_agent.scrape(f"/v1/{uuid_of(open_agent, group)}/metrics").series}
        assert names >= of_neighbours


@contextlib.contextmanager
def loop_device(file: Path) -> Iterator[str]:
    made = run("losetup", "--find", "--show", "--read-only", str(file), check=False)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.decode().strip()}")
    device = made.stdout.decode().strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


def test_a_request_takes_as_long_as_its_device(world: World, agent: Agent, tmp_path: Path) -> None:
    if why_not():
        pytest.skip(f"no FUSE: {why_not()}")
    group = world.group("alice")
    until("it is there", lambda: group.path in agent.scrape().paths)
    source, mounted = tmp_path / "source", tmp_path / "mounted"
    source.mkdir()
    mounted.mkdir()
    (source / "disk").write_bytes(bytes(4 << 20))
    with fuse_files(mounted, source, READ_SECONDS), loop_device(mounted / "disk") as device:

        def values(name: str) -> Fraction:
            name = f"container_io_latency_seconds_{name}"
            return agent.scrape().value(group.path, name, device=device, operation="read") or Fraction(0)

        reads = 4
        done = group.start(["dd", f"if={device}", "of=/dev/null", "bs=4096", f"count={reads}", "iflag=direct"])
        assert done.wait(60) == 0
        until("all requests are counted", lambda: values("count") == reads)
        assert values("sum") >= reads * READ_SECONDS
        short = agent.scrape().values(group.path, "container_io_latency_seconds_bucket")
        below = [
            count
            for labels, count in short.items()
            if ("device", device) in labels and float(dict(labels)["le"]) < READ_SECONDS
        ]
        assert set(below) == {0}


async def test_the_page_draws_it(world: World, agent: Agent) -> None:
    group = world.group("alice")
    until("it is there", lambda: group.path in agent.scrape().paths)
    start(group, NAP)
    caption = "document.querySelector('#charts .heat figcaption').textContent"
    async with browser() as page:
        await page.open(f"{agent.url}/")
        await page.until("[...document.querySelectorAll('bdi')].some((name) => name.textContent === 'alice')")
        await page.do("[...document.querySelectorAll('bdi')].find((name) => name.textContent === 'alice').click()")
        await page.until(f"{caption}.startsWith('Waits for a CPU: half within ')")
        assert page.problems == []


def test_without_the_capabilities_it_says_why_and_the_rest_is_there(world: World) -> None:
    world.group("alice").sleep()
    without = ("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin")
    done = run(*without, sys.executable, "-m", "pymon", "collect", ON, PATTERN)
    assert b'pymon_collector_success{collector="container_latency"} 0' in done.stdout
    assert b"container_memory_usage_bytes{" in done.stdout
    assert b"container_cpu_run_delay" not in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if b"container_latency" in line]
    assert b"without CAP_BPF and CAP_PERFMON" in line


def test_the_capabilities_of_the_shipped_unit_are_enough(world: World) -> None:
    world.group("alice").sleep()
    only = ("setpriv", "--bounding-set=-all,+bpf,+perfmon,+dac_read_search,+sys_ptrace")
    done = run(*only, sys.executable, "-m", "pymon", "collect", ON, PATTERN)
    assert b'pymon_collector_success{collector="container_latency"} 1' in done.stdout, done.stderr
    assert b"container_cpu_run_delay_seconds_count{" in done.stdout


def test_doctor_says_whether_it_can_run_and_why_not(world: World, agent: Agent) -> None:
    def said(*flags: str, without: str = "") -> str:
        bounded = ("setpriv", f"--bounding-set={without}") if without else ()
        out = run(*bounded, sys.executable, "-m", "pymon", "doctor", *flags).stdout.decode()
        (text,) = [line.split(maxsplit=1)[1] for line in out.splitlines() if line.startswith("container_latency ")]
        return text

    assert said() == f"can run; off; {ON} switches it on"
    assert said(ON) == "can run"
    assert said(ON, without="-bpf,-sys_admin") == "cannot run: without CAP_BPF"
