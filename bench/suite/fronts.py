"""The proxy beside nginx and the DNS server beside Knot, each on one core, with the load on the other."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from dns.message import make_query
from dns.query import udp

from bench.dns import answering, knot, load, rate
from bench.fronts import CONTAINERS, set_up
from bench.load import Front
from bench.nginx import free_port
from bench.proxy import Runs, check
from bench.suite.agree import DisagreementError
from bench.suite.peers import SBIN, AbsentError
from bench.suite.result import FLOOR, Case
from bench.suite.turns import Field
from bench.world import ROOT, cgroups

MOST_ROUNDS = 5
ZONE_CONTAINERS = 10_000
COMPARED = 200


def proxy(rounds: int) -> Iterator[Case]:
    """Scrapes of tenants through a front with mutual TLS, of answers that an nginx behind it has as files."""
    title = f"Scrapes through a proxy, {CONTAINERS:,} containers"
    if shutil.which("nginx", path=SBIN) is None:
        # nginx is what is behind all of them
        yield Field(absent={"pymon": "nginx-light is not installed"}).case("proxy", title, "requests/s", {}, "higher")
        return
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        setup = stack.enter_context(set_up(place, stack.enter_context(cgroups(CONTAINERS)), extra_nodes=0))
        check(setup)
        runs = Runs(setup)

        def through(front: Front) -> Callable[[], float]:
            return lambda: runs.scrape(front)["requests_per_second"]

        found = Field({FLOOR: through(setup.captured)})
        found.runners |= {name: through(setup.fronts[f"{name} captured"]) for name in ("pymon", "nginx")}
        found.agreed = {
            FLOOR: "nginx with the answers as files, without TLS",
            "pymon": "hands over what is in the files",
        }
        found.agreed["nginx"] = found.agreed["pymon"]
        yield found.measure("proxy", title, "requests/s", min(rounds, MOST_ROUNDS), "higher", warm_up=0)


@contextlib.contextmanager
def echo(place: Path) -> Iterator[int]:
    """The port of the floor of a DNS server, on core 0."""
    program, port = place / "echo", free_port()
    subprocess.run(["gcc", "-O2", "-o", program, ROOT / "bench/echo.c"], check=True)
    with subprocess.Popen(["taskset", "-c", "0", program, str(port)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield port
        finally:
            process.terminate()


def answers(port: int, queries: list[str]) -> list[tuple[int, list[str]]]:
    """The code and the answer to each query, in order."""
    got = []
    for line in queries:
        name, kind = line.split()
        said = udp(make_query(name, kind), "127.0.0.1", port=port, timeout=10)
        got.append((said.rcode(), sorted(text for rrset in said.answer for text in rrset.to_text().splitlines())))
    return got


def dns(rounds: int) -> Iterator[Case]:
    """Answers a second; a tenth of the queries are for names that do not exist."""
    title = f"DNS, a zone of {ZONE_CONTAINERS:,} containers"
    with answering(ZONE_CONTAINERS) as asked, ExitStack() as stack:
        first = asked.queries.read_text().splitlines()[:COMPARED]
        ports = {FLOOR: stack.enter_context(echo(asked.place)), "pymon": asked.port}
        found = Field(agreed={FLOOR: "sends each query back"})
        try:
            if shutil.which("knotd", path=SBIN) is None:
                raise AbsentError("knot is not installed")
            ports["knot"] = stack.enter_context(knot(asked.place))
            if answers(ports["knot"], first) != answers(asked.port, first):
                raise DisagreementError("answers something else")
            found.agreed["knot"] = f"{COMPARED} answers are the same"
        except (OSError, RuntimeError) as error:
            ports.pop("knot", None)
            found.fails("knot", error)
        if shutil.which("dnsperf") is None:
            for who in ports:
                found.fails(who, AbsentError("dnsperf, which makes the load, is not installed"))
        else:
            found.runners = {who: lambda port=port: rate(load(port, asked.queries)) for who, port in ports.items()}
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        yield found.measure("dns", title, "answers/s", min(rounds, MOST_ROUNDS), "higher", warm_up=0)
