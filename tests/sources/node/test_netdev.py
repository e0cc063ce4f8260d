import time
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.netdev import Netdev
from tests.sources.node.rows import by_label, collected

HEADER = b"Inter-|   Receive      |  Transmit\n face |bytes    packets |bytes    packets\n"


def netdev(tmp_path, data):
    (tmp_path / "net").mkdir(exist_ok=True)
    (tmp_path / "net/dev").write_bytes(data)
    return Netdev(tmp_path)


def test_a_line_for_each_device(tmp_path):
    numbers = range(1, 17)
    line = b"  %s: " + b" ".join(b"%d" % number for number in numbers) + b"\n"
    source = netdev(tmp_path, HEADER + line % b"eth0" + line % b"eth0.5" + b"veth1: 18446744073709551615 2\n")
    devices = by_label(collected(source)["node_netdev"], "device")
    assert list(devices["eth0"].values()) == list(numbers)
    assert devices["eth0"]["receive_multicast"] == 8
    assert devices["eth0"]["transmit_bytes"] == 9
    assert devices["eth0.5"] == devices["eth0"]
    assert devices["veth1"] == {"receive_bytes": 2**64 - 1, "receive_packets": 2}


def test_a_cut_line_adds_no_wrong_number(tmp_path):
    source = netdev(tmp_path, HEADER + b"lo: 1 2 3\neth0: 27110")
    devices = by_label(collected(source)["node_netdev"], "device")
    assert devices["lo"] == {"receive_bytes": 1, "receive_packets": 2, "receive_errs": 3}
    assert not devices.get("eth0")


@pytest.mark.parametrize("data", [b"", HEADER, b"lo: 1\n"])
def test_nothing_of_use(tmp_path, data):
    with pytest.raises(SourceError, match="net/dev: expected two lines of header") as caught:
        collected(netdev(tmp_path, data))
    assert caught.value.reason == "parse"


def test_a_thousand_devices_take_no_python_loop(tmp_path):
    line = "veth%04d: " + " ".join(["123456789"] * 16) + "\n"
    source = netdev(tmp_path, HEADER + "".join(line % number for number in range(1000)).encode())
    source.collect()
    started = time.process_time()
    source.collect()
    assert time.process_time() - started < 0.02
    assert len(source.tables[0]) == 1000
    source.close()


def test_live():
    def direct():
        lines = Path("/proc/net/dev").read_text().splitlines()[2:]
        return {
            name.strip(): list(map(int, words.split())) for name, _, words in (line.partition(":") for line in lines)
        }

    before = direct()
    devices = by_label(collected(Netdev(Path("/proc")))["node_netdev"], "device")
    after = direct()
    common = before.keys() & after.keys()
    assert common
    for device in common:
        cells = devices[device].values()
        assert all(a <= b <= c for a, b, c in zip(before[device], cells, after[device], strict=True)), device


def test_old_kernels_write_no_blank_after_the_colon(tmp_path):
    line = b"  eth0:68210035552 520993275    1    2    3     4          5         6 9315587528 43451486    0    0    0"
    source = netdev(tmp_path, HEADER + line + b"     0       0          0\nrenamed:1:7 8\n")
    devices = by_label(collected(source)["node_netdev"], "device")
    assert list(devices["eth0"].values()) == [68210035552, 520993275, 1, 2, 3, 4, 5, 6, 9315587528, 43451486, *[0] * 6]
    assert devices["renamed:1"] == {"receive_bytes": 7, "receive_packets": 8}


def test_a_device_that_is_there_twice_counts_once(tmp_path):
    lines = b"".join(b"veth%d: %d\nveth0: 9\n" % (number, number) for number in range(1000))
    source = netdev(tmp_path, HEADER + lines)
    table = collected(source)["node_netdev"]
    assert len(table) == 1000
    assert by_label(table, "device") == {f"veth{number}": {"receive_bytes": number} for number in range(1000)}
