import os
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.uname import Uname
from tests.sources.node.rows import collected, rows


def test_what_is_missing_is_empty(tmp_path):
    kernel = tmp_path / "sys/kernel"
    kernel.mkdir(parents=True)
    (kernel / "ostype").write_text("Linux\n")
    (kernel / "osrelease").write_text("6.1.0\n")
    (kernel / "version").write_text("#1 SMP\n")
    (kernel / "hostname").write_text("cut")
    source = Uname(tmp_path, "riscv64")
    ((labels, cells),) = rows(collected(source)["node_uname"])
    assert labels == {
        "sysname": "Linux",
        "release": "6.1.0",
        "version": "#1 SMP",
        "nodename": "",
        "domainname": "",
        "machine": "riscv64",
    }
    assert cells == {"info": 1}
    assert [problem.reason for problem in source.problems] == ["enoent"]


@pytest.mark.parametrize(("content", "reason"), [(None, "enoent"), ("", "parse")])
def test_nothing_of_use(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "sys/kernel").mkdir(parents=True)
        for name in ("ostype", "osrelease", "version", "hostname", "domainname"):
            (tmp_path / "sys/kernel" / name).write_text(content)
    with pytest.raises(SourceError, match="sys/kernel/") as caught:
        collected(Uname(tmp_path))
    assert caught.value.reason == reason


def test_live():
    ((labels, _),) = rows(collected(Uname(Path("/proc")))["node_uname"])
    system = os.uname()
    assert labels["domainname"] == Path("/proc/sys/kernel/domainname").read_text().strip()
    assert [labels[name] for name in ("sysname", "nodename", "release", "version", "machine")] == list(system)
