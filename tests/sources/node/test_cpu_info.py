import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.cpu_info import CpuInfo, parse_model
from tests.sources.node.rows import collected, rows


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (b"processor\t: 0\ncpu family\t: 15\nmodel\t\t: 107\nmodel name\t: QEMU\n\nmodel\t\t: 6\n", 107),
        (b"model name\t: 5\n", None),
        (b"Processor : ARMv8\nCPU architecture: 8\n", None),
        (b"model : -1\n", None),
        (b"model : 1 2\n", None),
        (b"model\t: 107", None),
        (b"", None),
    ],
)
def test_the_model_of_the_first_cpu(data, model):
    assert parse_model(data) == model


def test_the_file_is_read_once(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_bytes(b"model\t: 85\n")
    source = CpuInfo(tmp_path)
    source.collect()
    path.unlink()
    assert rows(collected(source)["node_cpu_info"]) == [({}, {"model": 85})]


def test_other_processors_have_none(tmp_path):
    (tmp_path / "cpuinfo").write_bytes(b"CPU architecture: 8\n")
    source = CpuInfo(tmp_path)
    with pytest.raises(SourceError, match="cpuinfo: no line such as 'model : 85'") as caught:
        collected(source)
    assert caught.value.reason == "nodata"
    assert not source.problems
