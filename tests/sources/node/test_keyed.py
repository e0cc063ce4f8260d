"""stat, meminfo and vmstat: files of a key and a number a line."""

from pathlib import Path

import pytest

from pymon.catalogue.model import KIB, ONE
from pymon.sources.errors import SourceError
from pymon.sources.node.meminfo import Meminfo, other_keys
from pymon.sources.node.stat import Stat
from pymon.sources.node.vmstat import Vmstat
from tests.sources.node.rows import collected, rows

FILES = {
    Stat: (
        "stat",
        b"cpu  1 2\nintr 797786 0 9 0\nctxt 5\nbtime 1795355571\nprocesses 7\nprocs_running 2\nprocs_blocked 0\nx 1\n",
        {"intr": 797786, "ctxt": 5, "btime": 1795355571, "processes": 7, "procs_running": 2, "procs_blocked": 0},
    ),
    Meminfo: (
        "meminfo",
        b"MemTotal:       24684096 kB\nActive(anon):   1544 kB\nNew:  1 kB\nHugePages_Total:       3\nHugetlb: 0 kB\n",
        {"MemTotal": 24684096, "Active(anon)": 1544, "HugePages_Total": 3, "Hugetlb": 0},
    ),
    Vmstat: (
        "vmstat",
        b"nr_free_pages 6130\npgpgin 5\npgpgout 18446744073709551615\noom_kill 0\n",
        {"pgpgin": 5, "pgpgout": 2**64 - 1, "oom_kill": 0},
    ),
}


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.name)
def test_known_keys_and_no_others(make, tmp_path):
    name, content, cells = FILES[make]
    (tmp_path / name).write_bytes(content)
    (table,) = collected(make(tmp_path)).values()
    assert rows(table) == [({}, cells)]


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.name)
def test_a_cut_line_and_a_word_that_is_no_number_are_absent(make, tmp_path):
    name, content, cells = FILES[make]
    lost = next(iter(cells))
    lines = content.splitlines(keepends=True)
    bad = [line.replace(str(cells[lost]).encode(), b"x1") if line.startswith(lost.encode()) else line for line in lines]
    (tmp_path / name).write_bytes(b"".join(bad)[:-1])
    (table,) = collected(make(tmp_path)).values()
    ((_, found),) = rows(table)
    last = {key for key in cells if lines[-1].startswith(key.encode())}
    assert found == {key: value for key, value in cells.items() if key != lost and key not in last}


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.name)
@pytest.mark.parametrize("content", [b"", b"\n", b"nothing known 1\n", b"\xff\x00\n"])
def test_nothing_of_use_is_a_failure_to_parse(make, content, tmp_path):
    name = FILES[make][0]
    (tmp_path / name).write_bytes(content)
    source = make(tmp_path)
    with pytest.raises(SourceError, match=f"/{name}: expected lines of a key and an integer") as caught:
        collected(source)
    assert caught.value.reason == "parse"
    assert not any(map(len, source.tables))


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.name)
def test_live(make):
    def direct():
        pairs = (line.replace(":", " ").split() for line in path.read_text().splitlines())
        return {words[0]: int(words[1]) for words in pairs if words[1].isdigit()}

    path = Path("/proc", FILES[make][0])
    before = direct()
    (table,) = collected(make(Path("/proc"))).values()
    after = direct()
    ((_, cells),) = rows(table)
    assert cells.keys() == before.keys() & set(table.columns)
    gauges = {"procs_running", "procs_blocked"} | (set(table.columns) if make is Meminfo else set())
    steady = {"MemTotal", "SwapTotal", "VmallocTotal", "Hugepagesize", "HugePages_Total", "btime"}
    for key, value in cells.items():
        assert key in gauges - steady or before[key] <= value <= after[key], key


def test_meminfo_lists_every_key_of_this_kernel():
    keys = {line.partition(":")[0] for line in Path("/proc/meminfo").read_text().splitlines()}
    (table,) = Meminfo(Path("/proc")).tables
    assert keys <= set(table.columns)


def test_other_keys_of_meminfo():
    data = b"MemTotal: 1 kB\nNew(a): 2 kB\nNew_a:  3 kB\nPages:   4\nActive_anon: 5 kB\nN-w: 6 kB\nno\nx: -7 kB\ny: 1"
    assert other_keys(data) == {"New(a)": KIB, "Pages": ONE, "N-w": KIB}
    assert len(other_keys(b"".join(b"key%d: 1 kB\n" % number for number in range(10_000)))) == 200
