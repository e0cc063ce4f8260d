"""A project quota of a real file system, as Docker sets one on a writable layer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from tests.vm import guest as vm

Boot = Callable[..., vm.Guest]

SET_UP = """
import ctypes, fcntl, json, os, struct, subprocess, sys
sys.path.insert(0, os.getcwd())
from pymon.sources import tree_size

subprocess.run(["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", "/dev/vda"], check=True)
os.mkdir("/mnt/q")
subprocess.run(["mount", "-o", "prjquota", "/dev/vda", "/mnt/q"], check=True)
layer, other = "/mnt/q/layer", "/mnt/q/other"
for path in (layer, other):
    os.mkdir(path)
directory = os.open(layer, os.O_RDONLY)
attributes = bytearray(28)
fcntl.ioctl(directory, 0x801C581F, attributes)
xflags, extsize, nextents, _, cowextsize = struct.unpack("=5I8x", attributes)
project = 42
fcntl.ioctl(directory, 0x401C5820, struct.pack("=5I8x", xflags | 0x200, extsize, nextents, project, cowextsize))
limits = struct.pack("=8QI4x", 20480, 0, 0, 100, 0, 0, 0, 0, 5)
set_quota = ctypes.CDLL(None, use_errno=True).syscall(443, directory, 0x800008 << 8 | 2, project, limits)
assert set_quota == 0, os.strerror(ctypes.get_errno())
for path in (layer, other):
    for number in range(9):
        with open(f"{path}/{number}", "wb") as file:
            file.write(bytes(500_000))
            os.fsync(file.fileno())
walked = tree_size.walk(directory)
tree_size.walk = None
print(json.dumps([tree_size.measure(layer), walked]))
print(json.dumps(tree_size.project_quota(os.open(other, os.O_RDONLY))))
"""


def test_a_layer_with_a_quota_is_not_walked(boot: Boot) -> None:
    result = boot(modules=("ext4", "quota_v2"), disk_mib=128).run([sys.executable, "-c", SET_UP])
    assert result.status == 0, result.output
    layer, other = (json.loads(line) for line in result.output.splitlines()[-2:])
    found, walked = layer
    assert found["limit"] == 20480 * 1024
    assert (found["inodes"], found["inodes_free"]) == (100, 90), "nine files and the directory"
    assert found["used"] == walked
    assert walked > 9 * 500_000
    assert other is None, "a directory of no project"
