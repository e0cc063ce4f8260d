"""What is measured of an agent, with the floor and the peers of each case."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.bpf import PROCFS, SYSFS, Collection, filled, without_change
from bench.render import Rendering
from bench.scrape import files_of, floor_of, running_floor
from bench.suite.agree import DisagreementError, Exposition, agree, cgroups_alone, ids, only, parse
from bench.suite.fronts import dns, proxy
from bench.suite.minute import minute
from bench.suite.peers import Peer, Running, running
from bench.suite.result import FLOOR, Case
from bench.suite.single import single
from bench.suite.turns import ERRORS, Field, one_line
from bench.world import CGROUPFS, Cgroups, Client, agent, cgroups
from pymon.sources.bpf import probe
from pymon.sources.cgroup import find_hierarchies

BPF, FILES, PYMON = "pymon bpf", "pymon files", "pymon"
SETTLE_SECONDS = 30
DISCOVERY_SECONDS = 120
"""A peer may take so long to find the containers: netdata starts programs for each."""

NODE_FILES = tuple(
    f"/proc/{name}"
    for name in (
        *("stat", "meminfo", "vmstat", "diskstats", "loadavg", "net/dev", "net/netstat", "net/snmp", "net/snmp6"),
        *("net/sockstat", "net/sockstat6", "net/softnet_stat", "net/udp", "net/udp6", "net/arp", "schedstat", "mounts"),
        *("sys/fs/file-nr", "sys/kernel/random/entropy_avail", "pressure/cpu", "pressure/io", "pressure/memory"),
    )
)
"""Files of /proc that both programs read for the node; what they read besides is not in the floor."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. minute_seconds: of the cases minute and memory."""

    cases: tuple[str, ...]
    containers: tuple[int, ...]
    rounds: int
    minute_seconds: int
    peers: tuple[Peer, ...]

    def about(self, what: str) -> list[Peer]:
        """The peers of one kind."""
        return [peer for peer in self.peers if peer.about == what]


def bpf_obstacle() -> str:
    """Why BPF fills nothing on this machine, or ""."""
    return probe(find_hierarchies(CGROUPFS), PROCFS, SYSFS)[0].obstacle


def seconds_of(work: Callable[[], object]) -> float:
    """Milliseconds that a call takes."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def rendering(plan: Plan) -> Iterator[Case]:
    """The renderer alone, with 1,000 containers' numbers."""
    work = Rendering(1000)
    with running_floor(work.text, "copy") as floor:
        found = Field({FLOOR: lambda: 1e9 * floor.round_seconds() / work.samples, PYMON: work.ours})
        found.runners["prometheus_client"] = work.theirs
        found.agreed = {FLOOR: "copies the same bytes", "prometheus_client": "has parsed pymon's text"}
        yield found.measure("render", f"Rendering of {work.samples:,} samples", "ns a sample", plan.rounds)


def node(plan: Plan) -> Iterator[Case]:
    """The node alone, without containers."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(agent("pymon-bench-none"))
        target = Running(ours.port, ours.process.pid, path="/v1/gz/metrics")
        stack.callback(target.close)
        floor = stack.enter_context(floor_of([path for path in NODE_FILES if Path(path).exists()]))
        found = Field({FLOOR: lambda: 1e3 * floor.round_seconds(), PYMON: lambda: seconds_of(target.scrape)})
        found.agreed = {FLOOR: "preads files of /proc that both read", PYMON: f"{len(parse(target.body()))} series"}
        for peer in plan.about("node"):
            enter(stack, peer, place, found, lambda names: parse(only(target.body(), names)))
        yield found.measure("node", "Scrape of the node", "ms", plan.rounds)


def theirs_of(peer: Peer, target: Running, parent: str) -> Exposition:
    """What a peer says, under pymon's names."""
    return peer.translated(target.body(), parent)


def enter(
    stack: ExitStack,
    peer: Peer,
    place: Path,
    found: Field,
    ours: Callable[[set[str]], Exposition],
    *,
    parent: str = "",
    containers: int = 0,
) -> Running | None:
    """Start a peer and compare it. It is in the field, or there is said why not.

    ours: returns what pymon says under these names.
    """
    try:
        with ExitStack() as own:
            target = own.enter_context(running(peer, place, parent))
            theirs = partial(theirs_of, peer, target, parent)
            until = time.monotonic() + (DISCOVERY_SECONDS if containers else 0)
            while time.monotonic() < until and len(ids(theirs())) < containers:
                time.sleep(1)
            names = {name for name, _ in theirs()}
            agreed = agree(lambda: ours(names), theirs, containers=containers, known=bool(peer.package))
            found.agreed[peer.name] = agreed
            stack.push(own.pop_all())
    except ERRORS as error:
        found.fails(peer.name, error)
        return None
    found.runners[peer.name] = lambda: seconds_of(target.scrape)
    return target


def collecting(groups: Cgroups, plan: Plan, obstacle: str) -> Iterator[Case]:
    """The readers alone, without an agent."""
    count = len(groups.names)
    with ExitStack() as stack:
        floor = stack.enter_context(floor_of(files_of(groups)))
        found = Field({FLOOR: lambda: 1e3 * floor.round_seconds()})
        found.agreed[FLOOR] = "preads the same files"
        for name, bpf in ((BPF, True), (FILES, False)):
            if bpf and obstacle:
                found.absent[name] = obstacle
                continue
            work = stack.enter_context(contextlib.closing(Collection(groups, bpf=bpf)))
            found.runners[name] = lambda work=work: 1e3 * work.seconds()
        if BPF in found.runners:
            found.agreed[BPF] = "columns that agreed with the files"
        yield found.measure(f"collect-{count}", f"Collection of {count:,} containers", "ms", plan.rounds)


