"""Numbers that only a program tells: it runs in the background, once for everything, and what it said last is shown."""

from __future__ import annotations

from pymon.sources.programs.background import Filled, Program
from pymon.sources.programs.node import ProgramSource
from pymon.sources.programs.ntpq import Ntpq
from pymon.sources.programs.zfs import Zfs
from pymon.sources.programs.zpool import Zpool

__all__ = ["Filled", "Ntpq", "Program", "ProgramSource", "Zfs", "Zpool"]
