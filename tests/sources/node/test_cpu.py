from pathlib import Path

import pytest

from pymon.sources.node.cpu import Cpu, parse_cpus, steady
from tests.sources.node.rows import by_label, collected

STAT = b"cpu  3 3 3 3 3 3 3 3 3 3\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu3 11 12 13 14 15 16 17 18 19 20\nintr 5\n"


def test_a_line_for_each_cpu():
    assert parse_cpus(STAT) == {"0": list(range(1, 11)), "3": list(range(11, 21))}


@pytest.mark.parametrize(
    ("data", "cpus"),
    [
        (b"", {}),
        (b"cpu  1 2 3\n", {}),
        (b"cpu0 1 2 3", {}),
        (b"cpu0\n", {}),
        (b"cpux 1 2\n", {}),
        (b"intr 5\ncpu0 1\n", {}),
        (b"cpu0 1 2 3 4 5 6 7 8\n", {"0": [1, 2, 3, 4, 5, 6, 7, 8, None, None]}),
        (b"cpu0 1 x -3 1_0 18446744073709551616\n", {"0": [1] + [None] * 9}),
        (b"cpu0 1 2 3 4 5 6 7 8 9 10 11 12\n", {"0": list(range(1, 11))}),
        (b"cpu0 18446744073709551615\ncpu1 1 2", {"0": [2**64 - 1] + [None] * 9}),
    ],
)
def test_malformed(data, cpus):
    assert parse_cpus(data) == cpus


def test_counters_do_not_go_back():
    before = [10, 0, 10, 1000, 50, 0, 0, 0, None, 0]
    assert steady(before, [11, 0, 9, 990, 40, 0, 0, 0, 1, None]) == [11, 0, 10, 1000, 50, 0, 0, 0, 1, None]


def test_a_cpu_that_came_back_starts_anew():
    again = [1, 0, 1, 700, 0, 0, 0, 0, 0, 0]
    assert steady([10, 0, 10, 1000, 50, 0, 0, 0, 0, 0], again) == again
    assert steady(None, again) == again


def test_steady_over_collections_and_a_cpu_that_left(tmp_path):
    path = tmp_path / "stat"
    path.write_bytes(b"cpu0 9 0 9 100 9\ncpu1 5 0 5 100 5\n")
    source = Cpu(tmp_path, tmp_path)
    source.collect()
    path.write_bytes(b"cpu0 9 0 10 99 7\n")
    table = collected(source)["node_cpu"]
    assert by_label(table, "cpu") == {"0": {"user": 9, "nice": 0, "system": 10, "idle": 100, "iowait": 9}}


def test_live():
    def direct():
        lines = Path("/proc/stat").read_text().splitlines()
        return {words[0][3:]: list(map(int, words[1:])) for words in map(str.split, lines) if words[0][:3] == "cpu"}

    before = direct()
    cells = by_label(collected(Cpu(Path("/proc"), Path("/sys")))["node_cpu"], "cpu")
    after = direct()
    assert cells.keys() == before.keys() - {""}
    for cpu, values in cells.items():
        assert len(values) == 10
        for column, low, value, high in zip(values, before[cpu], values.values(), after[cpu], strict=True):
            # idle and iowait are estimates and may go back.
            assert low <= value <= high or column in {"idle", "iowait"}, (cpu, column)
