"""Load averages of containers, from samples that the collector container_tasks takes every second."""

from __future__ import annotations

from pymon.catalogue.model import Column, gauge

COLLECTOR = "container_tasks"

TABLE = "load"

SOURCE = "tasks"
"""The table that samples are taken of."""

COLUMNS = ("running", "uninterruptible")
"""Averages of its columns, in thousandths."""

METRICS = (
    gauge(
        "container_cpu_load_average_10s",
        "Average number of threads that ran or waited for a CPU, over about ten seconds, in thousandths.",
        COLLECTOR,
        Column(TABLE, "running"),
    ),
    gauge(
        "container_cpu_load_d_average_10s",
        "Average number of threads that could not be interrupted, over about ten seconds, in thousandths.",
        COLLECTOR,
        Column(TABLE, "uninterruptible"),
    ),
)
