from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.loadavg import Loadavg, parse_loadavg
from tests.sources.node.rows import collected, rows


@pytest.mark.parametrize(
    ("data", "loads"),
    [
        (b"0.23 0.11 0.05 1/89 5997\n", [23, 11, 5]),
        (b"1234.00 0.00 10.50 1/89 5997 more\n", [123400, 0, 1050]),
        (b"0.23 0.11 0.05 1/89 5997", []),
        (b"", []),
        (b"\n", []),
        (b"0.23\n", [23]),
        (b"0.23 x 0.05 1/89 5997\n", [23, None, 5]),
        (b"0.2 -0.11 .05 1/89 5997\n", [None, None, None]),
        (b"99999999999999999999.00 1 1.000\n", [None, None, None]),
    ],
)
def test_parse(data, loads):
    assert parse_loadavg(data) == loads


def test_nothing_of_use(tmp_path):
    (tmp_path / "loadavg").write_bytes(b"x\n")
    with pytest.raises(SourceError, match="loadavg: expected a line such as") as caught:
        collected(Loadavg(tmp_path))
    assert caught.value.reason == "parse"


def test_live():
    ((_, cells),) = rows(collected(Loadavg(Path("/proc")))["node_loadavg"])
    assert cells.keys() == {"load1", "load5", "load15"}
    assert all(0 <= load < 10**6 for load in cells.values())
