import pytest

from pymon.sources.node.netstat import parse_snmp, parse_snmp6
from pymon.sources.node.sockstat import Sockstat, parse_sockstat


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Tcp: MaxConn CurrEstab InSegs\nTcp: -1 -2 7\n", {"Tcp_CurrEstab": -2, "Tcp_InSegs": 7}),
        (b"Tcp: InSegs\nTcp: 7\nTcp: InSegs\nUdp: 8\n", {"Tcp_InSegs": 7}),
        (b"Tcp: InSegs OutSegs\nTcp: 7\n", {}),
        (b"Tcp: InSegs OutSegs\nTcp: x 8\n", {"Tcp_OutSegs": 8}),
        (b"Tcp: InSegs\nTcp: 99999999999999999999999\n", {}),
        (b"Tcp: InSegs\nTcp: 7", {}),
    ],
    ids=["negative", "mismatched", "short", "not a number", "too large", "cut short"],
)
def test_pairs_of_lines(data, expected):
    assert parse_snmp(data) == expected


def test_lines_of_ipv6():
    data = b"Ip6InOctets 3\nIcmp6InType134 4\nUdpLite6InErrors\t5\nUdp6NoPorts x\nnothing\n\n"
    assert parse_snmp6(data) == {"Ip6_InOctets": 3, "UdpLite6_InErrors": 5}


def test_sockets():
    assert parse_sockstat(b"sockets: used 4\nTCP: inuse 1 orphan x mem -2\nFRAG\nRAW: inuse\n") == {
        "sockets_used": 4,
        "TCP_inuse": 1,
        "TCP_mem": -2,
    }


def test_pages_in_bytes(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net/sockstat").write_text("TCP: inuse 1 mem 3\nUDP: inuse 2 mem -1\n")
    source = Sockstat(tmp_path, page_size=65536)
    source.collect()
    table = source.tables[0]
    assert table.get(0, "TCP_mem_bytes") == 3 * 65536
    assert table.get(0, "UDP_mem_bytes") is None
    source.close()
