"""The memory limit of a process, over directories that look like control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymon.sources.cgroup import Hierarchies
from pymon.sources.memory_limit import memory_limit

MIB = 1 << 20


def made(root: Path, name: str, limits: dict[str, str]) -> Path:
    """Cgroups by path, each with a limit in the file `name`."""
    root.mkdir()
    for path, limit in limits.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / name).write_text(limit + "\n")
    return root


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"a/b": f"{80 * MIB}", "a": "max"}, 80 * MIB),
        ({"a/b": "max", "a": f"{64 * MIB}"}, 64 * MIB),
        ({"a/b": f"{80 * MIB}", "a": f"{64 * MIB}", "": f"{512 * MIB}"}, 64 * MIB),
        ({"": f"{512 * MIB}"}, 512 * MIB),
        ({"a/b": "max"}, None),
        ({"a/b": ""}, None),
        ({"a/b": "0"}, None),
        ({}, None),
    ],
)
def test_the_lowest_on_the_way_up(tmp_path: Path, limits: dict[str, str], expected: int | None) -> None:
    v2 = made(tmp_path / "v2", "memory.max", limits)
    assert memory_limit("0::/a/b\n", Hierarchies({}, v2, frozenset())) == expected


def test_version_1(tmp_path: Path) -> None:
    unlimited = "9223372036854771712"
    root = made(tmp_path / "v1", "memory.limit_in_bytes", {"": unlimited, "a": str(80 * MIB), "a/b": unlimited})
    groups = "9:name=systemd:/x\n4:cpu,memory:/a/b\n1:pids:/a\n0::/\n"
    assert memory_limit(groups, Hierarchies({"memory": root}, None, frozenset())) == 80 * MIB
    assert memory_limit(groups, Hierarchies({"pids": root}, None, frozenset())) is None


def test_a_path_above_the_root_of_the_namespace_is_that_root(tmp_path: Path) -> None:
    v2 = made(tmp_path / "v2", "memory.max", {"": str(80 * MIB)})
    made(tmp_path / "a", "memory.max", {"": "1"})
    assert memory_limit("0::/../a\n", Hierarchies({}, v2, frozenset())) == 80 * MIB


@pytest.mark.parametrize("groups", ["", "nonsense\n", "0::\n", ":::\n", "4:memory:\n"])
def test_text_that_is_no_list_of_groups(tmp_path: Path, groups: str) -> None:
    v2 = made(tmp_path / "v2", "memory.max", {})
    assert memory_limit(groups, Hierarchies({"memory": v2}, v2, frozenset())) is None
