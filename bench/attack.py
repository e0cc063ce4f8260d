"""A hostile node and a hostile tenant together, and what a quiet tenant of the same proxy has of it.

The proxy has one core, everything else the other. In each round the attackers load first a dummy server, then the
proxy; the quiet tenant asks the proxy both times.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from bench import nginx
from bench.fronts import QUOTA, Identities, get, pymon, pymon_front
from bench.load import CPU, HOST, Front, Got, Load, pinned
from bench.world import ROOT
from tests.proxy.hostile import COUNT, KINDS, NAMES, uuid_of
from tests.proxy.running import container

ROUNDS = 5
SECONDS = 6.0
WARM_UP_SECONDS = 3.0
"""After so long at ten times the quota nothing is left of the burst."""

QUIET_CONTAINERS = 50
QUIET_CONNECTIONS = 8
QUIET_RATE = 0.9 * QUOTA
HOSTILE_CONNECTIONS = 200
HOSTILE_RATE = 10 * QUOTA
COMPARE_SECONDS = 0.25

LAST = ("nice", "-n", "19", "taskset", "-c", CPU)
"""Attackers have what the quiet tenant and the honest node leave of their core, so that these do not wait for it."""


def body_of(number: int) -> bytes:
    """What an honest agent says of a container; 4 KB."""
    families = (
        f"# HELP container_metric_{n}_total Help.\n# TYPE container_metric_{n}_total counter\n"
        f'container_metric_{n}_total{{id="/docker/{number}",name="web-{number}"}} {number * 1000 + n}\n'
        for n in range(25)
    )
    return "".join(families).encode()


def quiet_uuid(number: int) -> str:
    """A container of the quiet tenant."""
    return str(UUID(int=0xC0FFEE << 96 | number, version=4))


@contextlib.contextmanager
def program(*command: str | Path) -> Iterator[str]:
    """A server on the core of the load, by the line that it says when it listens; it ends with its standard input."""
    process = subprocess.Popen(
        [*LAST, sys.executable, "-m", *command],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{command[0]} did not start")
        yield line
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def identities(place: Path) -> Identities:
    """`tenant`, who is hostile, and `quiet`, with the default quota each."""
    made = Identities(place)
    for name in ("tenant", "quiet"):
        pymon(made.data, "account", "create", name)
        pymon(made.data, "cert", "create", name, "--out", place / name)
    pymon(made.data, "cert", "server", "--out", place / "server", HOST)
    return made


def memory_bytes(pid: int, field: str) -> int:
    """VmRSS or VmHWM of a process."""
    return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) << 10


class Answers:
    """What the quiet tenant is told, all the time: `changed` are the paths whose answers were not as at first."""

    def __init__(self, front: Front, known: Identities, paths: Sequence[str]) -> None:
        self._front = front
        self._account = known.account("quiet")
        self._first = {path: get(front, self._account, path) for path in paths}
        for path, (status, _) in self._first.items():
            if status != 200:
                raise RuntimeError(f"{path}: {status} before the attack")
        self.compared = 0
        self.changed: list[str] = []
        self._stop = threading.Event()

    def _compare(self) -> None:
        while True:
            for path, first in self._first.items():
                if self._stop.wait(COMPARE_SECONDS):
                    return
                self.compared += 1
                if get(self._front, self._account, path) != first:
                    self.changed.append(path)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Compare answers of the quiet account with the first ones, in a thread, while the context lasts."""
        self._stop.clear()
        thread = threading.Thread(target=self._compare)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


