"""Atomic creation of the files that a command writes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pymon.directory.authority import CERTIFICATE_FILE
from pymon.directory.model import DirectoryError


def put_file(file: Path, data: bytes, mode: int) -> None:
    """Write a file with this content and mode, and atomically replace an existing one. Raises OSError."""
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    try:
        with open(descriptor, "wb") as stream:  # noqa: PTH123  # takes a descriptor
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class NewFiles:
    """A context manager that creates all of some files in a directory, or none.

    Entering creates the directory and the files, and returns their paths. It raises DirectoryError if a file exists
    already; only the authority's certificate may exist, with the same content. If the block raises, the new files are
    removed.
    files: content and mode of each file, by name.
    """

    def __init__(self, folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
        self._files = {folder / name: content for name, content in files.items()}
        self._folder = folder
        self._made: list[Path] = []

    def __enter__(self) -> list[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for file, (data, mode) in self._files.items():
                if not self._same_authority(file, data):
                    self._write(file, data, mode)
        except BaseException:
            self._remove()
            raise
        return list(self._files)

    def __exit__(self, kind: object, error: object, at: object) -> None:
        if kind is not None:
            self._remove()

    def _same_authority(self, file: Path, data: bytes) -> bool:
        if file.name != CERTIFICATE_FILE:
            return False
        with suppress(OSError):
            return file.read_bytes() == data
        return False

    def _write(self, file: Path, data: bytes, mode: int) -> None:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise DirectoryError(f"{file}: exists already; nothing was written") from None
        self._made.append(file)
        with open(descriptor, "wb") as stream:  # noqa: PTH123  # takes a descriptor
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def _remove(self) -> None:
        for file in self._made:
            with suppress(OSError):
                file.unlink()
