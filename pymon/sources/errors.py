"""What a source says when it has nothing to say."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Self

# Linux has one number for both; errno.errorcode keeps the other name.
_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}


class SourceError(Exception):
    """A file, device or call that could not be read or understood.

    reason: one short word to count by: the errno in lower case ("enoent", "eio", "eacces", "eopnotsupp"),
    "parse" (read, but not what was expected) or "nodata" (this machine has no such thing).
    The text is one line that names the file and what was expected.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    @classmethod
    def from_os_error(cls, path: Path | str, error: OSError) -> Self:
        """The failure of a system call on `path`."""
        number = error.errno or 0
        return cls(_NAMES.get(number, "oserror").lower(), f"{path}: {os.strerror(number)}")
