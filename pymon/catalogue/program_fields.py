"""Tables that programs fill: zfs(8), zpool(8), ntpq(8), as those programs spell their fields.

Cells are integers. A cell whose text does not parse, or is `-`, is absent.
"""

from __future__ import annotations

from collections.abc import Mapping

ZFS_TABLE = "zfs"
"""A row for each zone, row i with parent i: the dataset of the zone's root, from `zfs list -Hp`."""

ZFS_BYTES_FIELDS = (
    "available",
    "used",
    "logicalused",
    "recordsize",
    "quota",
    "usedbydataset",
    "usedbysnapshots",
    "referenced",
    "logicalreferenced",
)
"""Bytes. A quota of 0 is what zfs says where there is none, and is kept."""

ZFS_RATIO_FIELDS = ("compressratio", "refcompressratio")
"""Hundredths: `1.53` and `1.53x` are 153."""

ZFS_FIELDS = ZFS_BYTES_FIELDS + ZFS_RATIO_FIELDS

ZPOOL_TABLE = "zpool_list"
"""A row for each pool {pool}, from `zpool list -Hp`."""

ZPOOL_FIELDS = ("allocated", "fragmentation", "health", "size")
"""Bytes; percent (`12` and `12%` are 12); index in ZPOOL_HEALTH, -1 for another word; bytes."""

ZPOOL_HEALTH = ("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "REMOVED", "UNAVAIL")

NTP_TABLE = "ntp"
"""One row: `ntpq -n -c iostats -c kerninfo -c monstats -c sysinfo -c sysstats`."""

NTP_INTEGER_FIELDS = (
    # iostats
    "time since reset",
    "receive buffers",
    "free receive buffers",
    "used receive buffers",
    "low water refills",
    "dropped packets",
    "ignored packets",
    "received packets",
    "packets sent",
    "packet send failures",
    "input wakeups",
    "useful input wakeups",
    # kerninfo
    "pll time constant",
    "calibration interval",
    "calibration cycles",
    "jitter exceeded",
    "stability exceeded",
    # monstats; `enabled` is hexadecimal, such as 0x1
    "enabled",
    "addresses",
    "peak addresses",
    "maximum addresses",
    "reclaim above count",
    "reclaim older than",
    "kilobytes",
    "maximum kilobytes",
    # sysinfo; `leap indicator` is binary, such as 00 or 11
    "leap indicator",
    "stratum",
    "log2 precision",
    # sysstats
    "uptime",
    "sysstats reset",
    "current version",
    "older version",
    "bad length or format",
    "authentication failed",
    "declined",
    "restricted",
    "rate limited",
    "KoD responses",
    "processed for time",
)
"""As ntpq says it before the colon (`calibration interval` has none); the value itself."""

NTP_DECIMAL_FIELDS = (
    "pll offset",
    "pll frequency",
    "maximum error",
    "estimated error",
    "precision",
    "frequency tolerance",
    "pps frequency",
    "pps stability",
    "pps jitter",
    "root delay",
    "root dispersion",
    "system jitter",
    "clock jitter",
    "clock wander",
    "broadcast delay",
)
"""Billionths of what ntpq says (`-0.313` is -313000000, `1.6e+07` is 16 * 10**15), in two's complement."""

NTP_MODE_FIELD = "system peer mode"
"""Index in NTP_MODES, -1 for another word."""

NTP_MODES = (
    "bclient", "broadcast", "client", "control", "private", "server", "sym_active", "sym_passive", "unspec",
)  # fmt: skip

NTP_TIME_FIELD = "reference time"
"""Time since 1900: seconds << 32 | fraction, the two hexadecimal words of ntpq. `(no time)` is absent."""

LEGACY = ":legacy"
"""Ends the name of a column with billionths of a second of what cmon-agent makes of such a time: it writes the fraction
as a decimal integer behind the point, so that `.67c8d279` is `.1741214329`, cut here to nine digits.
"""

NTP_FIELDS = (
    *NTP_INTEGER_FIELDS,
    *NTP_DECIMAL_FIELDS,
    NTP_MODE_FIELD,
    NTP_TIME_FIELD,
    NTP_TIME_FIELD + LEGACY,
)

NTP_SYSPEER_TABLE = "ntp_syspeer"
"""One row: `ntpq -n -c 'readvar ASSID'` of the peer that apeers marks with `*`. No row where there is none."""

NTP_SYSPEER_INTEGER_FIELDS = (
    "leap",
    "stratum",
    "precision",
    "unreach",
    "hmode",
    "pmode",
    "hpoll",
    "ppoll",
)
"""The value itself; `leap` is binary, such as 01; `precision` may be negative."""

NTP_SYSPEER_DECIMAL_FIELDS = ("rootdelay", "rootdisp", "headway", "offset", "delay", "dispersion", "jitter", "xleave")
"""Billionths, as NTP_DECIMAL_FIELDS."""

NTP_SYSPEER_TIME_FIELDS = ("reftime", "rec")
"""As NTP_TIME_FIELD."""

NTP_SYSPEER_FIELDS = (
    *NTP_SYSPEER_INTEGER_FIELDS,
    *NTP_SYSPEER_DECIMAL_FIELDS,
    *NTP_SYSPEER_TIME_FIELDS,
    *(field + LEGACY for field in NTP_SYSPEER_TIME_FIELDS),
)

NTP_PEER_TABLE = "ntp_peer"
"""A row for each line of `ntpq -n -c apeers` {remote}."""

NTP_PEER_FIELDS = ("delay", "offset", "jitter", "poll", "reach", "refid", "t", "st", "state", "when")
"""delay, offset, jitter: billionths. poll: seconds. reach: how many of the last 8 bits of that octal number are 0.
refid: index in NTP_REFIDS, 0 for an address in 8 hexadecimal digits, -1 for another word. t: index in NTP_PEER_TYPES
or -1. st: the number. state: index in NTP_PEER_STATES of the character before the name, or -1. when: seconds (m, h and
d expanded), -1 for `-`.
"""

NTP_PEER_TYPES = ("u", "b", "l", "s", "A", "B", "M")

NTP_PEER_STATES = (" ", "x", ".", "-", "+", "#", "*", "o")
"""invalid, falseticker, overflow, pruned, candidate, backup, syspeer, pps."""

NTP_REFIDS = (
    ".IPADDR.", ".ACST.", ".ACTS.", ".AUTH.", ".AUTO.", ".BCST.", ".CHU.", ".CRYPT.", ".DCFx.", ".DENY.", ".GAL.",
    ".GOES.", ".GPS.", ".HBG.", ".INIT.", ".IRIG.", ".JJY.", ".LFx.", ".LOCL.", ".LORC.", ".MCST.", ".MSF.", ".NIST.",
    ".PPS.", ".PTB.", ".RATE.", ".STEP.", ".TDF.", ".TIME.", ".USNO.", ".WWV.", ".WWVB.", ".WWVH.",
)  # fmt: skip
"""As ntpq writes them, in the order of cmon-agent's numbers."""

TIME_TABLE = "time"
"""One row: the node's clock."""

TIME_FIELDS = ("now_ns",)
"""Nanoseconds since 1970."""

LABELS: Mapping[str, tuple[str, ...]] = {ZPOOL_TABLE: ("pool",), NTP_PEER_TABLE: ("remote",)}
"""Labels of the rows of tables that have some."""
