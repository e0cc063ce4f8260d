"""Numbers from the output of programs. A program runs in the background, and scrapes show its last output."""

from __future__ import annotations

from pymon.sources.programs.background import Filled, Program
from pymon.sources.programs.node import ProgramSource
from pymon.sources.programs.ntpq import Ntpq
from pymon.sources.programs.zfs import Zfs
from pymon.sources.programs.zpool import Zpool

__all__ = ["Filled", "Ntpq", "Program", "ProgramSource", "Zfs", "Zpool"]
