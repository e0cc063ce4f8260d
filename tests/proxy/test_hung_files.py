"""A proxy whose certificates, authorities and list of nodes are on a file system that hangs while it runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.directory.machines import Machines
from tests.agent.fuse_files import fuse_files, why_not
from tests.proxy.running import A, FakeNode, Running, Site, container, on_uvloop, process, until

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "FUSE")

DRAIN_SECONDS, LIMIT_SECONDS = 1.0, 5.0
PATIENCE_SECONDS = 30.0


def running(pid: int) -> bool:
    """Whether a process runs, and has not ended without being waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def ready(proxy: Running) -> int:
    async with proxy.client(part="telemetry") as client:
        return (await client.ask("/-/ready")).status


@on_uvloop
@pytest.mark.parametrize("workers", [1, 2])
async def test_it_serves_and_ends_in_time(tmp_path: Path, workers: int) -> None:
    site = Site(tmp_path)
    alice = site.account("alice")
    machines = Machines.load_or_create(site.data_dir / MACHINES_FOLDER)
    source, hung = tmp_path / "source", tmp_path / "hung"
    for folder in (source, hung):
        folder.mkdir()
    for file, name in ((site.cert, "cert.pem"), (site.key, "key.pem"), (machines.folder / "ca-cert.pem", "ca.pem")):
        shutil.copy(file, source / name)
    async with FakeNode(container(A, "alice")) as node:
        (source / "nodes.json").write_text(f'[{{"targets": ["{node.url[7:]}"], "labels": {{"pymon_node": "n1"}}}}]')
        flags = {
            "tls.cert-file": "cert.pem", "tls.key-file": "key.pem", "upstream.tls-ca-file": "ca.pem",
            "node.file": "nodes.json",
        }  # fmt: skip
        with fuse_files(hung, source) as files:
            names = [f"--{flag}={hung / name}" for flag, name in flags.items()]
            starting = process(site, *names, f"--drain={DRAIN_SECONDS:.0f}s", f"--workers={workers}")
            proxy = await asyncio.to_thread(starting.__enter__)
            try:
                deadline = time.monotonic() + PATIENCE_SECONDS
                while await ready(proxy) != 200:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
                while (await proxy.ask(f"/v1/{A}/metrics", alice)).status != 200:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
                files.stop()
                await asyncio.sleep(2.5)  # every file is looked at again every two seconds at the latest
                if workers > 1:  # one that cannot start, because its files hang, takes no connections
                    killed = children(proxy.pid)[0]
                    os.kill(killed, signal.SIGKILL)
                    await until(lambda: len({*children(proxy.pid)} - {killed}) == workers)
                for _ in range(8):
                    assert (await proxy.ask(f"/v1/{A}/metrics", alice)).status == 200
                late = site.account("late")
                assert (await proxy.ask("/v1/discover", late)).status == 200, "the directory is followed"
                assert await proxy.metric("pymon_proxy_directory_up") == 1
                told = time.monotonic()
                os.kill(proxy.pid, signal.SIGTERM)
                await until(lambda: not running(proxy.pid))
                # A second for a busy machine.
                assert time.monotonic() - told < DRAIN_SECONDS + LIMIT_SECONDS + 1
                assert "ended without what did not end in time" in proxy.log
            finally:
                files.go_on()
                await asyncio.to_thread(starting.__exit__, None, None, None)
