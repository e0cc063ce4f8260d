"""Patterns of devices and mounts that collectors leave out, from flag to series."""

from pathlib import Path

import pytest

from tests.agent.fixture_host import FixtureHost, copy_host

ALL_TYPES = "--collector.filesystem.fs-types-exclude=^$"
ALL_MOUNTS = "--collector.filesystem.mount-points-exclude=^$"
KEPT: dict[tuple[str, ...], tuple[str, str, set[str]]] = {
    ("--collector.arp.device-exclude=^bond",): ("arp", "device", {"eth2"}),
    ("--collector.netclass.ignored-devices=^veth|y0$",): ("netclass", "device", {"eth0", "lo"}),
    ("--collector.netdev.device-exclude=^(lo|veth)",): ("netdev", "device", {"eth0"}),
    ("--collector.diskstats.device-exclude=^sda$",): ("diskstats", "device", {"sda1", "vda"}),
    ("--collector.filesystem.fs-types-exclude=^ext", ALL_MOUNTS): ("filesystem", "mountpoint", {"/proc", "/run"}),
    ("--collector.filesystem.mount-points-exclude=^/r", ALL_TYPES): ("filesystem", "mountpoint", {"/", "/proc"}),
    (): ("diskstats", "device", {"sda", "vda"}),
    (ALL_TYPES,): ("filesystem", "mountpoint", {"/", "/run"}),
    (ALL_MOUNTS,): ("filesystem", "mountpoint", {"/", "/run"}),
}
"""What is left by flags, and by default."""

DEVICE = "{}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    """The fixture v2 with neighbours, devices and mounts that patterns tell apart."""
    copy = copy_host("v2", tmp_path)
    proc = copy.root / "proc"
    with (proc / "net/arp").open("a") as arp:
        arp.writelines(f"192.0.2.1 0x1 0x2 02:00:5e:00:00:01 * {device}\n" for device in ("bond0", "eth2"))
    (proc / "net/dev").write_text("\n\n" + "".join(map(DEVICE.format, ("lo", "eth0", "veth2"))))
    numbers = " ".join(map(str, range(1, 18)))
    (proc / "diskstats").write_text(f" 8 0 sda {numbers}\n 8 1 sda1 {numbers}\n 254 0 vda {numbers}\n")
    (proc / "1/mountinfo").write_text(
        "20 1 0:20 / / rw - ext4 /dev/sda rw\n"
        "21 1 0:21 / /proc rw - proc proc rw\n"
        "22 1 0:22 / /run rw - tmpfs tmpfs rw\n"
    )
    return copy


@pytest.mark.parametrize("flags", KEPT, ids=" ".join)
def test_what_is_left(flags: tuple[str, ...], host: FixtureHost) -> None:
    collector, label, kept = KEPT[flags]
    found = host.collect("--collector.disable-defaults", f"--collector.{collector}", *flags)
    labels = (dict(labels) for name, labels in found if not name.startswith("node_scrape_"))
    assert {of_series[label] for of_series in labels if label in of_series} == kept


def test_all_network_devices_by_default(host: FixtureHost) -> None:
    found = host.collect("--collector.disable-defaults", "--collector.netdev", "--collector.arp")
    assert {dict(labels).get("device") for _, labels in found} - {None} == {"lo", "eth0", "veth2", "bond0", "eth2"}
