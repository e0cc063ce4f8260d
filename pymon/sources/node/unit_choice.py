"""Which units of systemd are measured, and what of them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UnitChoice:
    """Patterns, which match a whole name, and what costs a call for each unit, with the defaults of node_exporter."""

    include: re.Pattern[str] = re.compile(".+")
    exclude: re.Pattern[str] = re.compile(r".+\.(automount|device|mount|scope|slice)")
    start_times: bool = False
    restarts: bool = False
    tasks: bool = False

    def has(self, name: str) -> bool:
        """Return whether a unit is measured."""
        return bool(self.include.fullmatch(name)) and not self.exclude.fullmatch(name)


DEFAULT_UNITS = UnitChoice()
