"""docs/metrics.md is what the catalogue says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.oracle import parse


def test_the_page_is_up_to_date() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
    written = runpy.run_path(str(page.with_suffix(".py")))["metrics_page"]()
    assert page.read_text() == written, "run `make docs`"


GOLDEN = Path(__file__).parent.parent / "golden"
OF_CONTAINERS = {"id", "name", "image"}


def documented() -> dict[str, set[str]]:
    """Labels of each metric in the tables of the page; of one that two dialects have, those of both."""
    found: dict[str, set[str]] = {}
    page = (GOLDEN.parent.parent / "docs" / "metrics.md").read_text()
    for name, labels in re.findall(r"^\| `(\w+)` \| \w+ \| \w+ \| ([^|]*) \|", page, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"`(\w+)`", labels))
    return found


@pytest.mark.parametrize("golden", sorted(path.name for path in GOLDEN.glob("*.prom")))
def test_the_page_has_the_labels_of_series(golden: str) -> None:
    told = documented()
    lacking: dict[str, set[str]] = {}
    for name, labels in parse((GOLDEN / golden).read_bytes()):
        if name in told:
            more = {label for label, _ in labels} - OF_CONTAINERS - told[name]
            if more:
                lacking.setdefault(name, set()).update(more)
    assert not lacking
