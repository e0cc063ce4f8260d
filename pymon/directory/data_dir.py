"""Where the files of a machine's directory are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pymon.config import ConfigError

ROOT_DATA_DIR = Path("/var/lib/pymon")
DIRECTORY_FILE = "directory.db"
AUTHORITY_FOLDER = "authority"


def default_data_dir(environ: Mapping[str, str], uid: int) -> Path:
    """``/var/lib/pymon`` of root; the user's data directory of anybody else. Raises ConfigError where there is none."""
    if uid == 0:
        return ROOT_DATA_DIR
    data_home, home = environ.get("XDG_DATA_HOME", ""), environ.get("HOME", "")
    if data_home.startswith("/"):
        return Path(data_home) / "pymon"
    if not home.startswith("/"):
        raise ConfigError("--data-dir: expected a path, got none, and HOME names no directory")
    return Path(home) / ".local" / "share" / "pymon"
