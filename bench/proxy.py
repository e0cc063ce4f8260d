"""The proxy beside nginx, which does the same for the same clients: one worker of each on the same core.

Each figure is the median of rounds that take turns. Behind the fronts is either a real agent, which is the slower part,
or a second nginx that has the agent's answers as files, so that the fronts' own limit shows.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench import nginx
from bench.fronts import CONTAINERS, QUOTA, Setup, get, pymon, set_up
from bench.load import HOST, Account, Front, Got, Load
from bench.world import cgroups

CONNECTIONS = 32
CONSUMERS = 10
SQUADS = 4
ROUNDS = 5
SECONDS = 3.0

QUIET_CONNECTIONS = 8
QUIET_RATE = 0.9 * QUOTA
NOISY_RATE = 10 * QUOTA
QUOTA_SECONDS = 8.0
BURST_SECONDS = 3.0
"""After so long at ten times the quota nothing is left of the burst."""


class Runs:
    """Loads on the fronts of a set-up."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._load = Load(setup.place)
        self._tenant = self._targets("tenant", [setup.tenant])
        self._quiet = self._targets("quiet", [setup.quiet])
        self._both = self._targets("both", [setup.quiet, setup.tenant])

    def _targets(self, name: str, owned: Sequence[Sequence[str]]) -> Path:
        """A file of the containers of each account in turn."""
        path = self.setup.place / f"{name}.targets"
        lines = [f"{HOST} /v1/{uuid}/metrics {i}\n" for i, uuids in enumerate(owned) for uuid in uuids]
        path.write_text("".join(lines))
        return path

    def _account(self, front: Front, connections: int, rate: float = 0) -> Account:
        """The load of tenant, who shows no certificate to what is no front."""
        account = self.setup.known.account("tenant", connections, rate)
        return account if front.authority else replace(account, certificate=None, key=None)

    def scrape(self, front: Front, rate: float = 0) -> Got:
        """Tenant scrapes its containers, none twice at the same time."""
        return self._counted(front, self._account(front, CONNECTIONS, rate), 1)

    def together(self, front: Front) -> Got:
        """Consumers of tenant scrape the same containers at the same time, in several squads."""
        return self._counted(front, self._account(front, SQUADS * CONSUMERS), CONSUMERS)

    def _counted(self, front: Front, account: Account, squads_of: int) -> Got:
        """upstream_requests: for each request, to the captured answers."""
        before = nginx.requests_handled(self.setup.captured)
        got = self._load.run(front, self._tenant, [account], seconds=SECONDS, squads_of=squads_of)["tenant"]
        got["upstream_requests"] = (nginx.requests_handled(self.setup.captured) - before) / got["answers"]
        return got

    def quota(self, front: Front, *, noisy: bool) -> dict[str, Got]:
        """Quiet scrapes within its quota; tenant asks for ten times its own beside it."""
        accounts = [self.setup.known.account("quiet", QUIET_CONNECTIONS, QUIET_RATE)]
        if noisy:
            accounts.append(replace(self._account(front, CONNECTIONS, NOISY_RATE), statuses=frozenset({"200", "429"})))
        targets = self._both if noisy else self._quiet
        return self._load.run(front, targets, accounts, seconds=QUOTA_SECONDS, warm_up_seconds=BURST_SECONDS)


Result = TypeVar("Result")


