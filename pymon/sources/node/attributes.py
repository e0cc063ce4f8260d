"""Small files and directories of sysfs and procfs, read within bounds.

An attribute of sysfs has at most one page. Drivers refuse to read attributes that a device lacks with various errors.
These mean absent. Other errors mean failed.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pymon.sources.errors import SourceError
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import text
from pymon.sources.node.source import NodeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRIES_MAX = 4096
"""The entries that are taken from one directory. A node with more has them cut off, and a problem says so."""

_ATTRIBUTE_BYTES = 4096
_ABSENT = frozenset(
    (
        errno.ENOENT,
        errno.ENODEV,
        errno.ENXIO,
        errno.EINVAL,
        errno.ENODATA,
        errno.EOPNOTSUPP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EAGAIN,
    )
)
_INTEGER = re.compile(rb"[+-]?\d{1,20}")


def integer(word: bytes) -> int | None:
    """Return the word as an integer that a table can hold, or None when it is not one in decimal digits."""
    if not _INTEGER.fullmatch(word):
        return None
    value = int(word)
    return value if -(2**63) <= value < 2**64 else None


def hexadecimal(word: bytes) -> int | None:
    """Return the word, such as ``0x1003`` or ``000000b2``, as an integer of up to 64 bits, or None when it is none."""
    match = re.fullmatch(rb"(?:0[xX])?([0-9a-fA-F]{1,16})", word)
    return int(match[1], 16) if match else None


class AttributeSource(NodeSource):
    """Base of collectors that read many small files, which come and go with devices. None of them stays open."""

    def _attribute(self, path: Path | str) -> bytes | None:
        """Return up to 4 KiB of a file without blanks around it, or None when it is absent or failed.

        A failure is added to the problems. A FIFO does not block.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return os.read(descriptor, _ATTRIBUTE_BYTES).strip()
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in _ABSENT:
                self.problems.append(SourceError.from_os_error(path, error))
            return None

    def _whole(self, path: Path | str) -> bytes | None:
        """Return the whole of a file that can be long, or None when it is absent or failed."""
        file = KernelFile(Path(path))
        try:
            return self._read_text(file, optional=True)
        finally:
            file.close()

    def _integer(self, path: Path | str) -> int | None:
        """Return the integer in a file, or None when it is absent, failed or not an integer."""
        data = self._attribute(path)
        if not data:
            return None
        value = integer(data)
        if value is None:
            self._misread(Path(path), "an integer")
        return value

    def _word(self, path: Path | str) -> str:
        """Return the content of a file as a label value, which is empty when it is absent or failed."""
        return text(self._attribute(path) or b"")

    def _entries(self, path: Path | str, pattern: str = ".*") -> list[str]:
        """Return the names in a directory that match the whole pattern, sorted with numbers in their order.

        A directory that does not exist is empty. Names that are not UTF-8 are left out.
        """
        try:
            with os.scandir(path) as found:
                names = list(self._matching(found, re.compile(pattern)))
        except OSError as error:
            if error.errno not in _ABSENT:
                self.problems.append(SourceError.from_os_error(path, error))
            return []
        if len(names) > ENTRIES_MAX:
            self.problems.append(SourceError("toomany", f"{path}: more than {ENTRIES_MAX} entries"))
        return sorted(names[:ENTRIES_MAX], key=_natural)

    @staticmethod
    def _matching(found: Iterator[os.DirEntry[str]], pattern: re.Pattern[str]) -> Iterator[str]:
        count = 0
        for entry in found:
            if pattern.fullmatch(entry.name) and entry.name.isprintable():
                yield entry.name
                count += 1
                if count > ENTRIES_MAX:
                    return


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts eth2 before eth10. Only ASCII digits count."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if at % 2 else (-1, part) for at, part in enumerate(parts)]
