"""The results in docs are as their JSON says, and each is in the navigation of the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.suite import charts, report
from bench.suite.result import load

FOLDER = Path(__file__).parents[2] / "docs/benchmarks"
RESULTS = sorted(FOLDER.glob("*.json"))


def test_there_is_a_result_and_nothing_without_one() -> None:
    expected = set()
    for path in RESULTS:
        cases = load(path).cases
        expected |= {path.name, f"{path.stem}.md", *(f"{path.stem}-{case.name}.svg" for case in cases if case.runs)}
    assert RESULTS
    assert {path.name for path in FOLDER.iterdir()} == expected


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_page_and_charts_are_those_of_the_json(path: Path) -> None:
    result = load(path)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == report.page(result, path.stem), (
        f"python -m bench report {path}"
    )
    for case in result.cases:
        if case.runs:
            assert (FOLDER / f"{path.stem}-{case.name}.svg").read_text(encoding="utf-8") == charts.draw(case)
