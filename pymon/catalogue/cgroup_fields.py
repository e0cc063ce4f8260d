"""Field lists of container tables that the kernel does not name in the files themselves."""

from __future__ import annotations

HUGEPAGE_SIZES = ("64KB", "1MB", "2MB", "16MB", "32MB", "512MB", "1GB", "16GB")
"""Every huge page size of the kernel's architectures, as hugetlb's file names spell them."""

TCP_STATES = (
    "established",
    "synsent",
    "synrecv",
    "finwait1",
    "finwait2",
    "timewait",
    "close",
    "closewait",
    "lastack",
    "listen",
    "closing",
)
"""In the order of the kernel's numbers, from 1 (include/net/tcp_states.h)."""

UDP_STATES = ("listen", "dropped", "rxqueued", "txqueued")

NETWORK_FIELDS = tuple(
    f"{way}_{field}"
    for way, fields in (
        ("receive", ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")),
        ("transmit", ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")),
    )
    for field in fields
)
"""Columns of a line of /proc/PID/net/dev, in order."""