def rounds(runs: dict[str, Callable[[], Result]]) -> dict[str, list[Result]]:
    """What each run got, in rounds in which all take turns."""
    got: dict[str, list[Result]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            got[name].append(run())
    return got


def median(got: list[Got], field: str) -> float:
    """Return the median of a field over all rounds."""
    return statistics.median(one[field] for one in got)


def ratio(a: list[Got], b: list[Got], field: str = "requests_per_second") -> float:
    """Median of the ratios of each round."""
    return statistics.median(x[field] / y[field] for x, y in zip(a, b, strict=True))


def brief(got: list[Got]) -> Got:
    """Medians. front_us: CPU time of the front for a request, in microseconds."""
    fields = ("requests_per_second", "p50_us", "p99_us", "front_cpu", "load_cpu")
    said = {field: median(got, field) for field in fields}
    said["front_us"] = statistics.median(1e6 * one["front_cpu"] / one["requests_per_second"] for one in got)
    return {"cipher": got[0]["cipher"], **said}


def compared(setup: Setup, run: Callable[[Front], Got]) -> dict[str, dict[str, Any]]:
    """pymon against nginx, by what is behind both."""
    said: dict[str, dict[str, Any]] = {}
    for behind in ("agent", "captured"):
        fronts = {kind: setup.fronts[f"{kind} {behind}"] for kind in ("nginx", "pymon")}
        got = rounds({kind: partial(run, front) for kind, front in fronts.items()})
        said[behind] = {"ratio": ratio(got["pymon"], got["nginx"]), **{kind: brief(one) for kind, one in got.items()}}
    for kind, one in got.items():
        said["captured"][kind]["upstream_requests"] = median(one, "upstream_requests")
    return said


def table(runs: Runs) -> dict[str, object]:
    """The same containers out of 1,000 and out of 100,000."""
    fronts = {name: runs.setup.fronts[f"pymon {name}"] for name in ("captured", "large")}
    got = rounds({name: partial(runs.scrape, front) for name, front in fronts.items()})
    return {
        "requests_per_second_ratio": ratio(got["large"], got["captured"]),
        "p50_ratio": ratio(got["large"], got["captured"], "p50_us"),
        "1000": brief(got["captured"]),
        "100000": brief(got["large"]),
    }


def added_latency(runs: Runs, most: dict[str, float]) -> dict[str, object]:
    """At half of what each front can do at most, against the same rate without a front and without TLS."""
    said: dict[str, object] = {}
    for kind, rate in most.items():
        asked = {"direct": runs.setup.captured, "front": runs.setup.fronts[f"{kind} captured"]}
        got = rounds({name: partial(runs.scrape, front, rate / 2) for name, front in asked.items()})
        added = [a["p50_us"] - b["p50_us"] for a, b in zip(got["front"], got["direct"], strict=True)]
        said[kind] = {
            "rate": rate / 2,
            "added_p50_us": statistics.median(added),
            **{name: brief(one) for name, one in got.items()},
        }
    return said


def isolation(runs: Runs) -> dict[str, object]:
    """The p99 of quiet alone, and beside tenant who asks for ten times its quota. Leaves tenant with a quota."""
    setup = runs.setup
    pymon(setup.place / "pymon-captured", "quota", "delete", "tenant")
    time.sleep(2)  # a change is in force within one second
    said: dict[str, object] = {}
    for kind, front in (("nginx", setup.fronts["nginx quota"]), ("pymon", setup.fronts["pymon captured"])):
        got = rounds({name: partial(runs.quota, front, noisy=name == "beside") for name in ("alone", "beside")})
        quiet = {name: [one["quiet"] for one in several] for name, several in got.items()}
        said[kind] = {
            "p99_ratio": ratio(quiet["beside"], quiet["alone"], "p99_us"),
            **{name: brief(one) for name, one in quiet.items()},
            "noisy_statuses": got["beside"][-1]["tenant"]["statuses"],
        }
    return said


def check(setup: Setup) -> None:
    """All hand over what was captured."""
    uuid = setup.tenant[0]
    for name in {"nginx captured", "pymon captured", "pymon large"} & setup.fronts.keys():
        status, body = get(setup.fronts[name], setup.known.account("tenant"), f"/v1/{uuid}/metrics")
        if (status, body) != (200, setup.bodies[uuid]):
            raise RuntimeError(f"{name}: {status} with {len(body)} bytes, expected {len(setup.bodies[uuid])}")


def measure() -> dict[str, object]:
    """Return the figures of the proxy beside nginx, after making sure that both answer the same."""
    with (
        tempfile.TemporaryDirectory() as place,
        cgroups(CONTAINERS) as groups,
        set_up(Path(place), groups) as setup,
    ):
        check(setup)
        runs = Runs(setup)
        agent_alone = rounds({"agent": partial(runs.scrape, setup.agent)})["agent"]
        every = compared(setup, runs.scrape)
        most = {kind: every["captured"][kind]["requests_per_second"] for kind in ("nginx", "pymon")}
        return {
            "containers": CONTAINERS,
            "connections": CONNECTIONS,
            "body_bytes": statistics.median(map(len, setup.bodies.values())),
            "agent_alone": brief(agent_alone),
            "every_scrape_upstream": every,
            "ten_consumers": compared(setup, runs.together),
            "table": table(runs),
            "half_load": added_latency(runs, most),
            "noisy_neighbour": isolation(runs),
        }
