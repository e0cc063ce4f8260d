"""A FUSE file system in a process of its own, over /dev/fuse: the files of a directory, until the process is stopped.

Speaks what it needs of the protocol of linux/fuse.h, version 7.31. It has no FLUSH: the kernel waits for the answer to
that uninterruptibly, so a process with an open file could not even be killed while the file system is stopped.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_MNT_DETACH = 2
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _INIT = 1, 2, 3, 14, 15, 18, 26
_INTERRUPT, _BATCH_FORGET = 36, 42
_DIRECT_IO = 1
_HEADER = struct.Struct("<IIQQIIII")


def why_not() -> str:
    """Why no FUSE file system can be mounted here, or ""."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return ""


class FuseFiles:
    """The process that answers for the file system."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def stop(self) -> None:
        """Stop the process of the file system: whoever opens or reads one of its files waits."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer what has been asked, and what comes."""
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def fuse_files(mount_point: Path, source: Path, read_seconds: float = 0.0) -> Iterator[FuseFiles]:
    """The files of `source` at `mount_point`, read only. read_seconds: how long each read takes."""
    command = [sys.executable, __file__, os.fspath(mount_point), os.fspath(source), str(read_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "mounted\n"
            yield FuseFiles(process)
        finally:
            process.kill()  # what hangs gets an error now
            ctypes.CDLL(None).umount2(os.fsencode(mount_point), _MNT_DETACH)


def _attributes(path: str, inode: int) -> bytes:
    status = os.lstat(path)
    return struct.pack(
        "<QQQQQQIIIIIIIIII", inode, status.st_size, 1, *[int(status.st_mtime)] * 3, 0, 0, 0,
        status.st_mode, 1, status.st_uid, status.st_gid, 0, 4096, 0,
    )  # fmt: skip


class _Server:
    def __init__(self, source: str, read_seconds: float) -> None:
        self._paths = {1: source}
        self._read_seconds = read_seconds

    def answer(self, opcode: int, node: int, body: bytes) -> bytes:
        """The body of an answer. Raises OSError for an answer that is an error."""
        path = self._paths.get(node, "")
        if opcode == _INIT:
            return struct.pack("<IIIIHHIIHHI", 7, 31, 0, 0, 16, 12, 65536, 1, 0, 0, 0) + bytes(28)
        if opcode == _LOOKUP:
            path = f"{path}/{os.fsdecode(body.rstrip(bytes(1)))}"
            attributes = _attributes(path, node)
            child = next((known for known, other in self._paths.items() if other == path), len(self._paths) + 1)
            self._paths[child] = path
            return struct.pack("<QQQQII", child, 0, 0, 0, 0, 0) + attributes
        if opcode == _GETATTR:
            return struct.pack("<QII", 0, 0, 0) + _attributes(path, node)
        if opcode == _OPEN:
            return struct.pack("<QII", 0, _DIRECT_IO if self._read_seconds else 0, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            time.sleep(self._read_seconds)
            return Path(path).read_bytes()[offset : offset + size]
        if opcode == _RELEASE:
            return b""
        raise OSError(errno.ENOSYS, "")


def _serve(mount_point: str, source: str, read_seconds: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"pymon-test", os.fsencode(mount_point), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), mount_point)
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    server = _Server(source, float(read_seconds))
    while True:
        request = os.read(device, 1 << 17)
        _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
        if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT):
            continue
        try:
            body, error = server.answer(opcode, node, request[_HEADER.size :]), 0
        except OSError as failure:
            body, error = b"", -(failure.errno or errno.EIO)
        with contextlib.suppress(FileNotFoundError):  # who asked has gone
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