def start_agents(stack: ExitStack, groups: Cgroups, found: Field, obstacle: str) -> dict[str, Running]:
    """An agent for each source, after making sure that they say the same of all containers."""
    agents: dict[str, Running] = {}
    for name, source in ((FILES, "cgroupfs"), (BPF, "bpf")):
        if name == BPF and obstacle:
            found.absent[name] = obstacle
            continue
        started = stack.enter_context(agent(groups.parent, f"--source={source}"))
        target = Running(started.port, started.process.pid)
        stack.callback(target.close)
        try:
            if name == BPF:
                with contextlib.closing(Client(started.port)) as client:
                    filled(client)
            found.agreed[name] = complete(groups, target)
            if name == BPF:
                found.agreed[name] += f", {same(target, agents[FILES])}"
        except ERRORS as error:
            found.agreed.pop(name, None)
            found.fails(name, error)
        else:
            agents[name] = target
    return agents


def complete(groups: Cgroups, target: Running) -> str:
    """How many series there are of the containers. RuntimeError if a container is missing."""
    lines = without_change(target.body())
    seen = sum(line.startswith(b"container_start_time_seconds{") for line in lines)
    if seen != len(groups.names):
        raise DisagreementError(f"has {seen} of {len(groups.names)} containers")
    return f"{len(lines)} series of containers"


def same(target: Running, other: Running) -> str:
    """Say that two agents agree, once they do: what a group was charged for its start settles in a moment."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        differing = {*without_change(target.body())} ^ {*without_change(other.body())}
        if not differing:
            return "the same as of files"
        if time.monotonic() > until:
            raise DisagreementError(f"{len(differing)} lines differ, such as {min(differing).decode()}")
        time.sleep(0.5)


def scraping(groups: Cgroups, plan: Plan, obstacle: str) -> Iterator[Case]:
    """Whole scrapes over HTTP, plain and compressed, one container, and the cost of a minute."""
    count = len(groups.names)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = Field()
        targets = start_agents(stack, groups, found, obstacle)
        if FILES not in targets:  # which the others are compared with
            yield found.case(f"scrape-{count}", f"Scrape of {count:,} containers", "ms", {})
            return
        ours = targets[FILES]
        floor = stack.enter_context(floor_of(files_of(groups)))
        found.runners = {FLOOR: lambda: 1e3 * floor.round_seconds()}
        found.agreed[FLOOR] = "preads the same files"
        found.runners |= {who: lambda one=one: seconds_of(one.scrape) for who, one in targets.items()}

        def said(names: set[str]) -> Exposition:
            return cgroups_alone(parse(only(ours.body(), names)), groups.parent)

        for peer in plan.about("containers"):
            target = enter(stack, peer, place, found, said, parent=groups.parent, containers=count)
            if target is not None:
                targets[peer.name] = target
        if "scrape" in plan.cases:
            yield found.measure(f"scrape-{count}", f"Scrape of {count:,} containers", "ms", plan.rounds)
        if "gzip" in plan.cases:
            packed = Field({FLOOR: found.runners[FLOOR]}, dict(found.absent), dict(found.failed), dict(found.agreed))
            packed.runners |= {who: gzipped(one) for who, one in targets.items() if who in found.runners}
            yield packed.measure(f"gzip-{count}", f"Scrape of {count:,} containers with gzip", "ms", plan.rounds)
        if "minute" in plan.cases:
            for interval in (15, 1):
                yield from minute(count, interval, plan.minute_seconds, floor, targets, found)


def gzipped(target: Running) -> Callable[[], float]:
    """Milliseconds of a compressed scrape."""
    return lambda: seconds_of(lambda: target.scrape(gzip=True))


def attempted(name: str, title: str, of: Iterator[Case]) -> Iterator[Case]:
    """Cases, and if they cannot be measured one that says why."""
    try:
        yield from of
    except ERRORS as error:
        yield Case(name, title, "", "lower", {}, failed={PYMON: one_line(error)})


def cases(plan: Plan) -> Iterator[Case]:
    """All that the plan asks for, as it is measured."""
    asked = set(plan.cases)
    obstacle = bpf_obstacle()
    alone = {
        "render": ("Rendering", lambda: rendering(plan)),
        "node": ("Scrape of the node", lambda: node(plan)),
        "proxy": ("Proxy", lambda: proxy(plan.rounds)),
        "dns": ("DNS", lambda: dns(plan.rounds)),
    }
    for name, (title, measured) in alone.items():
        if name in asked:
            yield from attempted(name, title, measured())
    for count in plan.containers if asked - alone.keys() else ():
        yield from attempted(f"containers-{count}", f"{count:,} containers", of_containers(count, plan, obstacle))


def of_containers(count: int, plan: Plan, obstacle: str) -> Iterator[Case]:
    """The cases of so many containers."""
    asked, some = set(plan.cases), f"{count:,} containers"
    with cgroups(count) as groups:
        if "collect" in asked:
            yield from attempted(f"collect-{count}", f"Collection of {some}", collecting(groups, plan, obstacle))
        if {"scrape", "gzip", "minute"} & asked:
            yield from attempted(f"scrape-{count}", f"Scrape of {some}", scraping(groups, plan, obstacle))
        if "single" in asked:
            yield from attempted(f"single-{count}", f"One of {some}", single(groups, plan.rounds, obstacle))
