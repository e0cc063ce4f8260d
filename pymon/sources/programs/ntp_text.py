"""Parses the output of ntpq(8) of ntp 4.2 and of ntpsec.

`apeers` prints a table. Its first columns may touch (`GPS_NMEA(0)12018`), so a line is split from its end:

         remote       refid   assid  st t when poll reach   delay   offset  jitter
    ==============================================================================
    *198.58.110.84   d8dafeca 33560   2 u  673 1024  377   44.348    0.176   2.328

The other commands print `name:  value`, and `readvar` prints lists of `name=value` after a line `associd=33560 …`.

ntpsec has wider columns, writes times as `1D 02:03:04`, and appends the count of another period and rates to counts:

    received packets:                  4        5.0s/p
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pymon.catalogue.program_fields import (
    LEGACY,
    NTP_DECIMAL_FIELDS,
    NTP_INTEGER_FIELDS,
    NTP_MODE_FIELD,
    NTP_MODES,
    NTP_PEER_FIELDS,
    NTP_PEER_STATES,
    NTP_PEER_TYPES,
    NTP_REFIDS,
    NTP_SYSPEER_DECIMAL_FIELDS,
    NTP_SYSPEER_INTEGER_FIELDS,
    NTP_SYSPEER_TIME_FIELDS,
    NTP_TIME_FIELD,
)
from pymon.sources.errors import SourceError
from pymon.sources.programs.background import Problems
from pymon.sources.programs.numbers import billionths, hexadecimal, integer
from pymon.sources.programs.process import shown

_HEADER = "remote refid assid st t when poll reach delay offset jitter".split()
_RIGHT_COLUMNS = 8
_HEAD = re.compile(r"(?P<remote>\S+)\s+(?:(?P<refid>\S*\)|\S+(?=\s))\s*)?(?P<assid>[0-9]{1,10})")
_ADDRESS = re.compile(r"[0-9a-f]{1,8}")
_REACH = re.compile(r"[0-7]{1,3}")
_REACH_BITS = 8
_INTERVAL = re.compile(r"([0-9]{1,9})([mhd]?)")
_UNIT_SECONDS = {"": 1, "m": 60, "h": 3600, "d": 86400}
_ASSOCIATION = re.compile(r"ass(?:oc)?id=([0-9]{1,10})\b.*", re.IGNORECASE)
_STATISTIC = re.compile(r"([A-Za-z][A-Za-z0-9. ]*?)(?::\s*|\s{2,})(.*)")
_QUOTED = re.compile(r'"[^"]*"')
_VARIABLE = re.compile(r"\b([a-z_]+)=\s*([^,\n]*)")
_LEAP = re.compile(r"[01]{2}")
_TIME = re.compile(r"(?:0[xX])?([0-9a-fA-F]{8})\.([0-9a-fA-F]{8})(?:\s.*)?")
_NO_TIME = "(no time)"
_BILLION_DIGITS = 9
_PERIOD = r"(?:([0-9]{1,6})D )?([0-9]{2}):([0-9]{2}):([0-9]{2})"
_PERIODS = re.compile(rf"{_PERIOD}(?:\s+{_PERIOD})?")
_COUNTS = re.compile(r"([0-9]{1,20})(?:\s+[0-9]{1,20})?(?:\s+[0-9.]{1,20}(?:s/p|p/s)){0,2}")
_NTPSEC_NAMES = {"addresses in use": "addresses", "reclaim maxage": "reclaim older than"}

Cells = dict[str, int]


@dataclass(slots=True)
class Peers:
    """Peers from `apeers`.

    cells: values of each peer by its `remote`. system: association number of the system peer, None without one.

    ntpq cuts a remote at 15 characters. When two peers are equal after that, the first is kept, because a series has
    one value.
    """

    cells: dict[str, Cells] = field(default_factory=dict)
    system: int | None = None


def parse_peers(output: str, problems: Problems) -> Peers:
    """Parse the table of `apeers`. Raises SourceError when its header is missing."""
    lines = output.splitlines()
    peers = Peers()
    if not lines or lines[0].split() != _HEADER:
        said = lines[0] if lines else ""
        raise SourceError("parse", f"ntpq: apeers: expected a line {' '.join(_HEADER)!r}, got {shown(said)}")
    for line in lines[1:]:
        if line.strip("= "):
            _parse_peer(line, peers, problems)
    return peers


def _parse_peer(line: str, peers: Peers, problems: Problems) -> None:
    words = line[1:].rsplit(None, _RIGHT_COLUMNS)
    head = _HEAD.fullmatch(words[0].strip()) if len(words) > _RIGHT_COLUMNS else None
    if head is None:
        problems.misread("apeers", "a line of eleven columns", line)
        return
    remote, association = head["remote"], int(head["assid"])
    if line[0] == "*" and peers.system is None:
        peers.system = association
    if remote in peers.cells:
        problems.add("duplicate", f"apeers: a second peer {shown(remote)}")
        return
    stratum, type_, when, poll, reach, delay, offset, jitter = words[1:]
    refid = head["refid"] or ""
    cells: dict[str, int | None] = {
        "delay": billionths(delay),
        "offset": billionths(offset),
        "jitter": billionths(jitter),
        "poll": _interval(poll),
        "reach": _failures(reach),
        "refid": 0 if _ADDRESS.fullmatch(refid) else _index(NTP_REFIDS, refid),
        "t": _index(NTP_PEER_TYPES, type_),
        "st": integer(stratum),
        "state": _index(NTP_PEER_STATES, line[0]),
        "when": -1 if when == "-" else _interval(when),
    }
    for name in NTP_PEER_FIELDS:
        if cells[name] is None:
            problems.misread(f"apeers: {remote}: {name}", "a number", line)
    peers.cells[remote] = {name: value for name, value in cells.items() if value is not None}


def _index(words: tuple[str, ...], word: str) -> int:
    return words.index(word) if word in words else -1


def _interval(word: str) -> int | None:
    """Return an interval in seconds, or None. ntpq writes long intervals as `34m`, `17h`, `12d`."""
    match = _INTERVAL.fullmatch(word)
    return int(match[1]) * _UNIT_SECONDS[match[2]] if match else None


def _failures(word: str) -> int | None:
    """Return how many of the last eight polls had no answer: the zero bits of the octal number `reach`."""
    value = int(word, 8) if _REACH.fullmatch(word) else 1 << _REACH_BITS
    return _REACH_BITS - value.bit_count() if value < 1 << _REACH_BITS else None


@dataclass(slots=True)
class Statistics:
    """Values of the daemon and of its system peer. `syspeer` is empty without a system peer."""

    daemon: Cells = field(default_factory=dict)
    syspeer: Cells = field(default_factory=dict)


def parse_statistics(output: str, system: int | None, problems: Problems) -> Statistics:
    """Parse the output of iostats, kerninfo, monstats, sysinfo, sysstats, and `readvar` of the association `system`.

    Names that are not in the catalogue are ignored. A name that is not printed is absent.
    """
    found = Statistics()
    at_peer = False
    for line in output.splitlines():
        if association := _ASSOCIATION.fullmatch(line):
            at_peer = int(association[1]) == system
        elif at_peer:
            for variable in _VARIABLE.finditer(_QUOTED.sub('""', line)):
                _peer_variable(variable[1], variable[2].strip(), found.syspeer, problems)
        elif statistic := _STATISTIC.fullmatch(line):
            _statistic(statistic[1], statistic[2].strip(), found.daemon, problems)
    return found


def _peer_variable(name: str, value: str, cells: Cells, problems: Problems) -> None:
    if name in NTP_SYSPEER_TIME_FIELDS:
        _time(name, value, cells, problems)
    elif name == "leap":
        _set(cells, name, _binary(value), "two binary digits", value, problems)
    elif name in NTP_SYSPEER_INTEGER_FIELDS:
        _set(cells, name, integer(value), "an integer", value, problems)
    elif name in NTP_SYSPEER_DECIMAL_FIELDS:
        _set(cells, name, billionths(value), "a number", value, problems)


def _statistic(name: str, value: str, cells: Cells, problems: Problems) -> None:
    name = _NTPSEC_NAMES.get(name, name)
    if name == NTP_TIME_FIELD:
        _time(name, value, cells, problems)
    elif name == NTP_MODE_FIELD:
        cells.setdefault(name, _index(NTP_MODES, value))
    elif name == "leap indicator":
        _set(cells, name, _binary(value), "two binary digits", value, problems)
    elif name == "enabled":
        number = hexadecimal(value)
        _set(cells, name, integer(value) if number is None else number, "a number as 0x1", value, problems)
    elif name in NTP_INTEGER_FIELDS:
        _set(cells, name, _whole(value), "an integer", value, problems)
    elif name in NTP_DECIMAL_FIELDS:
        _set(cells, name, billionths(value), "a number", value, problems)


def _set(cells: Cells, name: str, value: int | None, expected: str, got: str, problems: Problems) -> None:
    if value is None:
        problems.misread(name, expected, got)
    else:
        cells.setdefault(name, value)


def _whole(value: str) -> int | None:
    """Return an integer, or None. Of ntpsec's counts it is the first, of its times the first in seconds."""
    if counts := _COUNTS.fullmatch(value):
        return integer(counts[1])
    if periods := _PERIODS.fullmatch(value):
        days, hours, minutes, seconds = (int(part or 0) for part in periods.groups()[:4])
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return integer(value)


