"""Files that a command makes, and never writes over."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pymon.directory.authority import CERTIFICATE_FILE
from pymon.directory.model import DirectoryError


class NewFiles:
    """New files in a directory: all of them, which stay when the block ends well, or none. One that exists is an error.

    The authority's certificate may be there already, when it is the same.
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
            raise DirectoryError(f"{file}: is there already; nothing was written") from None
        self._made.append(file)
        with open(descriptor, "wb") as stream:  # noqa: PTH123  # a descriptor
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def _remove(self) -> None:
        for file in self._made:
            with suppress(OSError):
                file.unlink()
