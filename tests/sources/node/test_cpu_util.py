from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.cpu import Cpu
from pymon.sources.node.cpu_util import CpuUtil, utilisation
from tests.sources.node.rows import by_label, collected


@pytest.mark.parametrize(
    ("ticks", "sums"),
    [
        # user nice system idle iowait irq softirq steal guest guest_nice
        ([1, 20, 300, 4000, 50000, 600000, 7000000, 8 * 10**7, 9 * 10**8, 10**10], [54000, 7600300, 21]),
        ([1, None, 2, 3] + [None] * 6, [3, 2, 1]),
        ([None] * 10, [None] * 3),
    ],
)
def test_every_tick_is_idle_in_the_kernel_or_in_user_mode(ticks, sums):
    assert utilisation(ticks) == sums


def test_a_row_for_each_cpu_and_idle_time_never_goes_back(tmp_path):
    stat = tmp_path / "stat"
    stat.write_bytes(b"cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 100 5 6 7 8 9 10\ncpu12 1 0 0 0 0 0 0 0 0 0\n")
    source = CpuUtil(tmp_path)
    source.collect()
    stat.write_bytes(b"cpu0 1 2 3 99 4 6 7 8 9 10\n")
    assert by_label(collected(source)["node_cpu_util"], "cpu_id") == {"0": {"idle": 105, "kernel": 16, "user": 3}}


def test_a_file_without_cpus_is_said(tmp_path):
    (tmp_path / "stat").write_bytes(b"intr 5\n")
    with pytest.raises(SourceError, match="stat: expected lines such as 'cpu0"):
        collected(CpuUtil(tmp_path))


def test_live_it_adds_up_to_what_the_collector_cpu_has():
    before = by_label(collected(Cpu(Path("/proc"), Path("/sys")))["node_cpu"], "cpu")
    between = by_label(collected(CpuUtil(Path("/proc")))["node_cpu_util"], "cpu_id")
    after = by_label(collected(Cpu(Path("/proc"), Path("/sys")))["node_cpu"], "cpu")
    assert between.keys() == before.keys()
    for cpu, cells in between.items():
        assert before[cpu]["user"] + before[cpu]["nice"] <= cells["user"] <= after[cpu]["user"] + after[cpu]["nice"]
