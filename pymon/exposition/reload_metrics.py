"""Metrics of files that a process reads again, and of the certificates in them. Agent and proxy share them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pymon.exposition.own_metrics import OwnMetrics


class Reload(Protocol):
    """What became of reading the files of one use.

    error: "" if the last attempt worked. worked_at: of the last one that worked, in seconds since the epoch, or 0.
    """

    use: str
    failures: int
    error: str
    worked_at: float


def tell_of_reloads(metrics: OwnMetrics, reloads: Sequence[Reload], ends: Callable[[], Mapping[str, float]]) -> None:
    """Register the metrics. A use whose files were never read or tried has no values.

    ends: returns when what is used or trusted ends, by use; infinite values are left out.
    """

    def tried() -> list[Reload]:
        return [one for one in reloads if one.worked_at or one.error]

    metrics.gauges(
        "pymon_certificate_expiry_timestamp_seconds",
        "When the first certificate or list of revoked ones of this use expires, in seconds since the epoch.",
        ("use",),
        lambda: {(use,): end for use, end in ends().items() if math.isfinite(end)},
    )
    metrics.counters(
        "pymon_reload_failures", "Attempts to read changed files that failed, by use; what was read before stays.",
        ("use",), lambda: {(one.use,): one.failures for one in tried()},
    )  # fmt: skip
    metrics.gauges(
        "pymon_reload_last_successful", "Whether the last attempt to read the files worked, by use.", ("use",),
        lambda: {(one.use,): float(not one.error) for one in tried()},
    )  # fmt: skip
    metrics.gauges(
        "pymon_reload_last_success_timestamp_seconds",
        "When the files were last read with success, in seconds since the epoch, by use.", ("use",),
        lambda: {(one.use,): one.worked_at for one in reloads if one.worked_at},
    )  # fmt: skip
