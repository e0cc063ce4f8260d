"""Statistics of the NTP daemon, from ntpq: its peers, the daemon itself, and its system peer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.program_fields import (
    NTP_FIELDS,
    NTP_PEER_FIELDS,
    NTP_PEER_TABLE,
    NTP_SYSPEER_FIELDS,
    NTP_SYSPEER_TABLE,
    NTP_TABLE,
)
from pymon.sources.errors import SourceError
from pymon.sources.node.kernel_text import text
from pymon.sources.programs.background import Problems, Program, Run
from pymon.sources.programs.ntp_text import Peers, Statistics, parse_peers, parse_statistics
from pymon.sources.programs.process import shown

_COMMANDS = ("iostats", "kerninfo", "monstats", "sysinfo", "sysstats")
_NO_DAEMON = ("Connection refused", "ntpd is not running")
_NO_PEERS = "No association ID"


@dataclass(frozen=True, slots=True)
class Clock:
    """Parsed output of both calls of ntpq in a run."""

    peers: Peers
    statistics: Statistics


class Ntpq(Program[Clock]):
    """Tables ntp (one row), ntp_syspeer (one row; none without a system peer) and ntp_peer {remote}."""

    name: ClassVar[str] = "ntp"
    ttl_seconds: ClassVar[float] = 64.0
    deadline_seconds: ClassVar[float] = 10.0

    def __init__(
        self, *, directories: Sequence[str] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ntp = Table(NTP_TABLE, NTP_FIELDS)
        self._syspeer = Table(NTP_SYSPEER_TABLE, NTP_SYSPEER_FIELDS)
        self._peers = Table(NTP_PEER_TABLE, NTP_PEER_FIELDS)
        super().__init__((self._ntp, self._syspeer, self._peers), directories=directories, clock=clock)

    def _query(self, run: Run, problems: Problems) -> Clock:
        said = _ask(run, "apeers")
        peers = parse_peers(said, problems) if said else Peers()
        commands = _COMMANDS if peers.system is None else (*_COMMANDS, f"readvar {peers.system}")
        try:
            statistics = parse_statistics(_ask(run, *commands), peers.system, problems)
        except SourceError as failure:
            if not peers.cells:
                raise
            problems.found.append(failure)
            statistics = Statistics()
        if not peers.cells and not statistics.daemon:
            raise SourceError("parse", "ntpq: neither peers nor statistics in what it printed")
        return Clock(peers, statistics)

    def _publish(self, result: Clock, rows: Mapping[str, int], *, new: bool) -> tuple[int, ...]:  # noqa: ARG002
        if new:
            for table in self.tables:
                table.clear()
            for table, cells in ((self._ntp, result.statistics.daemon), (self._syspeer, result.statistics.syspeer)):
                if cells:
                    table.fill(table.add_row(), [cells.get(name) for name in table.columns])
            for remote, cells in result.peers.cells.items():
                row = self._peers.add_row((("remote", remote),))
                self._peers.fill(row, [cells.get(name) for name in NTP_PEER_FIELDS])
        return ()


def _ask(run: Run, *commands: str) -> str:
    """Run ntpq commands and return their output, or "" when there are no peers.

    Raises SourceError "nodata" when no daemon runs, and "exit" when nothing is printed. The exit status is not checked,
    because it is 0 without a daemon too.
    """
    output = run.call("ntpq", "-n", *(word for command in commands for word in ("-c", command)))
    if any(words in output.stderr for words in _NO_DAEMON):
        raise SourceError("nodata", "ntpq: no ntpd is running")
    if not output.stdout.strip() and _NO_PEERS not in output.stderr:
        said = output.stderr.strip().split("\n")[0]
        raise SourceError("exit", f"ntpq: printed nothing, exit status {output.status}, {shown(said)}")
    return text(output.stdout).strip()
