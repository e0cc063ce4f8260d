from pathlib import Path

import pytest

from tests.exposition.prometheus_rules import broken_rules

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("*.prom"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_what_agents_write_breaks_none(path):
    assert broken_rules(path.read_bytes()) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("# TYPE a gauge\na 1", "no newline"),
        ("# TYPE a gauge\na 1\na 2\n", "series twice"),
        ('# TYPE a gauge\na{x="1",y="2"} 1\na{y="2",z="",x="1"} 2\n', "series twice"),
        ("# TYPE a gauge\na 1\n# TYPE a gauge\n", "TYPE twice"),
        ("# HELP a x\n# HELP a x\n", "HELP twice"),
        ("# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\na 2\n", "not with its family"),
        ("a 1\n", "not with its family"),
        ("# TYPE a histogram\na_count 1\n# TYPE a_count gauge\n", "two families"),
        ('# TYPE a gauge\na{x="1",x="2"} 1\n', "label twice"),
        ('# TYPE a gauge\na{x="1" y="2"} 1\n', "labels"),
        ('# TYPE a gauge\na{__x="1"} 1\n', "label name"),
        ('# TYPE a gauge\na{x="\\t"} 1\n', "labels"),
        ("# TYPE a gauge\na 1e999\n", "number"),
        ("# TYPE a gauge\na 1 2\n", "neither"),
        ("# TYPE a histogram\na_bucket 1\n", "no bound"),
        ('# TYPE a histogram\na_sum{le="1"} 1\n', "a bound"),
        ("# TYPE a info\n", "type"),
    ],
)
def test_what_breaks_one_is_seen(text, rule):
    assert [line for line in broken_rules(text.encode()) if line.startswith(rule)]
