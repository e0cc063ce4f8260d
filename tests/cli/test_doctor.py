"""doctor: what cannot be read is a line with its remedy, and never its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pymon.cli import main
from pymon.cli.doctor import WIDTH
from tests.agent.fixture_host import FixtureHost, copy_host
from tests.containers.cri_double import cri_double

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return copy_host("v2", tmp_path)


def lines(text: str) -> dict[str, str]:
    """The report by what a line is about; the remedies that follow are part of it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.partition("\n\n")[0].splitlines():
        name = line[:WIDTH].strip() or name
        found[name] = f"{found[name]}\n{line[WIDTH:]}" if name in found else line[WIDTH:]
    return found


def doctor(host: FixtureHost, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, str]:
    assert main(["doctor", *host.flags(), *flags]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return lines(out)


def test_owners(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    said = doctor(host, capsys)["containers"]
    assert said.startswith("6 containers, 6 without an owner\nfix: ")
    assert "there are no owner rules" in said
    rules = host.root / "agent.yaml"
    rules.write_text("owners: [{account: ops}]\n")
    assert doctor(host, capsys, f"--config.file={rules}")["containers"] == "6 containers, 0 without an owner"


def test_files_that_are_no_cgroups_are_not_bpfs(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    said = doctor(host, capsys)
    assert said["source"].startswith("cgroupfs: ")
    assert said["BPF"] == f"not used: {host.cgroups} is not of a cgroup file system"
    assert "BPF" not in doctor(host, capsys, "--source=cgroupfs")


def test_container_latency(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    reason = f"cannot run: {host.cgroups} is not of a cgroup file system"
    assert doctor(host, capsys)["container_latency"] == reason
    on = ("--collector.container_latency", "--collector.container_peaks")
    assert main(["doctor", *host.flags(), *on]) == 0
    out = capsys.readouterr().out
    metrics = dict(line.split(maxsplit=1) for line in out.partition("\n\n")[2].splitlines())
    assert metrics["container_io_latency_seconds"] == "BPF, if container_latency can run: bucket:0"
    assert not [name for name, text in metrics.items() if "peak" in name and text.startswith("absent: peaks")]
    assert metrics["container_memory_usage_peak_bytes"] == "pymon memory:15"


def test_peaks_of_memory_are_of_version_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *copy_host("v1", tmp_path).flags(), "--collector.container_peaks"]) == 0
    metrics = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.partition("\n\n")[2].splitlines())
    assert metrics["container_memory_usage_peak_bytes"] == "absent: the version 2 tree has no controller memory"


def test_files_of_processes(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    on = ("--collector.container_sched", "--collector.container_tasks", "--collector.container_disk")
    assert main(["doctor", *host.flags(), *on]) == 0
    out = capsys.readouterr().out
    metrics = dict(line.split(maxsplit=1) for line in out.partition("\n\n")[2].splitlines())
    assert metrics["container_cpu_schedstat_run_seconds_total"] == "/proc/PID run"
    assert metrics["container_tasks_state"] == "/proc/PID sleeping"
    assert metrics["container_cpu_load_average_10s"] == "pymon running"
    assert metrics["container_fs_usage_bytes"] == "pymon used"


def test_collectors(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    (host.root / "proc/loadavg").write_text("nonsense\n")
    (host.root / "proc/vmstat").unlink()
    shutil.rmtree(host.root / "proc/pressure")
    said = doctor(host, capsys, "--no-collector.stat")
    assert said["collector meminfo"] == "answers"
    assert said["collector stat"] == "off; --collector.stat switches it on"
    assert said["collector loadavg"].startswith("does not answer: ")
    assert "--no-collector.vmstat leaves it out" in said["collector vmstat"]
    assert "psi=1" in said["collector pressure"]
    assert said["collector bonding"] == "nothing to collect: no data on this node", "which is no fault to mend"
    assert said["kstat"] == "libkstat.so.1: not there; illumos has it"


def test_runtimes(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--container.pattern" in doctor(host, capsys)["runtimes"]
    (host.root / "var/lib/docker/containers").mkdir(parents=True)
    said = doctor(host, capsys)
    assert said["runtime docker"] == "can be read: names and labels"
    assert "runtimes" not in said


def test_daemons(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    with cri_double(host.root / "run/crio/crio.sock", "cri-o", "1.31.0") as runtime:
        assert doctor(host, capsys)["daemon crio"] == f"answers on {runtime.path}: cri-o 1.31.0"
        runtime.errors["Version"] = grpc.StatusCode.UNIMPLEMENTED
        assert doctor(host, capsys)["daemon crio"].startswith("its files alone describe containers: ")
        runtime.errors["Version"] = grpc.StatusCode.INTERNAL
        assert doctor(host, capsys)["daemon crio"].startswith("exit codes, restarts and labels cannot be asked for: ")


def test_applications(host: FixtureHost, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert doctor(host, capsys)["applications"] == "their metrics are not fetched: --container.app-metrics is off"
    path = tmp_path / "app-fetcher.sock"
    flag = f"--container.app-metrics={path}"
    said = doctor(host, capsys, flag)["applications"]
    assert said.startswith(f"{path}: the fetcher cannot be asked: No such file or directory\nfix: systemctl enable")
    with subprocess.Popen(
        [sys.executable, "-m", "pymon", "app-fetcher", f"--socket={path}"], cwd=REPOSITORY, stderr=subprocess.PIPE
    ) as fetcher:
        assert fetcher.stderr
        if os.geteuid():
            assert b"expected to run as root" in fetcher.stderr.read()
            return
        try:
            assert any(b"msg=listening" in line for line in fetcher.stderr)
            assert doctor(host, capsys, flag)["applications"] == f"their metrics are fetched through {path}"
        finally:
            fetcher.terminate()


def test_without_cgroups_it_is_one_line(host: FixtureHost, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(host.cgroups)
    assert main(["doctor", *host.flags()]) == 2
    assert capsys.readouterr().err.startswith("pymon: path.cgroupfs: ")


@pytest.fixture
def closed() -> Iterator[FixtureHost]:
    """A host whose Podman is root's alone, which every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        host = copy_host("v2", Path(folder))
        storage = host.root / "var/lib/containers/storage"
        storage.mkdir(parents=True)
        storage.parent.chmod(0o700)
        (host.root / "proc/meminfo").chmod(0)
        yield host


@pytest.mark.root
def test_another_user(closed: FixtureHost) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pymon", "doctor", *closed.flags()],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "Permission denied" in done.stderr and "python" in done.stderr:
        pytest.skip(f"another user cannot run this Python: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")
    said = lines(done.stdout)
    podman = said["runtime podman"]
    assert podman.startswith("names and labels cannot be read: ")
    assert "permission denied\nfix: run pymon as root" in podman
    assert said["collector meminfo"].startswith("does not answer: ")
    assert "fix: run pymon as root" in said["collector meminfo"]
    assert said["collector loadavg"] == "answers"
    assert "container_cpu_usage_seconds_total" in done.stdout
