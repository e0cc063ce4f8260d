"""Giving up all privileges, in a process that has entered the network namespace of a container.

What remains can connect, read, write to descriptors that are open already, and end.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
from pathlib import Path

NOBODY = 65534

# linux/prctl.h, asm-generic/ioctls.h and asm-generic/mman-common.h
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_FIONBIO = 0x5421
_PROT_EXEC = 4

_LIMITS = {
    resource.RLIMIT_CPU: 5,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NPROC: 0,
    resource.RLIMIT_NOFILE: 64,
}
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


class PrivilegeError(Exception):
    """A privilege could not be given up."""


def drop(calls: SystemCalls | None) -> None:
    """Become nobody, without capabilities and new privileges. calls: what is left, None for all.

    Raises PrivilegeError or OSError, and then nothing must be done any more.
    """
    for limit, value in _LIMITS.items():
        resource.setrlimit(limit, (value, value))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)  # the kernel clears all sets of capabilities with it
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    held = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if any(int(held[name], 16) for name in _CAPABILITIES) or held["NoNewPrivs"] != "1":
        raise PrivilegeError("capabilities are left")
    _prctl(_PR_SET_DUMPABLE, 0)
    if calls is not None:
        calls.keep()


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise PrivilegeError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


_COMPARISON = struct.Struct("IiQQ")
"""struct scmp_arg_cmp of libseccomp: argument, operator, and two values."""

# seccomp.h
_EQUAL, _MASKED_EQUAL = 4, 7
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SCMP_ACT_ERRNO(EPERM)

_PLAIN = """
brk clock_gettime close connect exit exit_group fcntl fstat futex getpeername getpid getrandom getsockname getsockopt
gettimeofday madvise mremap munmap poll ppoll read recvfrom recvmsg restart_syscall rt_sigprocmask rt_sigreturn sendmsg
sendto setsockopt shutdown write
"""
_COMPARED = (
    ("socket", _COMPARISON.pack(0, _EQUAL, socket.AF_INET, 0)),
    ("socket", _COMPARISON.pack(0, _EQUAL, socket.AF_INET6, 0)),
    ("ioctl", _COMPARISON.pack(1, _EQUAL, _FIONBIO, 0)),  # Python's timeouts of sockets
    ("mmap", _COMPARISON.pack(2, _MASKED_EQUAL, _PROT_EXEC, 0)),
    ("mprotect", _COMPARISON.pack(2, _MASKED_EQUAL, _PROT_EXEC, 0)),
)


class SystemCalls:
    """The system calls that a fetch needs, as a filter of seccomp. Others fail with EPERM.

    Raises OSError where libseccomp is not there.
    """

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_init.argtypes = [ctypes.c_uint32]
        library.seccomp_load.argtypes = [ctypes.c_void_p]
        library.seccomp_rule_add_array.argtypes = [
            ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p,
        ]  # fmt: skip
        self._filter = library.seccomp_init(_REFUSE)
        if not self._filter:
            raise OSError("seccomp_init")
        for name in _PLAIN.split():
            self._allow(name)
        for name, comparison in _COMPARED:
            self._allow(name, comparison)

    def _allow(self, name: str, comparison: bytes | None = None) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode("ascii"))
        if number < 0:
            return  # this machine has no such call
        if self._library.seccomp_rule_add_array(self._filter, _ALLOW, number, comparison is not None, comparison):
            raise OSError(f"seccomp_rule_add: {name}")

    def keep(self) -> None:
        """Refuse all others in this process from now on. Raises PrivilegeError."""
        if self._library.seccomp_load(self._filter):
            raise PrivilegeError("seccomp_load")
