"""Watermarks of memory that a descriptor resets for itself, on a kernel that has them and on one that has not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from tests.vm import guest as vm

Boot = Callable[..., vm.Guest]

MEASURE = """
import json, os, subprocess, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from pymon.sources.errors import SourceError
from pymon.sources.memory_peaks import MemoryPeaks

group = Path("/sys/fs/cgroup/peaks")
group.mkdir()
USE = "import sys; sys.stdin.read(1); kept = b'x' * (64 << 20); del kept; print('used', flush=True); sys.stdin.read(1)"
process = subprocess.Popen([sys.executable, "-c", USE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
(group / "cgroup.procs").write_text(str(process.pid))
try:
    peaks = MemoryPeaks(group)
except SourceError as error:
    print(json.dumps({"reason": error.reason}))
    sys.exit()
before = peaks.take()[0]
process.stdin.write(b"1")
process.stdin.flush()
process.stdout.readline()
during, after = peaks.take()[0], peaks.take()[0]
print(json.dumps({
    "before": before, "during": during, "after": after, "swap": peaks.take()[1],
    "whole": int((group / "memory.peak").read_text()),
}))
process.kill()
process.wait()
peaks.close()
"""

MIB = 1 << 20


@pytest.mark.parametrize("package", [vm.KERNEL_PACKAGE, vm.NEWER_KERNEL_PACKAGE])
def test_a_peak_is_that_since_the_last_reading(boot: Boot, package: str) -> None:
    try:
        vm.find_kernel(package)
    except vm.GuestUnavailableError as error:
        pytest.skip(f"no guest: {error}")
    result = boot(package=package).run([sys.executable, "-c", MEASURE], timeout=300)
    assert result.status == 0, result.output
    found = json.loads(result.output.splitlines()[-1])
    if package == vm.KERNEL_PACKAGE:
        assert found == {"reason": "eopnotsupp"}
        return
    assert found["before"] < 64 * MIB < found["during"]
    assert found["after"] < 64 * MIB, "it was reset"
    assert found["whole"] >= found["during"], "not for who only reads"
    assert found["swap"] in (0, None), "the guest has no swap"
