"""The lock of a data directory, so that two proxies do not replace each other's copies in it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = "lock"

_HOLDER = re.compile(rb"pymon [a-z]{1,20}, process [0-9]{1,10}\n")
_HOLDER_MAX_BYTES = 64

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(data_dir: Path, command: str) -> Iterator[None]:
    """Hold the lock of a data directory, which is created when missing. The kernel releases the lock of a dead process.

    command: the subcommand of pymon that holds it, for the error of a second one. Raises BlockingIOError when another
    process holds the lock; its text says which one. A directory in which the file cannot be created is not locked, as
    nothing can be kept there either; the log says so.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _log.warning("data directory %s is not locked: %s", data_dir, error.strerror)
        yield
        return
    try:
        _take(descriptor, data_dir)
        with contextlib.suppress(OSError):  # a full disk; the lock holds, and its holder is not named
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pymon {command}, process {os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, data_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        said = os.pread(descriptor, _HOLDER_MAX_BYTES, 0)
        holder = said.decode("ascii").strip() if _HOLDER.fullmatch(said) else "another process"
        raise BlockingIOError(error.errno, f"the data directory is in use by {holder}", str(data_dir)) from None
    except OSError as error:
        _log.warning("data directory %s is not locked: %s", data_dir, error.strerror)
