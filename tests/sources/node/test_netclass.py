"""rtnetlink and sysfs say the same of devices of every kind."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pymon.sources.node.links import Link, LinkDump, parse_link
from pymon.sources.node.netclass import METRICS, Netclass
from tests.oracle import render

# Not every kernel has vlan and bridge.
WORLD = """
mount -t sysfs sysfs /sys
ip link set lo up
ip link add up0 type veth peer name up1
ip link add down0 type veth peer name down1
ip link set up0 mtu 1400 txqueuelen 77 group 5 alias 'a "b"' promisc on allmulticast on
ip link set up0 up; ip link set up1 up
ip link add link up0 name vlan0 type vlan id 7 || true
ip link add br0 type bridge && ip link set up1 master br0 && ip link set br0 up || true
exec "$@"
"""


def series(source):
    source.collect()
    assert source.problems == []
    return render(METRICS, source.tables)


def settled(source, other):
    """Both at a moment when neither changes: links that have just been made still do."""
    for _ in range(200):
        before, seen, after = series(other), series(source), series(other)
        if before == after:
            return seen, after
    pytest.fail("the links never rested")


def compare():
    """In a namespace of its own: see test_devices_of_a_new_namespace."""
    fast, plain = Netclass(Path("/sys"), LinkDump()), Netclass(Path("/sys"))
    for change in ("true", "ip link set up0 down", "ip link set up0 mtu 1300 promisc off", "ip link set up0 up"):
        subprocess.run(change.split(), check=True)
        seen, expected = settled(fast, plain)
        assert seen == expected
        devices = {dict(labels)["device"] for _, labels in expected}
        assert fast._slow.keys() == devices >= {"lo", "up0", "up1", "down0"}


@pytest.mark.skipif(not (shutil.which("unshare") and shutil.which("ip")), reason="unshare or ip is not installed")
def test_devices_of_a_new_namespace():
    program = "from tests.sources.node.test_netclass import compare; compare()"
    made = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-ec", WORLD, "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    if "unshare failed" in made.stderr:
        pytest.skip(f"no new namespace: {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr


def link(name, ifindex, address):
    return Link(name, ifindex, 1, 1, "up", address, "", b"", 1, 0, 1, 1, 0, ifindex, 0, 1500, 0, 1000, 0)


@pytest.mark.parametrize(
    ("ifindex", "address", "mtu"),
    [(9, "02:00:5e:00:00:aa", 1500), (8, "02:00:5e:00:00:aa", 9000), (9, "02:00:5e:00:00:ab", 9000)],
    ids=["the same", "another number", "another address"],
)
def test_devices_of_another_namespace_are_not_taken(ifindex, address, mtu):
    """sysfs of the fixture has eth9 with an MTU of 9000."""
    host = Path(__file__).parents[2] / "fixtures" / "hardware"
    source = Netclass(host / "sys", lambda: [link(b"eth9", ifindex, address)])
    assert {value for (name, _), value in series(source).items() if name == "node_network_mtu_bytes"} == {mtu}


def test_a_kernel_that_refuses(tmp_path):
    def refused():
        raise OSError("no netlink here")

    host = Path(__file__).parents[2] / "fixtures" / "hardware"
    assert series(Netclass(host / "sys", refused)) == series(Netclass(host / "sys"))


@pytest.mark.parametrize("size", range(0, 80, 3))
def test_a_message_that_was_cut_off(size):
    message = bytes(16) + b"\x08\x00\x04\x00\x78\x05\x00\x00" * 8
    parse_link(message[: 16 + size])
    parse_link(message[:16] + b"\xff" * size)
