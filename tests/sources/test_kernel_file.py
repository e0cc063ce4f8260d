import errno
import os
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile, read_small


def test_reads_again_from_the_start_and_keeps_the_descriptor(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\n")
    file = KernelFile(path)
    assert file.read() == b"one\n"
    descriptor = file._descriptor
    path.write_bytes(b"two, longer\n")
    assert file.read() == b"two, longer\n"
    assert file._descriptor == descriptor
    path.write_bytes(b"")
    assert file.read() == b""
    file.close()
    assert file._descriptor is None
    path.write_bytes(b"three\n")
    assert file.read() == b"three\n"
    file.close()


@pytest.mark.parametrize("size", [4095, 4096, 4097, 100_000])
def test_content_of_any_size(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (size // 256 + 1))
    file = KernelFile(path)
    assert file.read() == path.read_bytes()
    assert file.read() == path.read_bytes()
    file.close()


def test_a_file_that_the_kernel_hands_out_in_parts():
    """seq_file stops at its own buffer: kallsyms is longer than that by far."""
    path = Path("/proc/kallsyms")
    file = KernelFile(path)
    assert file.read() == path.read_bytes()
    assert file.read().endswith(b"\n")
    file.close()


def test_a_descriptor_that_died_is_opened_anew(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one\n")
    file = KernelFile(path)
    file.read()
    os.close(file._descriptor)
    file._descriptor = os.open(tmp_path, os.O_RDONLY)  # preadv of a directory fails with EISDIR
    assert file.read() == b"one\n"
    file.close()


def test_what_fails_says_which_file_and_why(tmp_path):
    path = tmp_path / "file"
    file = KernelFile(path)
    with pytest.raises(SourceError, match=r"file: No such file or directory$") as caught:
        file.read()
    assert caught.value.reason == "enoent"
    assert file._descriptor is None
    path.mkdir()
    with pytest.raises(SourceError) as caught:
        file.read()
    assert caught.value.reason == "eisdir"
    assert file._descriptor is None


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EIO, "eio"), (errno.EACCES, "eacces"), (errno.EOPNOTSUPP, "eopnotsupp"), (errno.ENODEV, "enodev")],
)
def test_reasons(number, reason):
    error = SourceError.from_os_error("/proc/pressure/cpu", OSError(number, ""))
    assert error.reason == reason
    assert str(error).startswith("/proc/pressure/cpu: ")


def test_a_small_file_or_nothing(tmp_path):
    (tmp_path / "file").write_bytes(b"word\n")
    assert read_small(tmp_path / "file") == b"word\n"
    assert read_small(tmp_path / "missing") == b""
    assert read_small(tmp_path) == b""


def test_a_file_without_end_is_an_error():
    file = KernelFile(Path("/dev/zero"))
    with pytest.raises(SourceError) as caught:
        file.read()
    assert caught.value.reason == "efbig"
    assert file._descriptor is None
