"""docs/moving.md: what it says is not there is not, and the flags that it names are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pymon.catalogue import cadvisor
from pymon.cli.agent import option_table
from pymon.sources.node import NODE_METRICS

PAGE = (Path(__file__).parents[1] / "docs" / "moving.md").read_text()


@pytest.fixture(scope="module")
def exported() -> set[str]:
    return {metric.name for metric in (*cadvisor.METRICS, *NODE_METRICS)}


def test_metrics_that_are_said_to_be_missing_are(exported: set[str]) -> None:
    missing = PAGE.partition("These are not there:")[2].partition("cAdvisor's page")[0]
    names = set(re.findall(r"`(container_[a-z0-9_]*[a-z0-9])`", missing))
    assert len(names) == 12
    assert not names & exported


def test_collectors_of_the_node_are_those_that_there_are() -> None:
    sentence = PAGE.partition("for these collectors:")[2].partition("[metrics.md]")[0]
    named = set(re.findall(r"`([a-z_]+)`", sentence))
    of_nodes = {metric.collector for metric in NODE_METRICS}
    assert named - {"textfile"} == of_nodes - {"machine"}  # cAdvisor's


def test_flags_of_node_exporter_are_flags() -> None:
    table = PAGE.partition("## node_exporter")[2]
    flags = set(re.findall(r"`--([a-z.-]+)`", table)) - {"collector.", "no-collector."}
    assert len(flags) == 7
    assert flags <= {option.name for option in option_table()}
