"""The writable layers of containers: whose they are, and what is told when one cannot be measured."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pymon._native.table import Table
from pymon.agent.disk import DiskSampler
from pymon.sources.errors import SourceError
from pymon.sources.writable_layers import Mounts, Usage, WritableLayers, parse_mounts
from tests.agent.fuse_files import fuse_files, why_not

MOUNTINFO = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 254:0 /var /var rw shared:1 - ext4 /dev/other rw
30 22 0:50 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/up/a,workdir=/w
31 22 0:51 / /run/b/rootfs rw shared:7 - overlay overlay rw,lowerdir=/l,upperdir=/up/b\\040c\\054d,workdir=/w
32 22 0:52 / /readonly ro - overlay overlay ro,lowerdir=/l/A:/l/B
33 22 0:53 / /relative rw - overlay overlay rw,lowerdir=l,upperdir=u,workdir=w
34 22 0:54 / /cut
35 22 0:55 / /off rw - overlay overlay rw,upperdir=/cu"""

READY_SECONDS = 60.0


def test_mounts() -> None:
    assert parse_mounts(MOUNTINFO) == Mounts(
        {"0:50": "/up/a", "0:51": "/up/b c,d"},
        {"254:0": "/dev/vda"},
    )


class Host:
    """Groups, processes and mounts. A root's device number is that of this machine's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.groups = root / "groups"
        number = Path("/").stat().st_dev
        self.number = f"{os.major(number)}:{os.minor(number)}"
        self.mount(f"30 22 {self.number} / /merged rw - overlay overlay rw,upperdir=/up/a\n")
        self.layers = WritableLayers(self.groups, root / "proc", root / "node/")

    def mount(self, mountinfo: str) -> None:
        (self.root / "proc/1").mkdir(parents=True, exist_ok=True)
        (self.root / "proc/1/mountinfo").write_text(mountinfo)

    def group(self, name: str, *pids: int) -> None:
        (self.groups / name).mkdir(parents=True, exist_ok=True)
        (self.groups / name / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def process(self, pid: int, root: str = "/") -> None:
        (self.root / "proc" / str(pid)).mkdir()
        (self.root / "proc" / str(pid) / "root").symlink_to(root)

    def directory(self, group: str) -> str | None:
        return self.layers.directory(group, self.layers.mounts())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.layers.close()


def test_a_container_has_the_layer_that_is_mounted_as_its_root(host: Host) -> None:
    host.process(10)
    host.group("box", 10)
    assert host.directory("/box") == f"{host.root}/node/up/a"


def test_a_container_with_its_processes_in_groups_below(host: Host) -> None:
    host.process(10)
    host.group("box")
    host.group("box/init", 0, 10)
    assert host.directory("/box") == f"{host.root}/node/up/a"


def test_processes_without_a_layer(host: Host) -> None:
    """Of several processes the first counts that has one: others have gone, or have a root of their own."""
    host.process(11, "/proc")
    host.group("box", 99, 11)
    assert host.directory("/box") is None
    host.process(12)
    host.group("box", 99, 11, 12)
    assert host.directory("/box") == f"{host.root}/node/up/a"
    assert host.directory("/none") is None


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_root_that_does_not_answer_holds_up_nobody(host: Host, tmp_path: Path) -> None:
    """A container may mount a file system of its own, and not answer for it."""
    source, mounted = tmp_path / "source", tmp_path / "mounted"
    source.mkdir()
    mounted.mkdir()
    with fuse_files(mounted, source) as files:
        host.process(10, str(mounted))
        host.process(11)
        host.group("box", 10, 11)
        found: list[str | None] = []
        thread = threading.Thread(target=lambda: found.append(host.directory("/box")), daemon=True)
        files.stop()
        try:
            thread.start()
            thread.join(READY_SECONDS)
            assert found == [f"{host.root}/node/up/a"]
        finally:
            files.go_on()
            thread.join()


def test_a_root_that_the_node_has_not_mounted_is_no_layer(host: Host) -> None:
    host.process(10)
    host.group("box", 10)
    host.mount(f"30 22 {host.number} / / rw - ext4 /dev/vda rw\n")
    assert host.directory("/box") is None


def test_measuring(host: Host) -> None:
    tree = host.root / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(100_000))
    number = tree.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    found, missing = host.layers.measure([str(tree), str(tree / "none")], Mounts({}, {device: "/dev/sda"}))
    assert isinstance(found, Usage)
    assert found.device == "/dev/sda"
    assert 100_000 < found.used < 200_000 < found.limit
    assert isinstance(missing, SourceError)
    assert missing.reason == "enoent"


def test_nothing_is_measured_after_the_end(host: Host) -> None:
    host.layers.cancel()
    with pytest.raises(SourceError, match="cancelled"):
        host.layers.measure([str(host.root)], Mounts({}, {}))


class Layers:
    """Layers of containers in memory. A number is what one has, an error why it has none."""

    def __init__(self) -> None:
        self.of: dict[str, int | SourceError] = {}
        self.measured: list[str] = []
        self.closed = threading.Event()

    def mounts(self) -> Mounts:
        return Mounts({}, {})

    def directory(self, group: str, mounts: Mounts) -> str | None:
        return group if group in self.of else None

    def measure(self, directories: list[str], mounts: Mounts) -> list[Usage | SourceError]:
        self.measured += directories
        results: list[Usage | SourceError] = []
        for path in directories:
            found = self.of[path]
            results.append(Usage("/dev/vda", found, 100, 10, 5) if isinstance(found, int) else found)
        return results

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        self.closed.set()


def used(table: Table | None) -> dict[int, int]:
    if table is None:
        return {}
    return {row: value for row in range(len(table)) if (value := table.get(row, "used")) is not None}


async def until(what: str, probe: Callable[[], bool]) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while not probe():  # noqa: ASYNC110 - a thread makes it true
            await asyncio.sleep(0.02)
    assert probe(), what


async def test_rounds() -> None:
    layers = Layers()
    listed = [(0, "/a", 1.0), (2, "/b", 1.0), (3, "/none", 1.0)]
    sampler = DiskSampler(layers, lambda: list(listed), lambda: 4, round_seconds=0.01)  # type: ignore[arg-type]
    layers.of = {"/a": 7, "/b": 8}
    task = asyncio.ensure_future(sampler.run(None))  # type: ignore[arg-type]
    try:
        await until("both are told", lambda: used(sampler.table) == {0: 7, 2: 8})
        table = sampler.table
        assert table is not None
        assert table.labels(0) == b'device="/dev/vda",'
        assert [table.get(2, column) for column in table.columns] == [8, 100, 10, 5]
        one = sampler.new_table()
        sampler.copy_row(2, one)
        assert (one.labels(0), one.get(0, "used")) == (b'device="/dev/vda",', 8)
        layers.of["/a"] = SourceError("toomany", "/a: not measured")
        await until("a layer that cannot be measured has no number", lambda: used(sampler.table) == {2: 8})
        await until("and is counted", lambda: sampler.failures == {"toomany": 1})
        listed[1] = (2, "/b", 2.0)
        del layers.of["/b"]
        sampler.forget(2)
        assert used(sampler.table) == {}, "the row is another container's"
        layers.of = {"/a": 1, "/b": 2}
        await until("it is measured", lambda: used(sampler.table) == {0: 1, 2: 2})
        await until("no failure is left", lambda: not sampler.failures)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.to_thread(layers.closed.wait, READY_SECONDS)


OVERLAY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount an overlay")


@OVERLAY
def test_a_real_overlay(tmp_path: Path) -> None:
    """A process whose root is an overlay, seen by the process that mounted it."""
    for name in ("lower/bin", "upper", "work", "merged"):
        (tmp_path / name).mkdir(parents=True)
    code = (
        "import os, subprocess, sys\n"
        "top = sys.argv[1]\n"
        "options = ','.join(f'{key}dir={top}/{key}' for key in ('lower', 'upper', 'work'))\n"
        "subprocess.run(['mount', '-t', 'overlay', 'overlay', '-o', options, f'{top}/merged'], check=True)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.chroot(f'{top}/merged')\n"
        "    open('/file', 'wb').write(bytes(1000000))\n"
        "    print(os.getpid(), os.getppid(), flush=True)\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    argv = ["unshare", "--mount", sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        child, parent = process.stdout.readline().split()
        (tmp_path / "groups/box").mkdir(parents=True)
        (tmp_path / "groups/box/cgroup.procs").write_bytes(child + b"\n")
        layers = WritableLayers(tmp_path / "groups", Path("/proc"), Path("/"))
        mounts = parse_mounts(Path(f"/proc/{parent.decode()}/mountinfo").read_bytes())
        path = layers.directory("/box", mounts)
        assert path == f"{tmp_path}/upper"
        (found,) = layers.measure([path], mounts)
        layers.close()
        assert isinstance(found, Usage)
        assert 1_000_000 <= found.used < 1_100_000
        assert found.device in mounts.devices.values()
    finally:
        process.communicate(timeout=60)
