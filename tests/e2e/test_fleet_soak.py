"""A fleet whose proxies, nodes, directory, disks and ways fail in a random order, under Prometheus by names.

Each fault is made, taken away, and all is waited for before the next one. What failed is counted from Prometheus's own
samples at the end.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from tests.e2e.fleet import Container
from tests.e2e.prometheus import Prometheus, require
from tests.e2e.proxy import ZONE
from tests.e2e.soak_site import (
    ACCOUNTS,
    DISK_BYTES,
    NODES,
    PROXIES,
    WATCHER,
    WITH_WORKERS,
    SoakSite,
    ask,
    eventually,
)
from tests.live.world import run, until

pytestmark = pytest.mark.root

SEED = 13
LONGEST_SECONDS = 10.0
"""How long targets may fail after a proxy hangs or is out of reach of Prometheus: presence 5 s, TTL of `cmon` 5 s."""
SCRAPE_SECONDS = 1.0
LOOK_SECONDS = 0.5
SCRAPES = "pymon_proxy_scrapes_total"


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line, also when the test passes."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"soak: {text}\n")

    return write


class Fault(NamedTuple):
    """What was done, from when until all was well again. away: containers whose node did not run meanwhile.

    lasting: whether targets may fail for a while.
    """

    what: str
    begun: float
    ended: float
    lasting: bool
    away: frozenset[str]


class Watch:
    """Looks all the time at what is answered; `with` ends its threads.

    wrong: what must not be, with how often it was seen. counts: how often was looked.
    """

    def __init__(self, site: SoakSite, prometheus: Prometheus) -> None:
        self.wrong: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.expected: dict[str, frozenset[str]] = dict.fromkeys(ACCOUNTS, frozenset())
        """The containers that must be found, by account."""
        self._site = site
        self._prometheus = prometheus
        self._ended = threading.Event()
        self._failed: list[BaseException] = []
        looks = [
            *(lambda where=where, name=name: self._names(name, *where) for name, where in site.servers().items()),
            *(lambda number=number: self._proxy(number) for number in range(len(PROXIES))),
            self._targets,
        ]
        self._threads = [threading.Thread(target=self._run, args=(look,)) for look in looks]

    def expect(self, container: Container) -> None:
        """It must be found from now on."""
        self.expected[container.account] |= {container.uuid}

    def _run(self, look: Callable[[], None]) -> None:
        try:
            while not self._ended.wait(LOOK_SECONDS):
                look()
        except BaseException as error:  # noqa: BLE001  # told when the test ends
            self._failed.append(error)

    def _names(self, server: str, where: str, port: int) -> None:
        for one in frozenset().union(*self.expected.values()):
            answer = ask(where, port, f"{one}.cmon")
            if answer is None:
                self.counts[f"no answer of the {server} server"] += 1
                continue
            self.counts[f"answers of the {server} server"] += 1
            if f"cmon.{ZONE}." not in answer:
                self.wrong[f"the {server} server has no name of {one}"] += 1

    def _proxy(self, number: int) -> None:
        for account, other in (ACCOUNTS, ACCOUNTS[::-1]):
            mine, theirs = self.expected[account], self.expected[other]
            with contextlib.suppress(OSError, http.client.HTTPException), self._site.client(number, account) as client:
                for one in sorted(theirs)[:1]:
                    status = client.status(f"/v1/{one}/metrics")
                    self.counts[f"requests for another account's container: {status}"] += 1
                    if status == 200:
                        self.wrong[f"{account} was answered {other}'s {one}"] += 1
                answer = client.get("/v1/discover")
                self.counts[f"discoveries: {answer.status}"] += 1
                if answer.status == 200:
                    found = {one["vm_uuid"] for one in json.loads(answer.body)["containers"]}
                    for one in mine - found:
                        self.wrong[f"proxy {number} has not discovered {one}"] += 1
                    for one in found & self.expected[other]:
                        self.wrong[f"proxy {number} has told {account} of {other}'s {one}"] += 1

    def _targets(self) -> None:
        expected = {(account, one) for account, uuids in self.expected.items() for one in uuids}
        found = {
            (one["labels"]["job"], one["labels"]["instance"].partition(".")[0]) for one in self._prometheus.targets()
        }
        self.counts["looks at Prometheus's targets"] += 1
        for account, one in expected - found:
            self.wrong[f"{account}'s target {one} disappeared"] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if kind is None and self._failed:
            raise self._failed[0]


class Faults:
    """The faults by name. Each returns when what it did was taken away again, and processes are ready."""

    def __init__(self, site: SoakSite, randomly: random.Random, *, brief: bool) -> None:
        self.site = site
        self._random = randomly
        self._brief = brief
        self.late: list[Container] = []
        """Containers that were started by a fault."""
        self.begun = 0.0
        """When the last fault was made."""
        self.away = ""
        """The node that did not run during the last fault."""

    def _for(self, short: float, long: float) -> None:
        time.sleep(short if self._brief else self._random.uniform(short, long))

    def _any(self) -> int:
        """A proxy that scrapes go through now, so that the fault matters."""
        before = [proxy.metric(SCRAPES) for proxy in self.site.proxies]

        def serving() -> list[int]:
            time.sleep(SCRAPE_SECONDS)
            return [number for number, proxy in enumerate(self.site.proxies) if proxy.metric(SCRAPES) > before[number]]

        found = self._random.choice(until("scrapes", serving))
        self.begun = time.time()
        return found

    def kill_a_proxy(self) -> str:
        number = self._any()
        self.site.proxies[number].kill()
        self._for(2, 12)
        self.site.proxies[number] = self.site.proxy(number)
        return str(number)

    def restart_a_proxy(self) -> str:
        number = self._any()
        self.site.proxies[number].stop()
        self.site.proxies[number] = self.site.proxy(number)
        return str(number)

    def stop_a_proxy(self) -> str:
        number = self._any()
        parent = self.site.proxies[number].process.pid
        processes = parent, *children(parent)
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            self._for(7, 15)
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        return str(number)

    def kill_a_worker(self) -> str:
        proxy = self.site.proxies[WITH_WORKERS]
        before = proxy.metric("pymon_proxy_worker_restarts_total")
        os.kill(self._random.choice(children(proxy.process.pid)), signal.SIGKILL)
        eventually("a new one", lambda: proxy.metric("pymon_proxy_worker_restarts_total") > before)
        return str(WITH_WORKERS)

    def cut_a_proxy_from_prometheus(self) -> str:
        number = self._any()
        self.site.network.cut(WATCHER, PROXIES[number])
        try:
            self._for(5, 15)
        finally:
            self.site.network.heal(WATCHER, PROXIES[number])
        return str(number)

    def cut_a_proxy_from_nodes(self) -> str:
        number = self._any()
        nodes = self._random.sample(NODES, self._random.randint(1, len(NODES)))
        self.site.network.cut(PROXIES[number], *nodes)
        try:
            self._for(5, 15)
        finally:
            self.site.network.heal(PROXIES[number], *nodes)
        return f"{number}, {len(nodes)} nodes"

    def fill_a_disk(self) -> str:
        number = self._any()
        filler = self.site.sites[number].data_dir / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(DISK_BYTES))
        node = self._random.choice(self.site.nodes)
        self.late.append(node.container(f"alice-late{len(self.late)}", "alice"))
        try:
            self._for(2, 10)
            self.site.proxies[number].kill()
            self.site.proxies[number] = self.site.proxy(number)
        finally:
            filler.unlink()
        proxy = self.site.proxies[number]
        eventually("copies written", lambda: proxy.metric("pymon_proxy_copy_pending") == 0)
        return str(number)

    def stop_a_node(self) -> str:
        node = self._random.choice(self.site.nodes)
        assert node.agent is not None
        self.away = node.name
        os.kill(node.agent.pid, signal.SIGSTOP)
        try:
            self._for(4, 15)
        finally:
            os.kill(node.agent.pid, signal.SIGCONT)
        return node.name

    @contextlib.contextmanager
    def _without_a_node(self) -> Iterator[str]:
        node = self._random.choice(self.site.nodes)
        node.kill()
        self.away = node.name
        try:
            yield node.name
        finally:
            node.start()

    def kill_a_node(self) -> str:
        with self._without_a_node() as name:
            self._for(3, 15)
        return name

    def replace_a_proxy_while_a_node_is_away(self) -> str:
        number = self._any()
        with self._without_a_node() as name:
            self.site.proxies[number].kill()
            self.site.sites[number].forget()
            begun = time.monotonic()
            self.site.proxies[number] = self.site.proxy(number)
            ready = time.monotonic() - begun
            self._for(2, 10)
        return f"{number}, {name}; ready after {ready:.1f} s"

    def start_a_prometheus_while_a_node_is_away(self) -> str:
        """It must find the targets of that node too, and have answers of all others."""
        number = self._any()
        folder = self.site.folder / f"prometheus{self.begun}"
        folder.mkdir()
        with self._without_a_node() as name, self.site.prometheus(folder) as late:
            self.site.proxies[number].kill()
            made = [one for node in self.site.nodes for one in node.containers]
            away = sum(one.node.name == name for one in made)
            eventually("its targets", lambda: up(late) == {"up": len(made) - away, "down": away})
            self.site.proxies[number] = self.site.proxy(number)
        return f"{name}, {number}"

    def stop_postgresql(self) -> str:
        self.site.database.stop()
        try:
            self._for(4, 15)
        finally:
            self.site.database.start()
        return ""

    def hang_postgresql(self) -> str:
        with self.site.database.hung():
            self._for(5, 15)
        return ""

    def promote_the_standby(self) -> str:
        assert self.site.standby is not None
        self.site.database.stop()
        self._for(2, 5)
        self.site.standby.sql("SELECT pg_promote()")
        self.site.database, self.site.standby = self.site.standby, None
        return ""


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


LASTING = {"stop_a_proxy", "cut_a_proxy_from_prometheus"}
ALL = [name for name in vars(Faults) if not name.startswith("_")]


def up(prometheus: Prometheus) -> Counter[str]:
    return Counter(one["health"] for one in prometheus.targets())


def order(randomly: random.Random) -> Iterator[str]:
    """Each once, then all again and again but the one that is done only once."""
    names = ALL[:]
    while True:
        randomly.shuffle(names)
        yield from names[:]
        with contextlib.suppress(ValueError):
            names.remove("promote_the_standby")


def misses(prometheus: Prometheus, since: float, faults: list[Fault]) -> tuple[Counter[str], list[str]]:
    """How many scrapes have failed since a time by fault, and what is wrong with that."""
    failed: Counter[str] = Counter()
    wrong = []
    for labels, samples in prometheus.range("up[30m]"):
        one = labels["instance"].partition(".")[0]
        for failing, group in itertools.groupby(samples, lambda sample: sample[1] == 0 and sample[0] > since):
            if not failing:
                continue
            times = [at for at, _ in group]
            # A scrape that was on its way failed too.
            begun = (fault for fault in faults if fault.begun - SCRAPE_SECONDS <= times[0] <= fault.ended)
            fault = max(begun, key=lambda fault: fault.begun, default=None)
            if fault is None:
                failed["none"] += len(times)
                allowed = len(times) == 1
            else:
                failed[fault.what] += len(times)
                late = times[-1] - fault.begun > LONGEST_SECONDS + SCRAPE_SECONDS
                allowed = one in fault.away or len(times) == 1 or (fault.lasting and not late)
            if not allowed:
                after = f"{fault.what}, after {times[0] - fault.begun:.1f} s" if fault else "nothing"
                wrong.append(f"{labels['job']}'s {one} failed {len(times)} times in a row ({after})")
    return failed, wrong


def soak(folder: Path, say: Callable[[str], None], *, seconds: float = 0) -> None:
    """seconds: for how long; else each fault is made once, and briefly."""
    brief = not seconds
    for program in ("ip", "named", "prometheus", "unshare", "mount"):
        require(program)
    if run("unshare", "-m", "-n", "true", check=False).returncode:
        pytest.skip("no namespaces of the test's own to be had here")
    say(f"seed {SEED}")
    randomly = random.Random(SEED)  # noqa: S311
    with SoakSite(folder) as site:
        made = [
            node.container(f"{account}-{number}", account)
            for node in site.nodes
            for number, account in enumerate(("alice", "alice", "bob"))
        ]
        site.well()
        with site.prometheus() as prometheus, Watch(site, prometheus) as watch:
            eventually("all up", lambda: up(prometheus) == {"up": len(made)})
            since = time.time()
            for one in made:
                watch.expect(one)
            doing = Faults(site, randomly, brief=brief)
            faults: list[Fault] = []
            ends = time.monotonic() + seconds
            for name in itertools.islice(order(randomly), len(ALL) if brief else None):
                if not brief and time.monotonic() > ends:
                    break
                faults.append(do(doing, name, made, prometheus, watch))
                say(f"{faults[-1].what}: {faults[-1].ended - faults[-1].begun:.1f} s until all is well")
            failed, wrong = misses(prometheus, since, faults)
            for series in prometheus.query("count by (job, name) (count_over_time(container_last_seen[30m]))"):
                if not series.labels["name"].startswith(f"{series.labels['job']}-"):
                    wrong.append(f"{series.labels['job']} has samples of {series.labels['name']}")
            scrapes = sum(sample.value for sample in prometheus.query("sum(count_over_time(up[30m]))"))
        for text, count in sorted(watch.counts.items()):
            say(f"{count} {text}")
        say(f"{scrapes:.0f} scrapes, failed by fault: {dict(failed)}")
        wrong += [f"{text}: {count} times" for text, count in watch.wrong.items()]
        for text in wrong:
            say(f"wrong: {text}")
        assert not wrong
        for looked in (
            "answers of the registered server",
            "answers of the secondary server",
            "discoveries: 200",
            "looks at Prometheus's targets",
            "requests for another account's container: 404",
        ):
            assert watch.counts[looked] >= seconds / 4 + 20, looked
        assert not [line for log in site.logs for line in log if "Traceback" in line]


def do(doing: Faults, name: str, made: list[Container], prometheus: Prometheus, watch: Watch) -> Fault:
    """Do it, and wait until all is well."""
    doing.begun, doing.away, count = time.time(), "", len(doing.late)
    what = getattr(doing, name)()
    doing.site.well()
    late = doing.late[count:]
    made += late
    eventually("all up", lambda: up(prometheus) == {"up": len(made)})
    for one in late:
        eventually(
            "its names", lambda one=one: all(ask(*at, f"{one.uuid}.cmon") for at in doing.site.servers().values())
        )
        watch.expect(one)
    away = frozenset(one.uuid for one in made if one.node.name == doing.away)
    done = name.replace("_", " ")
    return Fault(f"{done} ({what})" if what else done, doing.begun, time.time(), name in LASTING, away)


@pytest.mark.timeout(500)
def test_one_fault_of_each_kind(tmp_path: Path, say: Callable[[str], None]) -> None:
    soak(tmp_path, say)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_faults_for_ten_minutes(tmp_path: Path, say: Callable[[str], None]) -> None:
    soak(tmp_path, say, seconds=600)
