"""The harness itself: the worlds it makes, what it gives back, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vm import guest as vm

Boot = Callable[..., vm.Guest]

LIST_CONTROLLERS = """
import json, pathlib
root = pathlib.Path("/sys/fs/cgroup")
group = root / "probe"
group.mkdir()
lines = (group / "memory.stat").read_text().splitlines()
print(json.dumps({
    "controllers": (root / "cgroup.controllers").read_text().split(),
    "enabled": (group / "cgroup.controllers").read_text().split(),
    "memory.stat": dict(line.split() for line in lines),
    "pressure": sorted(path.name for path in group.glob("*.pressure")),
}))
"""


def children() -> set[int]:
    """The processes that have this one as their parent."""
    found: set[int] = set()
    for entry in Path("/proc/self/task").glob("*/children"):
        found.update(map(int, entry.read_text().split()))
    return found


def test_v2_has_every_controller_for_the_children_of_the_root(boot: Boot) -> None:
    result = boot("v2").run([sys.executable, "-c", LIST_CONTROLLERS])
    assert result.status == 0, result.output
    seen = json.loads(result.output)
    assert set(seen["controllers"]) >= {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}
    assert seen["enabled"] == seen["controllers"]
    assert {"anon", "file", "inactive_file", "pgmajfault"} <= seen["memory.stat"].keys()
    assert {"cpu.pressure", "io.pressure", "memory.pressure"} <= set(seen["pressure"])


def test_psi_can_be_switched_off(boot: Boot) -> None:
    result = boot("v2", cmdline="psi=0").run(["ls", "/proc/pressure/cpu", "/sys/fs/cgroup/cpu.stat"])
    assert "/proc/pressure" in result.output
    assert result.output.splitlines()[-1] == "/sys/fs/cgroup/cpu.stat"


@pytest.mark.parametrize("cgroup", ["v1", "hybrid"])
def test_v1_controllers_have_a_hierarchy_each(boot: Boot, cgroup: vm.CgroupLayout) -> None:
    result = boot(cgroup).run(["sh", "-c", "readlink /sys/fs/cgroup/cpu; cat /proc/self/cgroup; exit 7"])
    assert result.status == 7
    link, *memberships = result.output.split()
    assert link == "cpu,cpuacct"
    hierarchies = {line.split(":")[1] for line in memberships}
    assert {"cpu,cpuacct", "memory", "blkio", "pids", "hugetlb", "perf_event", "name=systemd"} <= hierarchies
    assert ("" in hierarchies) == (cgroup == "hybrid")


def test_files_pass_both_ways_and_the_root_is_not_written(kernel: vm.Kernel, tmp_path: Path) -> None:
    (tmp_path / "question").write_text("6 * 7")
    probe = Path(tempfile.gettempdir()).resolve() / f"guest-must-not-write-{os.getpid()}"
    answer = f"echo $(($(cat {vm.SHARE}/question))) > {vm.SHARE}/answer"
    script = f"{answer}; mkdir -p {probe.parent}; touch {probe} /etc/written; uname -r"
    result = vm.Guest(share=tmp_path).run(["sh", "-c", script])
    assert (result.status, result.output.strip()) == (0, kernel.release)
    assert (tmp_path / "answer").read_text() == "42\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer", "question"]
    assert not probe.exists()
    assert not Path("/etc/written").exists()


@pytest.mark.usefixtures("kernel")
def test_environment_and_directory_are_the_callers() -> None:
    words = 'it\'s "quoted" $HOME'
    result = vm.Guest().run(["sh", "-c", 'pwd; printf "%s\\n" "$WORDS"'], cwd=Path("/usr"), env={"WORDS": words})
    assert result.output.splitlines() == ["/usr", words]


def test_a_guest_that_does_not_end_is_ended(boot: Boot) -> None:
    before = children()
    with pytest.raises(vm.GuestError, match=r"not done after 12 s(?s:.)*still here"):
        boot().run(["sh", "-c", "echo still here; exec sleep 1000"], timeout=12)
    assert children() == before


def test_a_guest_that_panics_is_an_error(boot: Boot, tmp_path: Path) -> None:
    before = children()
    with pytest.raises(vm.GuestError, match="without a status"):
        boot().run(["sh", "-c", "echo c > /proc/sysrq-trigger"])
    assert "panic" in (tmp_path / "console.log").read_text()
    assert children() == before


@pytest.mark.usefixtures("kernel")
def test_interrupting_the_caller_ends_the_guest() -> None:
    before = children()

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            vm.Guest().run(["true"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert children() == before


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "QEMU", "qemu-system-nowhere")
    with pytest.raises(vm.GuestUnavailableError, match="qemu-system-nowhere is not installed"):
        vm.Guest().run(["true"])
