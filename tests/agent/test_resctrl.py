"""Groups of resctrl: which are containers', and what their files say (Documentation/filesystems/resctrl.rst)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymon.agent.resctrl import ResctrlSampler
from pymon.sources.errors import SourceError
from pymon.sources.resctrl import GROUPS_MAX, find_groups, group_of, read_group

ID = "4c01db0b339c7d1cf1b7c5c9a4e6d1f0e8b2a3957d64c8f1b0a9e7d6c5b4a392"
FIELDS = ("llc_occupancy", "mbm_total_bytes", "mbm_local_bytes")


def counters(group: Path, cache: str, *words: str) -> None:
    directory = group / "mon_data" / f"mon_L3_{cache}"
    directory.mkdir(parents=True)
    for field, word in zip(FIELDS, words, strict=True):
        (directory / field).write_text(f"{word}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One of runc's in the root, one in another group, and the root's own counters."""
    root = tmp_path / "resctrl"
    counters(root, "00", "99", "99", "99")
    (root / "info/L3_MON").mkdir(parents=True)
    counters(root / ID, "00", "1048576", str(2**64 - 1), "3")
    counters(root / ID, "01", "Unavailable", "Error", "0")
    counters(root / "gold/mon_groups/web.service", "00", "7", "8", "-9")
    (root / "gold/mon_data").mkdir()
    return root


def test_groups_are_found_at_each_level(root: Path) -> None:
    groups = find_groups(root)
    assert groups == {
        ID: f"{root}/{ID}",
        "gold": f"{root}/gold",
        "web.service": f"{root}/gold/mon_groups/web.service",
    }
    assert group_of(groups, f"/system.slice/docker-{ID}.scope") == f"{root}/{ID}"
    assert group_of(groups, f"/docker/{ID}") == f"{root}/{ID}"
    assert group_of(groups, "/system.slice/web.service") == groups["web.service"]
    assert group_of(groups, "/system.slice/db.service") is None
    assert group_of(groups, "/") is None


def test_what_the_hardware_cannot_tell_is_absent(root: Path) -> None:
    assert read_group(f"{root}/{ID}", FIELDS) == {
        ("llc_occupancy", 0): 1048576,
        ("mbm_total_bytes", 0): 2**64 - 1,
        ("mbm_local_bytes", 0): 3,
        ("mbm_local_bytes", 1): 0,
    }
    assert read_group(f"{root}/gold/mon_groups/web.service", FIELDS) == {
        ("llc_occupancy", 0): 7,
        ("mbm_total_bytes", 0): 8,
    }
    with pytest.raises(SourceError) as gone:
        read_group(f"{root}/gone", FIELDS)
    assert gone.value.reason == "enoent"


def test_without_resctrl_and_with_too_many_groups(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as missing:
        find_groups(tmp_path / "resctrl")
    assert missing.value.reason == "nodata"
    for number in range(GROUPS_MAX + 2):
        (tmp_path / f"{number}").mkdir()
    with pytest.raises(SourceError) as many:
        find_groups(tmp_path)
    assert many.value.reason == "toomany"


def test_the_table(root: Path) -> None:
    listed = [(0, "/db.service", 1.0), (2, f"/docker-{ID}.scope", 1.0)]
    sampler = ResctrlSampler(root, lambda: listed, lambda: 3)
    sampler._listed = listed
    sampler.take({})
    table = sampler.table
    assert table is not None
    assert sampler.failures == {}
    assert [table.get(row, "llc_occupancy:0") for row in range(3)] == [None, None, 1048576]
    assert table.get(2, "llc_occupancy:1") is None
    assert table.get(2, "mbm_local_bytes:1") == 0
    sampler.forget(2)
    after = sampler.table
    assert after is not None
    assert after.get(2, "llc_occupancy:0") is None
    sampler._root = root / "none"
    sampler.take({})
    assert sampler.failures == {"nodata": 1}
