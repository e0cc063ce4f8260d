from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.machine_topology import MachineTopology, parse_cache_kib
from tests.sources.node.rows import collected, rows

SAME = {"machine_id": "m1", "system_uuid": "m1", "boot_id": ""}


@pytest.mark.parametrize(
    ("word", "kib"),
    [(b"32K", 32), (b"8M", 8192), (b"1G", 1 << 20), (b"", None), (b"K", None), (b"32", None), (b"-1K", None)],
)
def test_sizes_of_caches(word: bytes, kib: int | None) -> None:
    assert parse_cache_kib(word) == kib


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n")


@pytest.fixture
def machine(tmp_path: Path) -> tuple[MachineTopology, Path]:
    """Two nodes of one core with two threads. Each core has a first and a second cache, all share the third."""
    system = tmp_path / "devices/system"
    write(tmp_path / "etc/machine-id", "m1")
    write(system / "cpu/online", "0-3")
    for cpu in range(4):
        core, pair = cpu // 2, f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}"
        write(system / f"cpu/cpu{cpu}/topology/core_id", f"{core}")
        for index, (level, kind, size, shared) in enumerate(
            ((1, "Data", "32K", pair), (2, "Unified", "1M", pair), (3, "Unified", "8M", "0-3"))
        ):
            for name, value in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
                write(system / f"cpu/cpu{cpu}/cache/index{index}/{name}", str(value))
    for node, distance in ((0, "10 21"), (1, "21 10")):
        write(system / f"node/node{node}/cpulist", f"{node * 2}-{node * 2 + 1}")
        write(system / f"node/node{node}/meminfo", f"Node {node} MemTotal: {node + 7} kB\nNode {node} MemFree: 1 kB")
        write(system / f"node/node{node}/distance", distance)
        write(system / f"node/node{node}/hugepages/hugepages-2048kB/nr_hugepages", f"{node + 3}")
    for dimm, size in ((0, 4096), (1, 8192), (2, 0)):
        write(system / f"edac/mc/mc0/dimm{dimm}/size", f"{size}")
        write(system / f"edac/mc/mc0/dimm{dimm}/dimm_mem_type", "Unbuffered-DDR4")
    return MachineTopology(tmp_path, tmp_path, tmp_path), tmp_path


def test_what_a_machine_has(machine: tuple[MachineTopology, Path]) -> None:
    tables = collected(machine[0])
    assert rows(tables["node_siblings"]) == [
        ({"node_id": node, "core_id": node, "thread_id": thread, **SAME}, {"threads": 2})
        for node, thread in (("0", "0"), ("0", "1"), ("1", "2"), ("1", "3"))
    ]
    caches = {
        (row["node_id"], row["core_id"], row["level"]): cells["kib"] for row, cells in rows(tables["node_caches"])
    }
    assert caches == {
        ("0", "0", "1"): 32, ("0", "0", "2"): 1024, ("0", "", "3"): 8192,
        ("1", "1", "1"): 32, ("1", "1", "2"): 1024, ("1", "", "3"): 8192,
    }  # fmt: skip
    assert [cells["kib"] for _, cells in rows(tables["node_memory"])] == [7, 8]
    distances = rows(tables["node_distance"])
    assert [(row["node_id"], row["target_node_id"], cells["distance"]) for row, cells in distances] == [
        ("0", "0", 10), ("0", "1", 21), ("1", "0", 21), ("1", "1", 10),
    ]  # fmt: skip
    pages = [(row["page_size"], cells["pages"]) for row, cells in rows(tables["node_hugepages"])]
    assert pages == [("2048", 3), ("2048", 4)]
    assert rows(tables["node_dimms"]) == [({"type": "Unbuffered-DDR4", **SAME}, {"count": 2, "mib": 12288})]


def test_caches_are_read_again_when_other_cpus_are_online(machine: tuple[MachineTopology, Path]) -> None:
    source, root = machine
    collected(source)
    for cpu in (0, 1):
        write(root / f"devices/system/cpu/cpu{cpu}/cache/index0/size", "64K")
    assert 64 not in [cells["kib"] for _, cells in rows(collected(source)["node_caches"])]
    write(root / "devices/system/cpu/online", "0-2")
    tables = collected(source)
    assert 64 in [cells["kib"] for _, cells in rows(tables["node_caches"])]
    assert [cells["threads"] for _, cells in rows(tables["node_siblings"])] == [2, 2, 1]


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        collected(MachineTopology(tmp_path, tmp_path, tmp_path))
