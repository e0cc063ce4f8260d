"""How long containers wait for a CPU and for block devices. The collector container_latency; BPF counts, no file does.

Times fall into buckets whose bounds are powers of two of a second, four times as long each. These are also the buckets
of a native histogram of Prometheus, whose bounds are such powers.
"""

from __future__ import annotations

from pymon.catalogue.model import NSEC, Column, Kind, Metric, Sample, counter

COLLECTOR = "container_latency"

TASKS, REQUESTS = "latency.tasks", "latency.requests"
"""The tables: a row for each container, and one for each device and operation of it."""

REQUEST_LABELS = ("device", "operation")


FIRST, STEP, BUCKETS = 10, 2, 15
"""The first bucket is up to 2**FIRST units of 2**-30 s, each other up to 2**STEP times as long. The last of BUCKETS has
no bound."""

_BUCKET = tuple(f"bucket:{number}" for number in range(BUCKETS))
_COUNT = _BUCKET[-1]
"""Cells hold the times of a bucket and of those before it, so that the last one holds how many there are."""

BY = ("same", "other", "system")
"""Who ran instead of a task that was preempted: a container of its account, of another, or of none."""

_PREEMPTED = tuple(f"preempted:{by}" for by in BY)

COLUMNS = {TASKS: (*_BUCKET, "sum", *_PREEMPTED, "other"), REQUESTS: (*_BUCKET, "sum")}
"""Columns by table, in the order of native/bpf/latency.h."""


def bounds_seconds() -> tuple[str, ...]:
    """Return the bound of each bucket in seconds, with a point or an exponent, as OpenMetrics wants it."""
    return (*(repr(2.0 ** (FIRST + STEP * number - 30)) for number in range(BUCKETS - 1)), "+Inf")


def _histogram(name: str, help: str, table: str) -> Metric:
    buckets = (
        Sample((Column(table, key),), labels=(("le", bound),), suffix="_bucket")
        for key, bound in zip(_BUCKET, bounds_seconds(), strict=True)
    )
    sum_and_count = (
        Sample((Column(table, "sum", NSEC),), suffix="_sum"),
        Sample((Column(table, _COUNT),), suffix="_count"),
    )
    return Metric(name, Kind.HISTOGRAM, help, COLLECTOR, (*buckets, *sum_and_count))


METRICS: tuple[Metric, ...] = (
    _histogram(
        "container_cpu_run_delay_seconds",
        "Time from when a task became runnable, or was preempted, to when it ran, in seconds.",
        TASKS,
    ),
    Metric(
        "container_cpu_preemptions_total",
        Kind.COUNTER,
        "Times that a runnable task lost its CPU, by whose task ran instead: the same account's, another's, nobody's.",
        COLLECTOR,
        tuple(Sample((Column(TASKS, key),), labels=(("by", by),)) for key, by in zip(_PREEMPTED, BY, strict=True)),
    ),
    counter(
        "container_cpu_run_delay_other_seconds_total",
        "The part of the run delay during which containers of other accounts ran on that CPU, in seconds.",
        COLLECTOR,
        Column(TASKS, "other", NSEC),
    ),
    _histogram(
        "container_io_latency_seconds",
        "Time from when a request was given to a block device to when it was done, in seconds.",
        REQUESTS,
    ),
)

OF_NEIGHBOURS = frozenset(("container_cpu_preemptions_total", "container_cpu_run_delay_other_seconds_total"))
"""Families that tell what other accounts' containers do."""
