"""A kernel file is a row of the catalogue and nothing more."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from pymon._native.readers import Mailbox, monotonic_ns
from pymon._native.renderer import Body, Labels
from pymon.catalogue.cgroup_fields import TABLES, File, GroupTable
from pymon.catalogue.model import Column, Metric, gauge
from pymon.exposition.compile import compile_catalogue
from pymon.sources.cgroup import CgroupSource, columns_of, find_hierarchies

RDMA = File("rdma.current", "nested", labels={"device": "key"})
NUMA = File("memory.numa_stat", "nested", labels={"node": "node"})
MISC = File("misc.current", "flat")
DMEM = File("dmem.current", "listed", labels={"region": "key"})
EVENTS = File("misc.events", "listed", labels={"resource": "key"})
MAX = File("misc.max", "flat")
CPUS = File("cpuset.cpus.effective", "cpus", slow=True)
PRESSURE = File("irq.pressure", "nested")


def collected(root: Path, reader: str, metric: Metric) -> tuple[list[str], dict[str, int]]:
    """The samples of a metric of the group `box`, and how often reading failed, by reason."""
    mailbox = Mailbox()
    source = CgroupSource(
        find_hierarchies(root / "cgroup"), columns_of([metric]), mailbox, procfs=root, sysfs=root, descriptors=1000
    )
    source.add(0, "box", 0)
    tables = source.readers[reader].new_tables()
    mailbox.collect([(source.readers[reader], tables)], monotonic_ns() + 60 * 10**9, 1)
    assert select.select([mailbox.fileno()], [], [], 60)[0]
    ticket = mailbox.take()
    assert ticket is not None
    body = Body()
    compile_catalogue([metric], source.layout).renderer.render(body, tables, Labels([b'id="/box"']))
    source.close()
    return bytes(body).decode().splitlines()[2:], dict(ticket.results[0].failures)


@pytest.mark.parametrize(
    ("file", "column", "content", "lines"),
    [
        (RDMA, "hca_object", "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=1 hca_object=max\n",
         ['m{device="mlx4_0",id="/box"} 2000']),
        (NUMA, "anon", "anon N0=4096 N1=0\nfile N0=1 N1=2\n",
         ['m{node="0",id="/box"} 4096', 'm{node="1",id="/box"} 0']),
        (MISC, "res_b", "res_a 3\nres_b 0\n", ['m{id="/box"} 0']),
        (DMEM, "", "drm/0000:03:00.0/vram0 8192\ndrm/0000:03:00.0/stolen max\nxe/vram1 0\n",
         ['m{region="drm/0000:03:00.0/vram0",id="/box"} 8192', 'm{region="xe/vram1",id="/box"} 0']),
        (EVENTS, "", "sev.max 3\nsev_es.max 0\n",
         ['m{resource="sev",id="/box"} 3', 'm{resource="sev_es",id="/box"} 0']),
        (MAX, "sev", "sev_es max\nsev 7\n", ['m{id="/box"} 7']),
        (CPUS, "", "0-2,8\n", ['m{id="/box"} 4']),
        (PRESSURE, "full:total", "full avg10=0.00 avg60=0.13 avg300=0.26 total=5\n", ['m{id="/box"} 5']),
    ],
    ids=["rdma", "numa", "misc", "dmem", "misc events", "misc limits", "cpus", "pressure"],
)  # fmt: skip
def test_a_row_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: File, column: str, content: str, lines: list[str]
) -> None:
    monkeypatch.setitem(TABLES, "new", GroupTable("new", 2, "", (file,)))  # type: ignore[arg-type]
    metric = gauge("m", "Help.", "new", Column("new", f"{file.name}:{column}" if column else file.name))
    (tmp_path / "cgroup/box").mkdir(parents=True)
    (tmp_path / "cgroup/cgroup.controllers").write_text("cpuset dmem rdma misc memory\n")
    (tmp_path / "cgroup/box" / file.name).write_text(content)
    assert collected(tmp_path, "new", metric) == (lines, {})


READ = gauge("m", "Help.", "io", Column("io.v1", "blkio.throttle.io_service_bytes_recursive:Read"))
A, B = (f'm{{device="{device}",id="/box"}} ' for device in ("8:0", "8:16"))


@pytest.mark.parametrize(
    ("scheduler", "throttle", "lines", "failures"),
    [
        ("8:0 Read 5\nTotal 5\n", "Total 0\n", [A + "5"], {}),
        ("8:0 Read 5\nTotal 5\n", "8:0 Read 7\n8:16 Read 9\nTotal 16\n", [A + "5", B + "9"], {}),
        ("8:0 Read 0\nTotal 0\n", "8:0 Read 7\nTotal 7\n", [A + "0"], {}),
        ("Total 0\n", "8:16 Read 9\nTotal 9\n", [B + "9"], {}),
        ("", "8:16 Read 9\nTotal 9\n", [B + "9"], {}),
        ("8:0 Read x\n", "8:0 Read 7\nTotal 7\n", [], {"malformed": 1}),
        (None, "8:0 Read 7\nTotal 7\n", [A + "7"], {"enoent": 1}),
    ],
    ids=[
        "scheduler alone",
        "each of its devices",
        "counts since the scheduler",
        "not its device",
        "empty",
        "bad",
        "gone",
    ],
)
def test_a_scheduler_counts_before_throttling_does(
    tmp_path: Path, scheduler: str | None, throttle: str, lines: list[str], failures: dict[str, int]
) -> None:
    """The numbers of the two do not go on from one another: a device has those of one."""
    for group in ("", "box/"):
        directory = tmp_path / "cgroup/blkio" / group
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").touch()
        (directory / "blkio.throttle.io_service_bytes_recursive").write_text(throttle)
        if scheduler is not None or not group:
            (directory / "blkio.bfq.io_service_bytes_recursive").write_text(scheduler or "")
    assert collected(tmp_path, "io", READ) == (lines, failures)


def test_without_the_scheduler_its_files_are_not_looked_for(tmp_path: Path) -> None:
    for group in ("", "box/"):
        directory = tmp_path / "cgroup/blkio" / group
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").touch()
        (directory / "blkio.throttle.io_service_bytes_recursive").write_text("8:0 Read 7\nTotal 7\n")
    assert collected(tmp_path, "io", READ) == ([A + "7"], {})
