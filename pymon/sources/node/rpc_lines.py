"""The lines of /proc/net/rpc/nfs and nfsd: a name, then numbers (net/sunrpc/stats.c).

rpc 1218785755 374636 1218815394
proc2 18 16 57 74 ...

Lines that count the calls of procedures begin with the number of procedures.
"""

from __future__ import annotations

from collections.abc import Iterable

from pymon.sources.node.kernel_text import complete_lines, text, unsigned

Place = tuple[str, int]
"""Name of a line and place in it."""


def parse_rpc(data: bytes, places: Iterable[Place]) -> list[int | None]:
    """Return the numbers at these places. One that is not there, as in old kernels, or is not an integer is None."""
    lines = {text(words[0]): words[1:] for words in map(bytes.split, complete_lines(data)) if words}
    found = (lines.get(line, [])[at : at + 1] for line, at in places)
    return [unsigned(words[0]) if words else None for words in found]


def places_of(line: str, version: str, procedures: Iterable[str], first: int = 0) -> dict[str, Place]:
    """Return the place of each procedure, as VERSION NAME. first: the number of the first one."""
    return {f"{version} {name}": (line, at) for at, name in enumerate(procedures, first + 1)}
