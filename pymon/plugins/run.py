"""One run of a plugin: a process group of its own, up to a deadline, its output bounded. Blocks: for a thread."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO, NamedTuple

MAX_OUTPUT_BYTES = 500 * 1024
MAX_STDERR_BYTES = 1024
_READ_BYTES = 1 << 16
_GRACE_SECONDS = 1.0
"""For the kernel to end a killed process; one that is stuck in the kernel takes longer."""
_POLL_SECONDS = 0.01


_starting = threading.Lock()
"""Starting a process holds the interpreter: one after the other, so that the event loop gets its turn in between."""


class Ended(NamedTuple):
    """A run that is over.

    output: standard output when all went well, else None, and `reason` is one word to count by: "exit", "timeout",
    "size", "exec" (could not be started) or "stopped" (by us). text: one line. stderr: the first of it.
    seconds: how long it took. left: the process when it is still there, killed, but stuck in the kernel.
    """

    output: bytes | None
    reason: str
    text: str
    stderr: bytes
    seconds: float
    left: subprocess.Popen[bytes] | None


class _FailedError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def run(argv: Sequence[str], timeout_seconds: float, stop: int) -> Ended:
    """Run a program to its end. `stop` is a descriptor that becomes readable when runs have to end at once."""
    started = time.monotonic()
    stderr = bytearray()
    try:
        with _starting:
            process = subprocess.Popen(  # noqa: S603  # the operator's own programs
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Ended(None, "exec", f"{argv[0]}: {reason}", b"", time.monotonic() - started, None)
    output: bytes | None = None
    reason = text = ""
    left = None
    try:
        output = _communicate(process, started + timeout_seconds, stop, stderr)
    except _FailedError as failure:
        reason, text = failure.reason, f"{argv[0]}: {failure}"
    finally:
        _end_group(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            left = process
    if not reason and process.returncode:
        output, reason = None, "exit"
        text = f"{argv[0]}: expected exit status 0, got {_status(process.returncode)}"
    return Ended(output, reason, text, bytes(stderr), time.monotonic() - started, left)


def _communicate(process: subprocess.Popen[bytes], deadline: float, stop: int, stderr: bytearray) -> bytes:
    """Read both pipes to their ends and wait for the process, without reaping it."""
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stop, selectors.EVENT_READ)
        pipes: list[IO[bytes]] = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
        for pipe in pipes:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
        while pipes or not _has_exited(process):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _FailedError("timeout", "expected to end before its timeout")
            for key, _ in selector.select(remaining if pipes else min(remaining, _POLL_SECONDS)):
                if key.fileobj == stop:
                    raise _FailedError("stopped", "stopped")
                pipe = next(pipe for pipe in pipes if pipe is key.fileobj)
                data = os.read(pipe.fileno(), _READ_BYTES)
                if not data:
                    selector.unregister(pipe)
                    pipes.remove(pipe)
                elif pipe is process.stderr:
                    stderr += data[: MAX_STDERR_BYTES - len(stderr)]
                else:
                    output += data
            if len(output) > MAX_OUTPUT_BYTES:
                raise _FailedError("size", f"expected at most {MAX_OUTPUT_BYTES} bytes of output, got more")
    return bytes(output)


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, leaving it to be reaped: until then its process group's number is nobody else's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process, if it is still there, and what it may have left behind in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _status(code: int) -> str:
    return str(code) if code > 0 else f"signal {-code}"
