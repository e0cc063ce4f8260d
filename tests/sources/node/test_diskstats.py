from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.diskstats import DISKSTATS_FIELDS, Diskstats, parse_diskstats, parse_udev
from tests.sources.node.rows import by_label, collected, rows

VDA = b" 254       0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n"


@pytest.fixture
def node(tmp_path):
    """Makes a source over these files."""

    def make(diskstats, **files):
        for name, content in {"diskstats": diskstats, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Diskstats(tmp_path, tmp_path, tmp_path / "udev")

    return make


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        (VDA, list(range(1, 18))),
        (b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n", list(range(1, 12))),
        (b" 8 0 sda 1 x -3 99999999999999999999\n", [1, None, None, None]),
        (b" 8 0 sda " + b"1 " * 20 + b"\n", [1] * 20),
    ],
)
def test_numbers_of_a_device(line, numbers):
    (disk,) = parse_diskstats(line)
    assert disk.numbers == numbers


@pytest.mark.parametrize("data", [b"", b"\n", VDA[:-1], b" 8 0 sda\n", b"8 x sda 1\n", b"major minor name 1\n"])
def test_no_device(data):
    assert not list(parse_diskstats(data))


def test_excluded_devices_and_one_with_a_slash(node):
    names = (b"ram0", b"zram1", b"loop7", b"sda1", b"nvme0n1p2", b"fd0", b"sda", b"nvme0n1", b"dm-0", b"cciss/c0d0")
    source = node(
        b"".join(b" 8 %d %s 1 2\n" % pair for pair in enumerate(names)),
        **{
            "block/cciss!c0d0/queue/rotational": b"1\n",
            "block/dm-0/queue/rotational": b"0\n",
        },
    )
    tables = collected(source)
    assert list(by_label(tables["node_disk"], "device")) == ["sda", "nvme0n1", "dm-0", "cciss/c0d0"]
    rotational = {labels["device"]: labels["rotational"] for labels, _ in rows(tables["node_disk_info"])}
    assert rotational == {"sda": "", "nvme0n1": "", "dm-0": "0", "cciss/c0d0": "1"}


def test_more_numbers_than_are_known(node):
    tables = collected(node(b" 8 0 sda " + b"7 " * 20 + b"\n"))
    assert rows(tables["node_disk"]) == [({"device": "sda"}, dict.fromkeys(DISKSTATS_FIELDS, 7))]


def test_udev_properties():
    data = b"S:disk/by-id/x\nE:ID_MODEL=QEMU=1\nE:broken\nI:3\nE:ID_SERIAL=\nE:cut=o"
    assert parse_udev(data) == {"ID_MODEL": "QEMU=1", "ID_SERIAL": ""}


def test_what_udev_knows(node):
    source = node(
        b" 253 2 dm-2 1 2\n 8 0 sda 3 4\n",
        **{
            "udev/b253:2": b"E:DM_NAME=vg-lv\nE:DM_UUID=LVM-x\nE:DM_VG_NAME=vg\nE:DM_LV_NAME=lv\n"
            b"E:ID_FS_TYPE=ext4\nE:ID_FS_USAGE=filesystem\nE:ID_FS_UUID=u-u\nE:ID_FS_VERSION=1.0\n",
            "udev/b8:0": b"E:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_ATA_WRITE_CACHE_ENABLED=0\n"
            b"E:ID_ATA_ROTATION_RATE_RPM=x\nE:ID_PATH=pci-1\nE:ID_WWN=0x5\nE:ID_MODEL=M\nE:ID_REVISION=R\n"
            b"E:ID_SERIAL=M_S\nE:ID_SERIAL_SHORT=S\n",
            "block/dm-2/slaves/sdb": b"",
            "block/dm-2/slaves/sda": b"",
        },
    )
    tables = collected(source)
    disks = by_label(tables["node_disk"], "device")
    assert disks["sda"] == {"reads": 3, "reads_merged": 4, "ID_ATA_WRITE_CACHE": 1, "ID_ATA_WRITE_CACHE_ENABLED": 0}
    assert rows(tables["node_disk_filesystem"]) == [
        ({"device": "dm-2", "type": "ext4", "usage": "filesystem", "uuid": "u-u", "version": "1.0"}, {"info": 1})
    ]
    assert rows(tables["node_disk_mapper"]) == [
        (
            {"device": "dm-2", "name": "vg-lv", "uuid": "LVM-x", "vg_name": "vg", "lv_name": "lv", "lv_layer": ""},
            {"info": 1},
        )
    ]
    assert [labels["backing_device"] for labels, _ in rows(tables["node_disk_backing"])] == ["sda", "sdb"]
    sda = next(labels for labels, _ in rows(tables["node_disk_info"]) if labels["device"] == "sda")
    assert sda == {
        "device": "sda",
        "major": "8",
        "minor": "0",
        "path": "pci-1",
        "wwn": "0x5",
        "model": "M",
        "serial": "S",
        "revision": "R",
        "rotational": "",
    }


@pytest.mark.parametrize(("data", "reason"), [(b"", "parse"), (b"garbage\n", "parse"), (b" 7 0 loop0 1\n", "nodata")])
def test_nothing_of_use(node, data, reason):
    with pytest.raises(SourceError) as caught:
        collected(node(data))
    assert caught.value.reason == reason


def test_live():
    def direct():
        lines = map(str.split, Path("/proc/diskstats").read_text().splitlines())
        return {words[2]: list(map(int, words[3:])) for words in lines}

    before = direct()
    source = Diskstats(Path("/proc"), Path("/sys"), Path("/run/udev/data"))
    disks = by_label(collected(source)["node_disk"], "device")
    after = direct()
    assert disks
    for device, cells in disks.items():
        known = [cells[field] for field in DISKSTATS_FIELDS if field in cells]
        for index, (low, value, high) in enumerate(zip(before[device], known, after[device], strict=False)):
            assert low <= value <= high or DISKSTATS_FIELDS[index] == "in_flight", (device, index)
