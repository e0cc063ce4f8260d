"""The lock of a data directory: one holder at a time, named to the others, and nothing of it outlives a process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymon.data_lock import LOCK_FILE, locked

HOLDER = """
import sys
from pathlib import Path
from pymon.data_lock import locked
with locked(Path(sys.argv[1]), "proxy"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_holder_is_told_which_process_is_the_first(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with holder(data_dir) as process:
        with pytest.raises(BlockingIOError) as caught, locked(data_dir, "up"):
            pass
        assert caught.value.strerror == f"the data directory is in use by pymon proxy, process {process.pid}"
        assert caught.value.filename == str(data_dir)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(data_dir, "up"):
            assert (data_dir / LOCK_FILE).read_text() == f"pymon up, process {os.getpid()}\n"
    with locked(data_dir, "up"):
        pass


def test_what_is_no_holders_name_is_not_repeated(tmp_path: Path) -> None:
    with holder(tmp_path):
        for text in ("", "\x1b[2J", "pymon proxy, process 1\nmore", "x" * 10_000):
            (tmp_path / LOCK_FILE).write_text(text)
            with pytest.raises(BlockingIOError, match="in use by another process"), locked(tmp_path, "up"):
                pass


def test_a_directory_that_cannot_be_written_is_used_without_a_lock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with locked(tmp_path / "file" / "data", "proxy"):
        (record,) = caplog.records
    assert "is not locked: Not a directory" in record.getMessage()
