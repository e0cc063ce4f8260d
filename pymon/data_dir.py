"""The data directory, in which pymon stores its state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pymon.config import PATH, ConfigError, Option

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT = Path("/var/lib/pymon")

DATA_DIR = Option(
    "data-dir", PATH, None,
    "Directory of the state: the directory of accounts, copies of what was learned, the UUID of a node that has none. "
    "Default: /var/lib/pymon as root, pymon in $XDG_DATA_HOME or ~/.local/share else.",
)  # fmt: skip


def default_data_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Return ``/var/lib/pymon`` for root, and a directory below the user's data directory for other users.

    Raises ConfigError if neither XDG_DATA_HOME nor HOME is an absolute path.
    """
    if uid == 0:
        return _ROOT
    data_home, home = environ.get("XDG_DATA_HOME", ""), environ.get("HOME", "")
    if data_home.startswith("/"):
        return Path(data_home) / "pymon"
    if not home.startswith("/"):
        raise ConfigError("--data-dir: expected a path, got none, and HOME names no directory")
    return Path(home) / ".local" / "share" / "pymon"
