"""cAdvisor's metrics of block devices that need more than the bytes and operations that every kernel counts.

Times, merges and queues are counted by the scheduler of a device, by control group only with version 1: by CFQ, and by
BFQ in kernels with CONFIG_BFQ_CGROUP_DEBUG.
"""

from __future__ import annotations

from pymon.catalogue.model import NSEC, Column, Metric, Unit, counter, gauge

SECTORS_OF_BYTES = Unit(divide=512)

IO_SCHEDULER: tuple[Metric, ...] = (
    *(
        counter(
            f"container_fs_sector_{plural}_total",
            f"Sectors of 512 bytes {past} the device.",
            "container_io_scheduler",
            Column("io.v2", f"{plural[0]}bytes", SECTORS_OF_BYTES),
            Column("io.v1", f"blkio.throttle.io_service_bytes_recursive:{operation}", SECTORS_OF_BYTES),
        )
        for operation, plural, past in (("Read", "reads", "read from"), ("Write", "writes", "written to"))
    ),
    *(
        counter(
            f"container_fs_{verb}_seconds_total",
            f"Time that the device needed for {what}, in seconds, as far as its scheduler counts it.",
            "container_io_scheduler",
            Column("iosched.v1", f"blkio.bfq.io_service_time_recursive:{operation}", NSEC),
        )
        for operation, verb, what in (
            ("Read", "read", "reads"),
            ("Write", "write", "writes"),
            ("Total", "io_time", "all operations"),
        )
    ),
    *(
        counter(
            f"container_fs_{plural}_merged_total",
            f"{plural.capitalize()} that the scheduler merged with others.",
            "container_io_scheduler",
            Column("iosched.v1", f"blkio.bfq.io_merged_recursive:{operation}"),
        )
        for operation, plural in (("Read", "reads"), ("Write", "writes"))
    ),
    gauge(
        "container_fs_io_current",
        "Operations that wait in the scheduler's queue or are with the device.",
        "container_io_scheduler",
        Column("iosched.v1", "blkio.bfq.io_queued_recursive:Total"),
    ),
)
