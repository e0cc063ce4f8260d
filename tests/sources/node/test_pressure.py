import errno
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.pressure import Pressure, parse_pressure
from tests.sources.node.rows import collected, rows

LINE = b"some avg10=1.33 avg60=1.00 avg300=0.30 total=%d\n"


def pressure_on():
    try:
        return bool(Path("/proc/pressure/cpu").read_bytes())
    except OSError:
        return False


@pytest.mark.parametrize(
    ("data", "totals"),
    [
        (LINE % 7578165 + b"full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n", {"some": 7578165, "full": 3}),
        (b"full avg10=0.00 total=5 new=1\nmost total=2\n", {"full": 5, "most": 2}),
        (b"", {}),
        (b"some avg10=1.33 avg60=1.00\n", {}),
        (b"some total=x\nfull total=-1\n", {}),
        (LINE % 1 + b"full avg10=0.00 total=3", {"some": 1}),
        (b"\n\n", {}),
    ],
)
def test_parse(data, totals):
    assert parse_pressure(data) == totals


def test_what_is_there_is_published_and_the_rest_reported(tmp_path):
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/cpu").write_bytes(LINE % 5)
    (tmp_path / "pressure/io").write_bytes(b"some\n")
    source = Pressure(tmp_path)
    assert rows(collected(source)["node_pressure"]) == [({}, {"cpu_some": 5})]
    assert sorted(problem.reason for problem in source.problems) == ["enoent", "parse"]


def test_no_pressure_at_all(tmp_path):
    with pytest.raises(SourceError, match=r"pressure/cpu: No such file") as caught:
        collected(Pressure(tmp_path))
    assert caught.value.reason == "enoent"


def test_switched_off(tmp_path, monkeypatch):
    def refuse(self):
        raise SourceError.from_os_error(self.path, OSError(errno.EOPNOTSUPP, ""))

    monkeypatch.setattr("pymon.sources.kernel_file.KernelFile.read", refuse)
    with pytest.raises(SourceError) as caught:
        collected(Pressure(tmp_path))
    assert caught.value.reason == "eopnotsupp"


@pytest.mark.skipif(not pressure_on(), reason="this kernel has no PSI, or it is off")
def test_live():
    def direct():
        return {
            f"{name}_{line.split()[0]}": int(line.rpartition("=")[2])
            for name in ("cpu", "io", "memory", "irq")
            if Path("/proc/pressure", name).exists()
            for line in Path("/proc/pressure", name).read_text().splitlines()
        }

    before = direct()
    table = collected(Pressure(Path("/proc")))["node_pressure"]
    after = direct()
    ((_, cells),) = rows(table)
    assert cells.keys() == before.keys() & set(table.columns)
    assert all(before[key] <= value <= after[key] for key, value in cells.items())
