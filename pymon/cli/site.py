"""The file in the data directory that `pymon up` writes at each start, and from which other commands learn about it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pymon.config import Address, parse_address

FILE = "up.json"

_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Site:
    """The installation that `pymon up` runs.

    zone: the DNS zone.
    proxy: address of the proxy, as seen from this machine.
    owner_label: the label whose value names the owning account, "" for none.
    """

    zone: str
    proxy: Address
    owner_label: str


def write_site(data_dir: Path, site: Site) -> None:
    """Write the file, and atomically replace an earlier one. Raises OSError."""
    document = {"zone": site.zone, "proxy": str(site.proxy), "owner_label": site.owner_label}
    new = data_dir / f"{FILE}.new"
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as stream:  # noqa: PTH123
        json.dump(document, stream)
    new.replace(data_dir / FILE)


def read_site(data_dir: Path) -> Site | None:
    """Return what the last `pymon up` with this data directory has written, or None if there is nothing usable."""
    try:
        with (data_dir / FILE).open("rb") as stream:
            found = json.loads(stream.read(_MAX_BYTES))
        zone, proxy, owner_label = (found[key] for key in ("zone", "proxy", "owner_label"))
        if not isinstance(zone, str) or not isinstance(owner_label, str):
            return None
        return Site(zone, parse_address(proxy), owner_label)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
