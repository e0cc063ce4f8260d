"""Block devices of real control groups whose scheduler counts, and nothing else does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, World, until

pytestmark = pytest.mark.root

DIRECT = """
import mmap, os, sys
block = mmap.mmap(-1, 65536)
fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
for number in range(48): os.pwrite(fd, block, number << 16)
for number in range(8): os.preadv(fd, [block], number << 16)
"""


@contextlib.contextmanager
def bfq_device(file: Path) -> Iterator[str]:
    """A loop device on a file, with the scheduler BFQ."""
    with file.open("wb") as empty:
        empty.truncate(8 << 20)
    made = subprocess.run(["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = made.stdout.strip()
    scheduler = Path("/sys/block") / Path(device).name / "queue/scheduler"
    before = scheduler.read_text().split("[")[1].split("]")[0]
    try:
        try:
            scheduler.write_text("bfq")
        except OSError as error:
            pytest.skip(f"no scheduler BFQ: {error}")
        yield device
    finally:
        scheduler.write_text(before)
        subprocess.run(["losetup", "--detach", device], check=True)


def test_without_a_throttle_rule_the_scheduler_counts(world: World, tmp_path: Path) -> None:
    root = HIERARCHIES.v1.get("blkio")
    if root is None or not (root / "blkio.bfq.io_service_bytes_recursive").exists():
        pytest.skip("no version 1 of blkio with BFQ")
    with bfq_device(tmp_path / "disk") as device, Agent("--container.all") as agent:
        group = world.group()
        process = group.start([sys.executable, "-c", DIRECT, device])
        assert process.wait(60) == 0
        group.sleep()
        number = Path(device).stat().st_rdev
        line = f"{os.major(number)}:{os.minor(number)} Write 3145728"
        assert line in (group.read("blkio", "blkio.bfq.io_service_bytes_recursive") or "")
        until("the group is known", lambda: group.path in agent.scrape().paths)
        scrape = agent.scrape()
        assert scrape.value(group.path, "container_fs_writes_bytes_total", device=device) == 48 << 16
        assert scrape.value(group.path, "container_fs_reads_bytes_total", device=device) == 8 << 16
        assert scrape.value(group.path, "container_fs_writes_total", device=device) == 48
        assert scrape.value(group.path, "container_fs_reads_total", device=device) == 8
