"""What node_exporter answers of this machine to others' dashboards and alerts, pymon answers, and what they ask of
containers, it answers of a fixture host.

Debian's Prometheus scrapes both and evaluates an expression for each metric, each label and each value of a label that
dashboard_names.txt has.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pymon.agent.collectors import COLLECTORS as OPTIONS
from pymon.catalogue import disk
from tests.agent.fixture_host import copy_host
from tests.agent.test_kubernetes import containerd, crio
from tests.e2e.prometheus import Prometheus, require
from tests.fixtures.layouts import CRI, CRIO, POD_BESTEFFORT, POD_BURSTABLE
from tests.live.agent import Agent

pytestmark = pytest.mark.root

NAMES = Path(__file__).with_name("dashboard_names.txt")
COLLECTORS = ("interrupts", "processes", "systemd", "tcpstat")
"""Those that dashboards need and that are off by default, there and here."""

JOBS = ("node_exporter", "pymon", "fixture")

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
"""

ON_REQUEST = {"container_fs_usage_bytes": "--collector.container_disk"}
"""What dashboards ask of containers and is off by default, by its switch."""


PASSING = {"node_tcp_connection_states", "node_processes_state"}
"""Of these a value of a label is there only while a connection or a process is in that state."""

SECONDS = 60.0


class Question(NamedTuple):
    """A selector, such as ``node_load1`` or ``node_cpu_seconds_total{mode="idle"}``."""

    name: str
    matcher: str

    @property
    def of_containers(self) -> bool:
        """Whether pymon has to answer it for a container that Kubernetes describes."""
        return self.name.startswith("container_") and self.name not in ON_REQUEST


class Asked(NamedTuple):
    """What a dashboard asks, each part for itself, or what an alert needs, all of it."""

    source: str
    name: str
    questions: tuple[Question, ...]


def question(name: str, label: str = "") -> Question:
    key, equals, value = label.partition("=")
    return Question(name, f'{key}="{value}"' if equals else f'{key}!=""' if key else "")


def read() -> tuple[list[Asked], list[Asked]]:
    """The dashboards and the alerts."""
    dashboards: list[Asked] = []
    alerts: list[Asked] = []
    source, kind, found = "", "", dashboards
    for line in NAMES.read_text().splitlines():
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] in {"dashboard", "alert"}:
            kind, repository, revision, path = words
            assert re.fullmatch(r"[0-9a-f]{40}", revision)
            source, found = f"{repository} {path}", dashboards if kind == "dashboard" else alerts
        elif kind == "dashboard":
            name, *labels = words
            found.append(Asked(source, name, (question(name), *(question(name, label) for label in labels))))
        else:
            alert, *selectors = words
            parts = [re.fullmatch(r"(\w+)(?:\{(.*)\})?", selector) for selector in selectors]
            questions = (question(part[1], label) for part in parts if part for label in (part[2] or "").split(","))
            found.append(Asked(source, alert, tuple(questions)))
    return dashboards, alerts


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has scraped node_exporter, pymon on this machine, and pymon on a fixture host."""
    require("prometheus")
    program = require("prometheus-node-exporter")
    folder = tmp_path_factory.mktemp("names")
    switches = [f"--collector.{name}" for name in COLLECTORS]
    host = copy_host("v2", folder)
    containerd(host, CRI, POD_BURSTABLE, "java")
    crio(host, CRIO, POD_BESTEFFORT, "node")
    for limit in host.cgroups.rglob("cpu.max"):  # periods are those of a limit
        limit.write_text("50000 100000\n")
    command = [program, "--web.listen-address=127.0.0.1:0", *switches]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as theirs:
        try:
            assert theirs.stderr is not None
            address = next(
                found[1] for line in theirs.stderr if (found := re.search(r"address=(127\.0\.0\.1:(?!0\b)\d+)", line))
            )
            with Agent(*switches) as live, Agent(*host.flags()) as still:
                config = CONFIG + "".join(
                    f"- {{job_name: {job}, static_configs: [{{targets: ['{target}']}}]}}\n"
                    for job, target in zip(JOBS, (address, live.address, still.address), strict=True)
                )
                with Prometheus(config, folder, timeout=60) as running:
                    running.wait_for("count(up == 1) == 3")
                    yield running
        finally:
            theirs.kill()


def answering(prometheus: Prometheus, asked: Question) -> set[str]:
    """The jobs that have a series."""
    found = prometheus.query(f"count by (job) (last_over_time({asked.name}{{{asked.matcher}}}[5m]))")
    return {sample.labels["job"] for sample in found}


def lacking(prometheus: Prometheus, asked: Asked) -> bool:
    """Whether pymon lacks an answer that it owes, and still does after more scrapes."""
    until = time.monotonic() + SECONDS
    while _lacks(asked, able(prometheus, asked)):
        if time.monotonic() > until:
            return True
        time.sleep(0.5)
    return False


def _lacks(asked: Asked, jobs: set[str]) -> bool:
    owed = any(one.of_containers for one in asked.questions)
    return ("node_exporter" in jobs and "pymon" not in jobs) or (owed and "fixture" not in jobs)


def able(prometheus: Prometheus, asked: Asked) -> set[str]:
    """The jobs that answer all of it."""
    return set(JOBS).intersection(*(answering(prometheus, one) for one in asked.questions))


def compare(prometheus: Prometheus, asked: list[Asked], what: str) -> int:
    """Print how much of each source is answered, assert that nothing is missing, return what node_exporter answers."""
    missing = [one for one in asked if lacking(prometheus, one)]
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in asked:
        counts[one.source].update(("asked", *able(prometheus, one)))
    for source, of_source in counts.items():
        answers = ", ".join(f"{job} {of_source[job]}" for job in JOBS)
        sys.stdout.write(f"{source}: {of_source['asked']} {what}, answered by {answers}\n")
    assert missing == []
    return sum(of_source["node_exporter"] for of_source in counts.values())


def test_what_dashboards_ask(prometheus: Prometheus) -> None:
    parts = [
        one._replace(questions=(part,))
        for one in read()[0]
        for part in one.questions
        if part.name not in PASSING or "!" in part.matcher or not part.matcher
    ]
    assert compare(prometheus, parts, "expressions") > 300, "it was compared"


def test_alerts_that_can_fire(prometheus: Prometheus) -> None:
    """An alert can fire where there is all that it looks at."""
    assert compare(prometheus, read()[1], "alerts") > 10, "it was compared"


def test_what_is_off_has_its_switch() -> None:
    known = {option.name: option for option in OPTIONS}
    for name, switch in ON_REQUEST.items():
        option = known[switch.removeprefix("--collector.")]
        assert not option.default
        assert name in {metric.name for metric in disk.METRICS}
