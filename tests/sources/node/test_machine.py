from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.machine import Machine, parse_cpu_list
from tests.sources.node.rows import collected, rows


@pytest.mark.parametrize(
    ("data", "cpus"),
    [
        (b"0-3\n", [0, 1, 2, 3]),
        (b"0\n", [0]),
        (b"0-1,4,6-7\n", [0, 1, 4, 6, 7]),
        (b"", []),
        (b"\n", []),
        (b"0-15", []),
        (b"0-\n", []),
        (b"0-x\n", []),
        (b"1,,2\n", []),
    ],
)
def test_cpu_list(data, cpus):
    assert parse_cpu_list(data) == cpus


@pytest.fixture
def node(tmp_path):
    """A machine of 2 sockets, 2 cores each, 2 threads a core; the source over it and its root."""
    cpus = tmp_path / "devices/system/cpu"
    for cpu in range(8):
        (cpus / f"cpu{cpu}/topology").mkdir(parents=True)
        (cpus / f"cpu{cpu}/topology/physical_package_id").write_text(f"{cpu % 2}\n")
        (cpus / f"cpu{cpu}/topology/core_id").write_text(f"{cpu // 2 % 2}\n")
    (cpus / "online").write_text("0-7\n")
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 5 kB\nSwapTotal: 7 kB\n")
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("b-b\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("m1\n")
    return Machine(tmp_path, tmp_path, tmp_path), tmp_path


def test_counts_and_identity(node):
    source, root = node
    (root / "class/dmi/id").mkdir(parents=True)
    (root / "class/dmi/id/product_uuid").write_text("u-u\n")
    assert rows(collected(source)["node_machine"]) == [
        (
            {"machine_id": "m1", "system_uuid": "u-u", "boot_id": "b-b"},
            {"cores": 8, "physical_cores": 4, "sockets": 2, "MemTotal": 100, "SwapTotal": 7},
        )
    ]


def test_other_places_of_the_identity(node):
    source, root = node
    (root / "device-tree").mkdir()
    (root / "device-tree/vm,uuid").write_bytes(b"d-d\0")
    (root / "etc/machine-id").write_text("\n")
    (root / "var/lib/dbus").mkdir(parents=True)
    (root / "var/lib/dbus/machine-id").write_text("m2\n")
    ((labels, _),) = rows(collected(source)["node_machine"])
    assert labels == {"machine_id": "m2", "system_uuid": "d-d", "boot_id": "b-b"}


def test_cpus_go_and_come(node):
    source, root = node
    source.collect()
    (root / "devices/system/cpu/online").write_text("0,2\n")
    ((_, cells),) = rows(collected(source)["node_machine"])
    assert (cells["cores"], cells["physical_cores"], cells["sockets"]) == (2, 2, 1)


def test_no_topology_and_no_memory(node):
    source, root = node
    (root / "devices/system/cpu/cpu5/topology/core_id").unlink()
    (root / "meminfo").unlink()
    ((_, cells),) = rows(collected(source)["node_machine"])
    assert cells == {"cores": 8}
    assert [problem.reason for problem in source.problems] == ["enoent", "enoent"]


def test_nothing_of_use(tmp_path):
    with pytest.raises(SourceError, match="meminfo: No such file") as caught:
        collected(Machine(tmp_path, tmp_path, tmp_path))
    assert caught.value.reason == "enoent"


def test_live():
    ((labels, cells),) = rows(collected(Machine(Path("/proc"), Path("/sys"), Path("/")))["node_machine"])
    assert labels["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    cpus = [line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
    assert cells["cores"] == len(cpus) - 1
    assert 1 <= cells["sockets"] <= cells["physical_cores"] <= cells["cores"]
    assert f"MemTotal: {cells['MemTotal']} kB" in " ".join(Path("/proc/meminfo").read_text().split())
