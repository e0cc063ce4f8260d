"""Each key of /proc/meminfo is a metric, as in node_exporter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.fixture_host import copy_host
from tests.agent.test_bad_input import failures


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("New(thing):  17 kB\n", "node_memory_New_thing_bytes", 17 * 1024),
        ("New_pages:  17\n", "node_memory_New_pages", 17),
    ],
)
def test_keys_of_new_kernels(line: str, name: str, value: int, tmp_path: Path) -> None:
    host = copy_host("v2", tmp_path)
    path = host.root / "proc/meminfo"
    path.write_text(path.read_text() + line)
    found = host.collect()
    assert found[name, frozenset()] == value
    assert not failures(found, "meminfo")