@contextlib.contextmanager
def attacked(load: Load, port: int, known: Identities, targets: Path) -> Iterator[None]:
    """The hostile tenant at ten times its quota, on the proxy or on the dummy."""
    account = known.account("tenant", HOSTILE_CONNECTIONS, HOSTILE_RATE)
    command = [*LAST, load.program, "-a", f"127.0.0.1:{port}", "-d", "1000", "-w", "0"]
    command += ["-C", known.authority, "-n", HOST, targets, account.argument()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError("the attackers gave up")
    finally:
        process.kill()
        process.wait()


def hostile_targets(place: Path) -> Path:
    """What the hostile tenant asks for: each kind of answer of the hostile node, expositions, discovery, others'."""
    path = place / "hostile.targets"
    asked = [f"/v1/{uuid_of(number)}/metrics" for number in range(COUNT)]
    for by in ("", "?by=group", "?by=service", "?by=node"):
        asked += [f"/v1/account/metrics{by}"] * 2
    asked += ["/v1/discover", "/v1/sd", "/v1/sd?role=app", f"/v1/{quiet_uuid(0)}/metrics", "/v1/nothing"]
    # Kinds take turns anyway; what the proxy answers by itself comes between them.
    step = len(KINDS)
    path.write_text("".join(f"{HOST} {asked[i * step % len(asked)]}\n" for i in range(len(asked))))
    return path


def measure() -> dict[str, object]:
    """Growth of the proxy's memory, the quiet tenant's p99, and whether its answers stay as they are."""
    with pinned(), tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(place: Path) -> dict[str, object]:
    known = identities(place)
    bodies = {quiet_uuid(number): body_of(number) for number in range(QUIET_CONTAINERS)}
    node = {"uuid": str(UUID(int=1, version=4)), "hostname": "honest"}
    containers = [container(uuid, "quiet", name=f"web-{n}", groups=["shop"]) for n, uuid in enumerate(bodies)]
    (place / "inventory.json").write_text(json.dumps({"version": "1", "node": node, "containers": containers}))
    quiet_targets = place / "quiet.targets"
    quiet_targets.write_text("".join(f"{HOST} /v1/{uuid}/metrics\n" for uuid in bodies))
    paths = [f"/v1/{quiet_uuid(0)}/metrics", "/v1/discover", "/v1/sd", "/v1/sd?via=path", "/v1/account/metrics"]
    paths += [f"/v1/account/metrics?by={by}" for by in ("service", "group", "node")]
    load = Load(place)
    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        stub = nginx.free_port()
        stubs = subprocess.Popen(
            [
                "taskset",
                "-c",
                CPU,
                sys.executable,
                "-m",
                "bench.stub",
                f"{stub}",
                place / "inventory.json",
                "0",
                "0",
                "x",
            ],
            cwd=ROOT,
        )
        stack.callback(stubs.wait, 20)
        stack.callback(stubs.terminate)
        nginx.wait_for(stub, stubs, "the stub")
        honest = start(nginx.static(place, bodies, stub))
        hostile = start(program("tests.proxy.hostile", "tenant", *bodies, node["uuid"]))
        dummy = int(start(program("bench.dummy", hostile, known.certificate, known.key)))
        nodes = [f"http://127.0.0.1:{honest.port}", hostile]
        front = start(pymon_front("attacked", place, known, nodes, {"quiet": QUIET_CONTAINERS, "tenant": NAMES}))
        targets = hostile_targets(place)
        answers = Answers(front, known, paths)
        quiet = known.account("quiet", QUIET_CONNECTIONS, QUIET_RATE)

        def scrape() -> Got:
            got = load.run(front, quiet_targets, [quiet], seconds=SECONDS, warm_up_seconds=WARM_UP_SECONDS)
            return got["quiet"]

        scrape()
        before = memory_bytes(front.pid, "VmRSS")
        got: dict[str, list[Got]] = {"dummy": [], "proxy": []}
        for _ in range(ROUNDS):
            for name, port in (("dummy", dummy), ("proxy", front.port)):
                with attacked(load, port, known, targets), answers.watched():
                    got[name].append(scrape())
        grown = memory_bytes(front.pid, "VmHWM") - before
        time.sleep(1)
    ratios = [a["p99_us"] / b["p99_us"] for a, b in zip(got["proxy"], got["dummy"], strict=True)]
    return {
        "rss_before_mb": before / 1e6,
        "rss_growth_mb": grown / 1e6,
        "p99_ratio": statistics.median(ratios),
        "p99_ratios": ratios,
        "answers_compared": answers.compared,
        "answers_changed": sorted(set(answers.changed)),
        **{name: {field: statistics.median(one[field] for one in runs) for field in ("p50_us", "p99_us", "front_cpu")}
           for name, runs in got.items()},
    }  # fmt: skip
