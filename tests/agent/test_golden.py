"""What the agent says of the fixture hosts, to the byte but for the order of containers, which is the file system's.

The goldens of OpenMetrics have only the lines that differ from the text format, those of collectors that are off have
only the families that they add.
`pytest tests/agent/test_golden.py --update-golden` writes tests/golden anew.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pymon.agent.collectors import COLLECTORS
from tests.agent.fixture_host import HOSTS, REPOSITORY, VOLATILE, copy_host
from tests.agent.formats import changed_lines
from tests.e2e.prometheus import check_metrics
from tests.oracle import parse

GOLDEN = REPOSITORY / "tests" / "golden"

FORMATS = {"prom": (), "om": ("--openmetrics",)}

LONG = ("container_tcp", "container_udp", "container_advtcp")
"""Collectors with so many series that their golden would be as long as all others; tests/live has them."""

NOT_OF_FILES = ("container_latency", "container_peaks", "container_resctrl")
"""Collectors of what programs of the kernel count and of what was read before."""

LINT_ALLOWED = {
    r"node_(memory|netstat|sockstat)_\w+ metric names should be written in 'snake_case' not 'camelCase'": (
        "node_exporter's names"
    ),
    r"node_entropy_\w+ use base unit \"bytes\" instead of \"bits\"": "node_exporter's names",
    r'machine_(dimm|node_hugepages|thread_siblings)_count .* should not have "_count" suffix': "cAdvisor's names",
    r"container_(hugetlb|memory)_failcnt counter metrics should have \"_total\" suffix": "cAdvisor's names",
}


def families(exposition: str) -> list[tuple[str, list[str]]]:
    """Families in order: the name in their metadata, and their lines."""
    found: list[tuple[str, list[str]]] = []
    for line in exposition.splitlines():
        comment = re.match(r"# (?:HELP|TYPE) (\S+) ", line)
        if comment and (not found or found[-1][0] != comment[1]):
            found.append((comment[1], []))
        if not found or line == "# EOF":
            found.append(("", []))
        found[-1][1].append(line)
    return found


def canonical(exposition: bytes) -> str:
    """Without the families that a fixture does not decide, the samples of each family sorted."""
    lines: list[str] = []
    for name, block in families(exposition.decode()):
        samples = [line for line in block if not line.startswith("#")]
        if VOLATILE.match(name) or any(VOLATILE.match(line) for line in samples):
            continue
        lines += [line for line in block if line.startswith("#")]
        lines += sorted(samples)
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def outputs(host: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The whole output in each format."""
    copy = copy_host(host, tmp_path_factory.mktemp("golden"))
    found = {}
    for suffix, flags in FORMATS.items():
        done = copy.run(*flags)
        assert (done.returncode, done.stderr) == (0, b"")
        found[suffix] = done.stdout
    return found


@pytest.mark.parametrize("suffix", FORMATS)
def test_golden(host: str, suffix: str, outputs: dict[str, bytes], request: pytest.FixtureRequest) -> None:
    got = canonical(outputs[suffix])
    if suffix == "om":
        got = changed_lines(canonical(outputs["prom"]), got)
    _compare(GOLDEN / f"{host}.{suffix}", got, request)


def _compare(path: Path, got: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(got)
    expected = path.read_text()
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), got.splitlines(), str(path), "now", n=0, lineterm="")
    )
    assert got == expected, difference[:5000]


def test_golden_of_collectors_that_are_off(
    host: str, outputs: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    off = [option.name for option in COLLECTORS if option.name.startswith("container") and not option.default]
    off = [name for name in off if name not in (*LONG, *NOT_OF_FILES)]
    done = copy_host(host, request.getfixturevalue("tmp_path")).run(*(f"--collector.{name}" for name in off))
    assert (done.returncode, done.stderr) == (0, b"")
    there = {name for name, _ in families(outputs["prom"].decode())}
    text = "".join(f"{line}\n" for name, block in families(done.stdout.decode()) if name not in there for line in block)
    _compare(GOLDEN / f"{host}.off.prom", canonical(text.encode()), request)


def test_families_are_contiguous_and_no_series_is_given_twice(outputs: dict[str, bytes]) -> None:
    for suffix, output in outputs.items():
        names = [name for name, _ in families(output.decode()) if name]
        assert len(names) == len(set(names))
        parse(output)  # asserts that no series is given twice
        for name, block in families(output.decode()):
            for line in block:
                if not line.startswith("#"):
                    assert line.startswith(name), (suffix, name, line)


def test_parsers_of_prometheus_take_it(outputs: dict[str, bytes]) -> None:
    openmetrics = list(parse_openmetrics(outputs["om"].decode()))
    text = list(parse_text(outputs["prom"].decode()))
    assert len(openmetrics) > 100
    assert len(text) >= len(openmetrics)


def test_series_are_called_the_same_in_both_formats(outputs: dict[str, bytes]) -> None:
    text, openmetrics = (set(parse(outputs[suffix])) for suffix in FORMATS)
    assert text == openmetrics


def test_the_values_are_the_same_in_both_formats(outputs: dict[str, bytes]) -> None:
    text, openmetrics = (parse(canonical(outputs[suffix]).encode()) for suffix in FORMATS)
    assert text == openmetrics


def test_names_follow_the_conventions(outputs: dict[str, bytes]) -> None:
    lines = check_metrics(outputs["prom"]).output.splitlines()
    strange = [line for line in lines if not any(re.fullmatch(pattern, line) for pattern in LINT_ALLOWED)]
    assert not strange


def test_every_container_of_the_fixture_is_there(host: str) -> None:
    """Of the runtimes that the README of the fixtures lists; sessions of users are no containers."""
    series = parse((GOLDEN / f"{host}.prom").read_bytes())
    paths = {dict(labels).get("id") for name, labels in series if name.startswith("container_")} - {None}
    assert len(paths) == {"v2": 9, "v1": 6, "hybrid": 7}[host]  # with the root and pods
