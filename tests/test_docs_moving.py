"""The pages about moving from another monitor: what is said to be missing is, and the flags that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pymon.catalogue import cadvisor, disk, load, resctrl
from pymon.cli.agent import option_table
from pymon.sources.node import NODE_METRICS

DOCS = Path(__file__).parents[1] / "docs"
CADVISOR = (DOCS / "cadvisor.md").read_text()
NODE_EXPORTER = (DOCS / "node_exporter.md").read_text()


@pytest.fixture(scope="module")
def exported() -> set[str]:
    return {
        metric.name for metric in (*cadvisor.METRICS, *load.METRICS, *disk.METRICS, *resctrl.METRICS, *NODE_METRICS)
    }


def test_metrics_that_are_said_to_be_missing_are(exported: set[str]) -> None:
    table = CADVISOR.partition("\n## Not there\n")[2].partition("\nLabels of")[0]
    missing = "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    names = set(re.findall(r"`(container_[a-z0-9_]*[a-z0-9])`", missing))
    assert len(names) == 6
    assert not names & exported


def test_collectors_of_the_node_are_those_that_there_are() -> None:
    sentence = NODE_EXPORTER.partition("has these collectors:")[2].partition("It does not have")[0]
    named = set(re.findall(r"`([a-z_]+)`", sentence))
    of_nodes = {metric.collector for metric in NODE_METRICS}
    assert named - {"textfile"} == of_nodes - {"machine"}  # cAdvisor's


def test_flags_of_node_exporter_are_flags() -> None:
    table = NODE_EXPORTER.partition("## Flags and paths")[2].partition("## What differs")[0]
    named = set(re.findall(r"`--([a-z.-]+)`", table)) - {"collector.", "no-collector."}
    missing = {"collector.netstat.fields", "collector.cpu.info"}
    flags = {option.name for option in option_table()}
    assert len(named) == 20
    assert named - flags == missing
