"""The node's identity from `sysinfo` of SmartOS, which prints a JSON object. Triton identifies a node by `UUID`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pymon.sources.errors import SourceError
from pymon.sources.programs.process import Runner, shown

LIMIT_BYTES = 4 << 20
"""Limit of the output. A large node with many disks and links has some hundred KiB."""

DEADLINE_SECONDS = 30.0
"""Limit of time. The first call after a boot is slow, because sysinfo then queries all hardware."""

_MOST_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Sysinfo:
    """Identity of a node. datacenter: name of its data center, "" when it has none."""

    uuid: UUID
    datacenter: str


def parse_sysinfo(text: bytes) -> Sysinfo:
    """Parse the output. Raises SourceError "parse" when it is not a JSON object or has no valid UUID."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError("parse", f"sysinfo: expected JSON: {shown(str(error))}") from None
    if not isinstance(document, dict):
        raise SourceError("parse", "sysinfo: expected an object")
    told = document.get("UUID")
    try:
        uuid = UUID(told) if isinstance(told, str) else UUID(int=0)
    except ValueError:
        uuid = UUID(int=0)
    if uuid.int == 0 or str(uuid) != str(told).lower():
        raise SourceError("parse", f"sysinfo: UUID: expected a UUID that is not nil, got {shown(str(told))}")
    datacenter = document.get("Datacenter Name")
    if not isinstance(datacenter, str) or not datacenter.isprintable() or len(datacenter) > _MOST_CHARACTERS:
        datacenter = ""
    return Sysinfo(uuid, datacenter)


def read_sysinfo(program: Path, deadline_seconds: float = DEADLINE_SECONDS) -> Sysinfo | None:
    """Run sysinfo and return the node's identity, or None when the program does not exist.

    Raises SourceError when it fails or its output cannot be used.
    """
    if not program.is_file():
        return None
    runner = Runner()
    try:
        output = runner.run((str(program),), time.monotonic() + deadline_seconds, LIMIT_BYTES)
    finally:
        runner.close()
    if output.status:
        raise SourceError("exit", f"sysinfo: ended with {output.status}: {shown(output.stderr.strip())}")
    return parse_sysinfo(output.stdout)
