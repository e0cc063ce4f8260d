"""The summary of the containers of nodes: ``/v1/summary``, written by the agent, read by the proxy and the page.

The document is a JSON object. ``columns`` names the items of a row. ``nodes`` has an object for each node: ``uuid``,
``hostname``, ``time`` (of the reading, in seconds since the epoch), ``containers`` (a list of rows), and what only
operators see: ``machine``, ``source`` (where the numbers come from, for people) and ``collectors``. A row with
``end_seconds`` is of a container that has ended; its numbers are the last ones. A node that could not be asked has
``error``, one line, instead.
"""

from __future__ import annotations

TEXT_COLUMNS = ("uuid", "name", "image", "runtime", "state", "health", "owner")

NUMBER_COLUMNS = {
    "start_seconds": "container_start_time_seconds",
    "cpu_seconds": "container_cpu_usage_seconds_total",
    "throttled_seconds": "container_cpu_cfs_throttled_seconds_total",
    "memory_bytes": "container_memory_working_set_bytes",
    "memory_limit_bytes": "container_spec_memory_limit_bytes",
    "swap_bytes": "container_memory_swap",
    "oom_kills": "container_oom_events_total",
    "receive_bytes": "container_network_receive_bytes_total",
    "transmit_bytes": "container_network_transmit_bytes_total",
    "read_bytes": "container_fs_reads_bytes_total",
    "write_bytes": "container_fs_writes_bytes_total",
    "cpu_waiting_seconds": "container_pressure_cpu_waiting_seconds_total",
    "memory_waiting_seconds": "container_pressure_memory_waiting_seconds_total",
    "io_waiting_seconds": "container_pressure_io_waiting_seconds_total",
    "processes": "container_processes",
    "end_seconds": "container_end_time_seconds",
    "exit_code": "container_last_exit_code",
}
"""Column -> the metric of the same value, summed over its series of the container. An item is null where there is no
value."""

COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)

MAX_TEXT_CHARACTERS = 256
"""Longer texts are cut: a tenant writes names and images."""
