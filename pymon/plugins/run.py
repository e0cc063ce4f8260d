"""Runs the program of a plugin, with a deadline and a limit on its output. Blocking: call it in a thread."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from pymon.sources.errors import SourceError
from pymon.sources.programs.process import execute

MAX_OUTPUT_BYTES = 500 * 1024
MAX_STDERR_BYTES = 1024

_REASONS = {"deadline": "timeout", "cancelled": "stopped"}
"""The reasons of `Ended` that have another name in `Execution.error`."""


class Ended(NamedTuple):
    """The result of a run.

    output: standard output, None on failure. reason: for a metric label: "", "exit", "timeout", "size", "exec" (could
    not be started) or "stopped" (by `stop`). text: the failure, one line. stderr: its first bytes. seconds: duration.
    left: the process if it was killed but is stuck in the kernel, else None.
    """

    output: bytes | None
    reason: str
    text: str
    stderr: bytes
    seconds: float
    left: subprocess.Popen[bytes] | None


def run(argv: Sequence[str], timeout_seconds: float, stop: int) -> Ended:
    """Run a program and wait for its end. Failures are in the result; nothing is raised.

    stop: a descriptor that becomes readable when the run must end at once.
    """
    started = time.monotonic()
    try:
        done = execute(
            argv,
            until=started + timeout_seconds,
            stop=stop,
            limit_bytes=MAX_OUTPUT_BYTES,
            stderr_limit_bytes=MAX_STDERR_BYTES,
        )
    except SourceError as error:
        return Ended(None, "exec", str(error), b"", time.monotonic() - started, None)
    seconds = time.monotonic() - started
    if done.error is not None:
        reason = _REASONS.get(done.error.reason, done.error.reason)
        return Ended(None, reason, str(done.error), done.stderr, seconds, done.stuck)
    if done.status:
        status = str(done.status) if done.status > 0 else f"signal {-done.status}"
        return Ended(None, "exit", f"{argv[0]}: expected exit status 0, got {status}", done.stderr, seconds, None)
    return Ended(done.stdout, "", "", done.stderr, seconds, done.stuck)
