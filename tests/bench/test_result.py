"""Results of the suite: their JSON, pages, charts and comparisons."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.suite import charts, compare, report
from bench.suite.result import Case, Result, load, machine

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).parents[2]

SCRAPE = Case(
    "scrape-100",
    "Scrape of 100 containers",
    "ms",
    "lower",
    {"floor": (10.0, 20.0, 10.0, 20.0), "pymon files": (5.0, 10.0, 5.5, 10.5), "<peer>": (40.0, 80.0, 40.0, 80.0)},
    absent={"netdata": "netdata is not installed"},
    failed={"other": "has 99 of 100 containers | or so"},
    agreed={"floor": "preads the same files"},
)
RESULT = Result(
    "2026-12-01T00:00:00Z",
    "python -m bench suite scrape --containers 100",
    {**machine(), "load_after": 2.5},
    {"pymon": "0.1.0"},
    (SCRAPE,),
)


def scaled(factor: float, runner: str) -> Result:
    runs = {**SCRAPE.runs, runner: tuple(value * factor for value in SCRAPE.runs[runner])}
    return replace(RESULT, cases=(replace(SCRAPE, runs=runs),))


def verdicts(a: Result, b: Result) -> dict[str, str]:
    return {line.runner: line.verdict for line in compare.compare(a, b)}


def test_a_result_survives_its_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(RESULT.dump())
    assert load(path) == RESULT
    assert {"cpu", "cpus", "memory_bytes", "kernel", "distribution", "load_before"} <= RESULT.machine.keys()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 2, "cases": []}', '{"format": 1, "cases": [{"runs": {"a": ["x"]}}]}', "\0"]
)
def test_what_is_no_result_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"a\.json") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_absent_failed_and_measured_are_three_things_in_the_page(tmp_path: Path) -> None:
    written = report.write(RESULT, tmp_path / "sub/r")
    assert [path.name for path in written] == ["r.json", "r.md", "r-scrape-100.svg"]
    assert load(written[0]) == RESULT
    lines = written[1].read_text().splitlines()
    assert "| floor | 15.0 | 10.0 to 20.0 | 1.00 | 4 | preads the same files |" in lines
    assert "| pymon files | 7.75 | 5.38 to 10.1 | 0.5125 | 4 |  |" in lines
    assert "| netdata | absent | | | | netdata is not installed |" in lines
    assert r"| other | failed | | | | has 99 of 100 containers \| or so |" in lines
    assert "python -m bench suite scrape --containers 100" in lines


def test_bars_are_as_long_as_the_medians() -> None:
    root = ET.fromstring(charts.draw(SCRAPE))  # noqa: S314
    bars = [float(bar.get("width")) for bar in root.findall(f"{SVG}rect")[1:]]
    assert len(bars) == 3
    assert bars[1] / bars[0] == pytest.approx(7.75 / 15, rel=0.01)
    assert bars[2] / bars[0] == pytest.approx(60 / 15, rel=0.01)
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert {"<peer>", "netdata", "absent", "failed"} <= set(texts)
    assert max(bars) < charts.WIDTH - charts.LABEL


def test_a_case_of_which_nothing_was_measured_has_a_table_and_no_chart(tmp_path: Path) -> None:
    empty = replace(RESULT, cases=(replace(SCRAPE, runs={}, agreed={}),))
    assert [path.suffix for path in report.write(empty, tmp_path / "r")] == [".json", ".md"]
    assert "svg" not in (tmp_path / "r.md").read_text()
    ET.fromstring(charts.draw(empty.cases[0]))  # noqa: S314


def test_what_is_within_the_spread_is_noise() -> None:
    assert set(verdicts(RESULT, RESULT).values()) == {"noise"}
    assert verdicts(RESULT, scaled(1.05, "pymon files"))["pymon files"] == "noise"


def test_what_is_beyond_the_spread_is_flagged() -> None:
    assert verdicts(RESULT, scaled(1.2, "pymon files"))["pymon files"] == "WORSE"
    assert verdicts(RESULT, scaled(0.8, "pymon files"))["pymon files"] == "better"


def test_more_is_better_where_the_case_says_so() -> None:
    more = replace(SCRAPE, better="higher")
    runs = more.runs["pymon files"]
    assert compare.judge(more, runs, tuple(3 * value for value in runs)) == "better"
    assert compare.judge(more, runs, tuple(value / 3 for value in runs)) == "WORSE"


def test_a_machine_that_is_slower_in_all_is_no_difference_of_the_program() -> None:
    slow = replace(SCRAPE, runs={who: tuple(9 * value for value in runs) for who, runs in SCRAPE.runs.items()})
    said = verdicts(RESULT, replace(RESULT, cases=(slow,)))
    assert said == {"floor": "WORSE", "pymon files": "noise", "<peer>": "noise"}


def test_few_rounds_are_not_judged() -> None:
    assert compare.judge(SCRAPE, (1.0, 1.0, 1.0), (9.0, 9.0, 9.0)) == "too few rounds"


def test_what_only_one_has_is_said() -> None:
    without = replace(
        SCRAPE, runs={"floor": SCRAPE.runs["floor"]}, absent={"<peer>": "gone"}, failed={"pymon files": "no"}
    )
    said = verdicts(RESULT, replace(RESULT, cases=(without,)))
    assert said == {"floor": "noise", "pymon files": "B: failed", "<peer>": "B: absent"}
    assert set(verdicts(RESULT, replace(RESULT, cases=())).values()) == {"B: no such case"}


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command_compares_two_files(tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(RESULT.dump())
    b.write_text(scaled(1.2, "pymon files").dump())
    said = run("compare", a, b)
    assert said.returncode == 0, said.stderr
    assert [line for line in said.stdout.splitlines() if "WORSE" in line] == [
        "| scrape-100 | pymon files | of the floor | 0.5125 | 0.6150 | 1.20 | WORSE |"
    ]
    b.write_text(json.dumps({"format": 9}))
    said = run("compare", a, b)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["nothing"], ["--containers", "0"], ["--peer", "a"], ["--peer", "a=true"]])
def test_bad_usage_ends_before_anything_runs(words: list[str]) -> None:
    said = run("suite", *words)
    assert (said.returncode, said.stdout) == (2, "")
    assert "error: " in said.stderr.splitlines()[-1]