def _binary(word: str) -> int | None:
    return int(word, 2) if _LEAP.fullmatch(word) else None


def _time(name: str, value: str, cells: Cells, problems: Problems) -> None:
    """Set a time such as `dd9e1c1e.67c8d279  Fri, Oct 27 2017 20:57:02.405` (RFC 5905, § 6).

    The hexadecimal numbers are the seconds since 1900 and their fraction in units of 2**-32 s. The cell `name` is the
    64-bit timestamp. The cell with the suffix LEGACY is the time in nanoseconds as cmon-agent shows it: it takes the
    first nine decimal digits of the fraction as nanoseconds, and 0 for a clock that was never set.
    """
    if value.startswith(_NO_TIME):
        if name == NTP_TIME_FIELD:
            cells.setdefault(name + LEGACY, 0)
        return
    match = _TIME.fullmatch(value)
    if match is None:
        problems.misread(name, "a time as dd9e1c1e.67c8d279", value)
    elif name not in cells:
        seconds, fraction = int(match[1], 16), int(match[2], 16)
        cells[name] = seconds << 32 | fraction
        digits = str(fraction)[:_BILLION_DIGITS].ljust(_BILLION_DIGITS, "0")
        cells[name + LEGACY] = seconds * 10**_BILLION_DIGITS + int(digits)
