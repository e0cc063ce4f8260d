"""What is told of a container that has ended: its last numbers, and how it ended. Its state while it ran, too.

The last numbers have the names of the running containers' numbers, so that a query sees what was counted between the
last scrape and the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from pymon.catalogue.model import MILLI, NSEC, ONE, SIGNED, Column, Kind, Metric, Sample, Unit, counter, gauge

TABLE = "stopped"

COLLECTOR = "container"

STATES = ("exited", "dead")
"""States of a container that has ended. Docker calls one dead that it could not remove."""

RUNNING_STATES = ("running", "paused")
"""States of a container that runs, which are in the table of those."""


class Last(NamedTuple):
    """A number that is kept: its column and unit, and the metric of running containers that it continues.

    labels: constant labels of the series.
    """

    key: str
    metric: str
    unit: Unit = ONE
    labels: tuple[tuple[str, str], ...] = ()


LAST = (
    Last("start_seconds", "container_start_time_seconds"),
    Last("usage_ns", "container_cpu_usage_seconds_total", NSEC, (("cpu", "total"),)),
    Last("user_ns", "container_cpu_user_seconds_total", NSEC),
    Last("system_ns", "container_cpu_system_seconds_total", NSEC),
    Last("peak_bytes", "container_memory_max_usage_bytes"),
    Last("oom_kills", "container_oom_events_total"),
)

COLUMNS = (*(last.key for last in LAST), "end_ms", "exit_code", "restarts", "exact", *STATES)

METRICS: tuple[Metric, ...] = (
    gauge(
        "container_end_time_seconds",
        "Unix time at which the container ended.",
        COLLECTOR,
        Column(TABLE, "end_ms", MILLI),
    ),
    gauge(
        "container_last_exit_code",
        "Exit code of the container's last run, or 128 and the number of the signal that ended it.",
        COLLECTOR,
        Column(TABLE, "exit_code", SIGNED),
    ),
    counter(
        "container_restarts_total",
        "Restarts of the container that its runtime has counted, or that the agent has seen if these are more.",
        COLLECTOR,
        Column(TABLE, "restarts"),
    ),
    Metric(
        "container_state",
        Kind.GAUGE,
        "State of a container as its runtime tells it, always 1; one that has ended has one in any case.",
        COLLECTOR,
        tuple(
            Sample((Column(table, state),), labels=(("state", state),))
            for table, states in ((TABLE, STATES), ("container", RUNNING_STATES))
            for state in states
        ),
    ),
    gauge(
        "pymon_container_last_numbers_exact",
        "Whether the last numbers of a container that has ended were read after its last process was gone.",
        COLLECTOR,
        Column(TABLE, "exact"),
    ),
)


def with_last(metrics: Iterable[Metric]) -> list[Metric]:
    """Return the metrics, with a series for each number that is kept of containers that have ended."""
    kept = {last.metric: Sample((Column(TABLE, last.key, last.unit),), last.labels) for last in LAST}
    return [
        replace(metric, samples=(*metric.samples, kept[metric.name])) if metric.name in kept else metric
        for metric in metrics
    ]
