import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node import socket_table
from pymon.sources.node.tcpstat import Tcpstat
from pymon.sources.node.udp_queues import UdpQueues

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def socket(number, state="07", sent=0, received=0):
    return (
        f"{number:5d}: 00000000:0044 00000000:0000 {state} {sent:08X}:{received:08X} 00:00000000 00000000     0"
        f"        0 {number} 2 0000000000000000 0\n"
    )


def write(directory, **tables):
    (directory / "net").mkdir(exist_ok=True)
    for name, lines in tables.items():
        (directory / "net" / name).write_text(HEADER + "".join(lines))


def test_queues_are_summed_over_parts_of_a_long_table(tmp_path):
    write(tmp_path, udp=[socket(number, sent=number, received=2) for number in range(5000)], udp6=[socket(1)])
    source = UdpQueues(tmp_path)
    source.collect()
    table = source.tables[0]
    assert [table.labels(row) for row in range(len(table))] == [b'ip="v4",', b'ip="v6",']
    assert (table.get(0, "tx"), table.get(0, "rx")) == (sum(range(5000)), 10000)
    assert (table.get(1, "tx"), table.get(1, "rx")) == (0, 0)


def test_states(tmp_path):
    states = ["01", "01", "0A", "06", "03", "0C"]
    write(tmp_path, tcp=[socket(1, state, sent=5, received=6) for state in states], tcp6=[socket(1, "0A")])
    source = Tcpstat(tmp_path)
    source.collect()
    table = source.tables[0]
    found = {state: table.get(0, state) for state in table.columns if table.get(0, state)}
    assert found == {
        "established": 2,
        "listen": 2,
        "time_wait": 1,
        "syn_recv": 2,
        "tx_queued_bytes": 30,
        "rx_queued_bytes": 36,
    }


def test_ipv6_may_be_missing(tmp_path):
    write(tmp_path, udp=[socket(1, sent=1)], tcp=[socket(1, "0A")])
    for make, rows in ((UdpQueues, 1), (Tcpstat, 1)):
        source = make(tmp_path)
        source.collect()
        assert len(source.tables[0]) == rows
        assert source.problems == []


def test_a_table_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(socket_table, "_LIMIT_BYTES", 100_000)
    write(tmp_path, udp=[socket(number) for number in range(2000)], udp6=[socket(1, received=3)])
    source = UdpQueues(tmp_path)
    source.collect()
    assert [problem.reason for problem in source.problems] == ["efbig"]
    assert [source.tables[0].labels(row) for row in range(len(source.tables[0]))] == [b'ip="v6",']


def test_a_line_without_end_is_given_up(tmp_path):
    write(tmp_path, tcp=["x" * 300_000])
    with pytest.raises(SourceError) as caught:
        Tcpstat(tmp_path).collect()
    assert caught.value.reason == "efbig"
