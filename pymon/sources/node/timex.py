"""The kernel's clock discipline, from adjtimex(2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import ONE, SIGNED, USEC, Column, Kind, Metric, Sample, Unit
from pymon.sources.errors import SourceError
from pymon.sources.node.adjtimex import Timex
from pymon.sources.node.source import Collector, NodeSource

TIMEX_FIELDS = (
    "esterror",
    "frequency_ratio",
    "constant",
    "maxerror",
    "offset",
    "calcnt",
    "errcnt",
    "ppsfreq",
    "jitter",
    "jitcnt",
    "shift",
    "stbcnt",
    "stabil",
    "status",
    "synchronised",
    "tai",
    "tick",
)
"""The fields of struct timex in microseconds and counts. offset and jitter are in nanoseconds, frequency_ratio, ppsfreq
and stabil in 1e-15. synchronised is 0 or 1."""

_ERROR = 5
_NANOSECONDS = 0x2000
_FEMTO = 10**15
_SCALED_PPM = 65536 * 10**6

_SIGNED_NSEC = Unit(decimals=9, signed=True)
_SIGNED_FEMTO = Unit(decimals=15, signed=True)


class ClockDiscipline(NodeSource):
    """Table node_timex: one row, from adjtimex(2)."""

    name: ClassVar[str] = "timex"

    def __init__(self, adjtimex: Callable[[], tuple[int, Timex]]) -> None:
        self._adjtimex = adjtimex
        self._table = Table("node_timex", TIMEX_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        try:
            state, timex = self._adjtimex()
        except OSError as error:
            raise SourceError.from_os_error("adjtimex", error) from None
        to_nsec = 1 if timex.status & _NANOSECONDS else 1000
        values = {
            "esterror": timex.esterror,
            "frequency_ratio": _FEMTO + _femto(timex.freq),
            "constant": timex.constant,
            "maxerror": timex.maxerror,
            "offset": timex.offset * to_nsec,
            "calcnt": timex.calcnt,
            "errcnt": timex.errcnt,
            "ppsfreq": _femto(timex.ppsfreq),
            "jitter": timex.jitter * to_nsec,
            "jitcnt": timex.jitcnt,
            "shift": timex.shift,
            "stbcnt": timex.stbcnt,
            "stabil": _femto(timex.stabil),
            "status": timex.status,
            "synchronised": int(state != _ERROR),
            "tai": timex.tai,
            "tick": timex.tick,
        }
        row = self._table.add_row()
        self._table.fill(row, [values[field] if abs(values[field]) < 2**63 else None for field in TIMEX_FIELDS])


def _femto(scaled: int) -> int:
    """Return a frequency in parts per million with a fraction of 16 bits, as timex has it, in 1e-15."""
    size = abs(scaled) * _FEMTO // _SCALED_PPM
    return size if scaled >= 0 else -size


def _timex(suffix: str, help: str, key: str, unit: Unit = ONE) -> Metric:
    kind = Kind.COUNTER if suffix.endswith("_total") else Kind.GAUGE
    return Metric(f"node_timex_{suffix}", kind, help, "timex", (Sample((Column("node_timex", key, unit),)),))


METRICS = (
    _timex("estimated_error_seconds", "Estimated error in seconds.", "esterror", USEC),
    _timex("frequency_adjustment_ratio", "Local clock frequency adjustment.", "frequency_ratio", _SIGNED_FEMTO),
    _timex("loop_time_constant", "Phase-locked loop time constant.", "constant"),
    _timex("maxerror_seconds", "Maximum error in seconds.", "maxerror", USEC),
    _timex("offset_seconds", "Time offset in between local system and reference clock.", "offset", _SIGNED_NSEC),
    _timex("pps_calibration_total", "Pulse per second count of calibration intervals.", "calcnt"),
    _timex("pps_error_total", "Pulse per second count of calibration errors.", "errcnt"),
    _timex("pps_frequency_hertz", "Pulse per second frequency.", "ppsfreq", _SIGNED_FEMTO),
    _timex("pps_jitter_seconds", "Pulse per second jitter.", "jitter", _SIGNED_NSEC),
    _timex("pps_jitter_total", "Pulse per second count of jitter limit exceeded events.", "jitcnt"),
    _timex("pps_shift_seconds", "Pulse per second interval duration.", "shift"),
    _timex("pps_stability_exceeded_total", "Pulse per second count of stability limit exceeded events.", "stbcnt"),
    _timex(
        "pps_stability_hertz",
        "Pulse per second stability, average of recent frequency changes.",
        "stabil",
        _SIGNED_FEMTO,
    ),
    _timex("status", "Value of the status array bits.", "status"),
    _timex("sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no).", "synchronised"),
    _timex("tai_offset_seconds", "International Atomic Time (TAI) offset.", "tai", SIGNED),
    _timex("tick_seconds", "Seconds between clock ticks.", "tick", USEC),
)

COLLECTOR = Collector(ClockDiscipline.name, lambda node: ClockDiscipline(node.adjtimex), METRICS)
