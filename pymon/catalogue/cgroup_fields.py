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

SCHED_FIELDS = ("run", "runqueue", "periods")
"""/proc/PID/schedstat: nanoseconds on a CPU, nanoseconds waiting for one, times on one."""

DESCRIPTOR_FIELDS = ("files", "sockets")
"""Entries of /proc/PID/fd, and those of them that are sockets."""

ULIMIT_FIELDS = ("max_open_files",)
"""Soft limits of /proc/PID/limits."""

ADVANCED_TCP_FIELDS = (
    *(
        f"Tcp:{field}"
        for field in (
            "RtoAlgorithm",
            "RtoMin",
            "RtoMax",
            "MaxConn",
            "ActiveOpens",
            "PassiveOpens",
            "AttemptFails",
            "EstabResets",
            "CurrEstab",
            "InSegs",
            "OutSegs",
            "RetransSegs",
            "InErrs",
            "OutRsts",
            "InCsumErrors",
        )
    ),
    *(
        f"TcpExt:{field}"
        for field in (
            "EmbryonicRsts",
            "SyncookiesSent",
            "SyncookiesRecv",
            "SyncookiesFailed",
            "PruneCalled",
            "RcvPruned",
            "OfoPruned",
            "OutOfWindowIcmps",
            "LockDroppedIcmps",
            "TW",
            "TWRecycled",
            "TWKilled",
            "TCPTimeWaitOverflow",
            "TCPTimeouts",
            "TCPSpuriousRTOs",
            "TCPLossProbes",
            "TCPLossProbeRecovery",
            "TCPRenoRecoveryFail",
            "TCPSackRecoveryFail",
            "TCPRenoFailures",
            "TCPSackFailures",
            "TCPLossFailures",
            "DelayedACKs",
            "DelayedACKLocked",
            "DelayedACKLost",
            "ListenOverflows",
            "ListenDrops",
            "TCPHPHits",
            "TCPPureAcks",
            "TCPHPAcks",
            "TCPRenoRecovery",
            "TCPSackRecovery",
            "TCPSACKReneging",
            "TCPFACKReorder",
            "TCPSACKReorder",
            "TCPRenoReorder",
            "TCPTSReorder",
            "TCPFullUndo",
            "TCPPartialUndo",
            "TCPDSACKUndo",
            "TCPLossUndo",
            "TCPFastRetrans",
            "TCPSlowStartRetrans",
            "TCPLostRetransmit",
            "TCPRetransFail",
            "TCPRcvCollapsed",
            "TCPDSACKOldSent",
            "TCPDSACKOfoSent",
            "TCPDSACKRecv",
            "TCPDSACKOfoRecv",
            "TCPAbortOnData",
            "TCPAbortOnClose",
            "TCPAbortOnMemory",
            "TCPAbortOnTimeout",
            "TCPAbortOnLinger",
            "TCPAbortFailed",
            "TCPMemoryPressures",
            "TCPMemoryPressuresChrono",
            "TCPSACKDiscard",
            "TCPDSACKIgnoredOld",
            "TCPDSACKIgnoredNoUndo",
            "TCPMD5NotFound",
            "TCPMD5Unexpected",
            "TCPMD5Failure",
            "TCPSackShifted",
            "TCPSackMerged",
            "TCPSackShiftFallback",
            "TCPBacklogDrop",
            "PFMemallocDrop",
            "TCPMinTTLDrop",
            "TCPDeferAcceptDrop",
            "IPReversePathFilter",
            "TCPReqQFullDoCookies",
            "TCPReqQFullDrop",
            "TCPFastOpenActive",
            "TCPFastOpenActiveFail",
            "TCPFastOpenPassive",
            "TCPFastOpenPassiveFail",
            "TCPFastOpenListenOverflow",
            "TCPFastOpenCookieReqd",
            "TCPSynRetrans",
            "TCPOrigDataSent",
            "PAWSActive",
            "PAWSEstab",
        )
    ),
)
"""Protocol and field of /proc/PID/net/snmp and /proc/PID/net/netstat, those that cAdvisor has. Kernels lack some."""
