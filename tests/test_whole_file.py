"""Files that are replaced as a whole, on a disk that has no more room."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymon.whole_file import remove_leftovers, replace_file


@contextlib.contextmanager
def full() -> Iterator[None]:
    """No file may have more than 4 KiB: a write fails in the middle, as it does without room.

    That of pytest's own output is one, too, so this is in force around a call and no longer.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("sync", [True, False])
def test_new_and_old(tmp_path: Path, sync: bool) -> None:
    file = tmp_path / "new" / "a.json"
    for data in (b"one", b"two"):
        replace_file(file, data, sync=sync)
        assert file.read_bytes() == data
    assert [found.name for found in file.parent.iterdir()] == ["a.json"]
    assert (file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("sync", [True, False])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, sync: bool) -> None:
    file = tmp_path / "a.json"
    for before in ([], ["a.json"]):
        with full(), pytest.raises(OSError, match="File too large"):
            replace_file(file, b"x" * 10000, sync=sync)
        assert [found.name for found in tmp_path.iterdir()] == before
        replace_file(file, b"whole", sync=sync)
    assert file.read_bytes() == b"whole"


def test_what_a_writer_left_that_was_killed(tmp_path: Path) -> None:
    replace_file(tmp_path / "a.json", b"whole")
    (tmp_path / ".a.json.abc.tmp").touch()
    (tmp_path / "a.tmp").touch()
    remove_leftovers(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]
    remove_leftovers(tmp_path / "none")
