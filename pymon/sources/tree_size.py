"""``python tree_size.py DIRECTORY ...``: prints what trees of files take, a line of JSON for each, at idle priority.

A program of its own, so that a walk neither holds the lock of the agent's interpreter nor hangs with it. It imports
nothing of pymon, and starts without site-packages. A line has `used`, `limit`, `inodes` and `inodes_free`, in bytes and
numbers, and `device`, major:minor, or else `error`, one word. Where the directory has a project quota (quotactl_fd(2),
Linux 5.14) the numbers are the quota's. Else `used` is what the blocks of all files take, of which a file with several
names counts once; what is mounted below is left out; and the others are the file system's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import stat
import struct
import sys
import time

SECONDS = 120.0
"""The time that one tree has."""

ENTRIES_MAX = 2_000_000
DEPTH_MAX = 200
LINKED_MAX = 500_000
"""Files with several names that are remembered."""

_CLOCK_ENTRIES = 256
_BLOCK_BYTES = 512
_NICENESS = 19
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_IOPRIO_IDLE = 3 << 13
_FSGETXATTR = 0x801C581F
_FSXATTR = struct.Struct("=5I8x")
"""struct fsxattr (include/uapi/linux/fs.h): xflags, extsize, nextents, projid, cowextsize."""

_QUOTACTL_FD = 443
_GET_PROJECT_QUOTA = 0x800007 << 8 | 2
_DQBLK = struct.Struct("=8QI4x")
"""struct if_dqblk (include/uapi/linux/quota.h): bhardlimit, bsoftlimit, curspace, ihardlimit, isoftlimit, curinodes,
btime, itime, valid."""

_QUOTA_BLOCK_BYTES = 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeError(Exception):
    """A tree that is too large to be walked. Its text is one word."""


def measure(path: str) -> dict[str, int | str]:
    """Return the numbers of a directory. Raises OSError or TreeError."""
    directory = os.open(path, _DIRECTORY)
    try:
        number = os.fstat(directory).st_dev
        file_system = os.fstatvfs(directory)
        quota = project_quota(directory)
        used, limit, inodes, inodes_free = quota or (None, 0, 0, 0)
        if used is None:
            used = walk(directory)
    finally:
        os.close(directory)
    return {
        "used": used,
        "limit": limit or file_system.f_blocks * file_system.f_frsize,
        "inodes": inodes or file_system.f_files,
        "inodes_free": inodes_free if inodes else file_system.f_ffree,
        "device": f"{os.major(number)}:{os.minor(number)}",
    }


def project_quota(directory: int) -> tuple[int, int, int, int] | None:
    """Return bytes used, their limit, the limit of inodes and how many of them are left, or None without a quota.

    A limit is 0 where there is none.
    """
    attributes = bytearray(_FSXATTR.size)
    try:
        fcntl.ioctl(directory, _FSGETXATTR, attributes)
    except OSError:
        return None  # a file system without projects
    project = _FSXATTR.unpack(attributes)[3]
    answer = ctypes.create_string_buffer(_DQBLK.size)
    library = ctypes.CDLL(None)
    if not project or library.syscall(_QUOTACTL_FD, directory, _GET_PROJECT_QUOTA, project, answer) != 0:
        return None
    return of_quota(answer.raw)


def of_quota(answer: bytes) -> tuple[int, int, int, int]:
    """Return the numbers of a struct if_dqblk, as `project_quota`. A soft limit counts where there is no hard one."""
    blocks, soft_blocks, used, inodes, soft_inodes, used_inodes, *_ = _DQBLK.unpack(answer)
    most_inodes = inodes or soft_inodes
    return used, (blocks or soft_blocks) * _QUOTA_BLOCK_BYTES, most_inodes, max(0, most_inodes - used_inodes)


def walk(directory: int) -> int:
    """Return the bytes that files below an open directory take, with the directory. Raises OSError or TreeError.

    What is renamed or removed meanwhile may be counted or not. No symbolic link is followed.
    """
    until = time.monotonic() + SECONDS
    top = os.fstat(directory)
    used, seen = top.st_blocks * _BLOCK_BYTES, 0
    linked: set[int] = set()
    levels: list[_Level] = []
    try:
        levels.append(_Level(os.dup(directory)))
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop().close()
                continue
            seen += 1
            if seen > ENTRIES_MAX or len(linked) > LINKED_MAX:
                raise TreeError("toomany")
            if seen % _CLOCK_ENTRIES == 0 and time.monotonic() > until:
                raise TreeError("deadline")
            try:
                found = os.stat(entry.name, dir_fd=level.directory, follow_symlinks=False)
                if found.st_dev != top.st_dev:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    if len(levels) >= DEPTH_MAX:
                        raise TreeError("depth")
                    levels.append(_Level(os.open(entry.name, _DIRECTORY, dir_fd=level.directory)))
                elif found.st_nlink > 1:
                    if found.st_ino in linked:
                        continue
                    linked.add(found.st_ino)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE):
                    continue  # it has gone, or is another kind of file now
                raise
            used += found.st_blocks * _BLOCK_BYTES
    finally:
        for level in levels:
            level.close()
    return used


class _Level:
    """An open directory, which `close` closes, and its entries."""

    def __init__(self, directory: int) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, directory)
            self.directory = directory
            self.entries = stack.enter_context(os.scandir(directory))
            self.close = stack.pop_all().close


def be_idle() -> None:
    """Take the processor and the disk only when nobody else wants them."""
    os.nice(_NICENESS)
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, 0, _IOPRIO_IDLE)


def main() -> None:
    """Print a line for each directory that is named."""
    be_idle()
    for path in sys.argv[1:]:
        try:
            line: dict[str, int | str] = measure(path)
        except TreeError as error:
            line = {"error": str(error)}
        except OSError as error:
            line = {"error": errno.errorcode.get(error.errno or 0, "oserror").lower()}
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
