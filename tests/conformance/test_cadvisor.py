"""Every family of cAdvisor is exported, or docs/cadvisor.md says why it is not."""

from __future__ import annotations

import re
from pathlib import Path

from pymon.agent.collectors import COLLECTORS
from pymon.catalogue import cadvisor, disk, load, resctrl
from pymon.sources.node import NODE_METRICS

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "cadvisor.md").read_text()
OWN = {"container_scrape_error"}
"""What the agent says of itself, which is in no catalogue."""


def names_there() -> set[str]:
    return {line for line in (HERE / "cadvisor.txt").read_text().splitlines() if line and not line.startswith("#")}


def exported() -> set[str]:
    return {
        metric.name for metric in (*cadvisor.METRICS, *load.METRICS, *disk.METRICS, *resctrl.METRICS, *NODE_METRICS)
    } | OWN


def explained() -> dict[str, str]:
    """Names that the page says are not there, and why."""
    table = PAGE.split("## Not there\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*`) \| (.+) \|$", table, re.MULTILINE)
    return {name: why for names, why in rows for name in re.findall(r"`(\w+)`", names)}


def test_every_family_is_exported_or_explained() -> None:
    assert len(names_there()) > 120
    assert sorted(names_there() - exported() - explained().keys()) == []


def test_nothing_is_explained_that_is_there() -> None:
    assert sorted(explained().keys() & exported()) == []
    assert sorted(explained().keys() - names_there()) == []


def test_collectors_that_the_page_names_exist() -> None:
    known = {option.name for option in COLLECTORS} | exported()
    named = set(re.findall(r"`(container_[a-z_]+)`", PAGE)) - explained().keys()
    assert sorted(named - known) == []
