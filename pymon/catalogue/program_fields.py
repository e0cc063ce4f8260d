"""Tables that are filled from the output of zfs(8), zpool(8) and ntpq(8). Fields have the names of these programs.

Cells are integers. If the text of a field is `-` or cannot be parsed, the cell is absent.
"""

from __future__ import annotations

from collections.abc import Mapping

ZFS_TABLE = "zfs"
"""One row for each zone, row i with parent i: the dataset of the zone's root, from `zfs list -Hp`."""

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
"""In bytes. zfs reports a quota of 0 if there is none; the 0 is kept."""

ZFS_RATIO_FIELDS = ("compressratio", "refcompressratio")
"""In hundredths: `1.53` and `1.53x` become 153."""

ZFS_FIELDS = ZFS_BYTES_FIELDS + ZFS_RATIO_FIELDS

ZPOOL_TABLE = "zpool_list"
"""One row for each pool, with the label `pool`, from `zpool list -Hp`."""

ZPOOL_FIELDS = ("allocated", "fragmentation", "health", "size")
"""allocated, size: bytes. fragmentation: percent (`12` and `12%` become 12). health: index in ZPOOL_HEALTH, or -1."""

ZPOOL_HEALTH = ("ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "REMOVED", "UNAVAIL")

NTP_TABLE = "ntp"
"""One row, from `ntpq -n -c iostats -c kerninfo -c monstats -c sysinfo -c sysstats`."""

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
"""Fields with integer values. The name is what ntpq prints before the colon (`calibration interval` has no colon)."""

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
"""In billionths (`-0.313` becomes -313000000, `1.6e+07` becomes 16 * 10**15), in two's complement."""

NTP_MODE_FIELD = "system peer mode"
"""The cell is the index in NTP_MODES, -1 for other words."""

NTP_MODES = (
    "bclient", "broadcast", "client", "control", "private", "server", "sym_active", "sym_passive", "unspec",
)  # fmt: skip

NTP_TIME_FIELD = "reference time"
"""Time since 1900: seconds << 32 | binary fraction, from two hexadecimal numbers. `(no time)` is absent."""

LEGACY = ":legacy"
"""Suffix of a column with such a time as cmon-agent converts it, in billionths of a second.

cmon-agent writes the fraction as a decimal integer after the point: `.67c8d279` becomes `.1741214329`. Here it is cut
to nine digits.
"""

NTP_FIELDS = (
    *NTP_INTEGER_FIELDS,
    *NTP_DECIMAL_FIELDS,
    NTP_MODE_FIELD,
    NTP_TIME_FIELD,
    NTP_TIME_FIELD + LEGACY,
)

NTP_SYSPEER_TABLE = "ntp_syspeer"
"""One row, from `ntpq -n -c 'readvar ASSID'` for the peer that apeers marks with `*`. No row without such a peer."""

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
"""Fields with integer values. `leap` is binary, such as 01. `precision` may be negative."""

NTP_SYSPEER_DECIMAL_FIELDS = ("rootdelay", "rootdisp", "headway", "offset", "delay", "dispersion", "jitter", "xleave")
"""Fields with decimal values, kept in billionths of their unit, as those of NTP_DECIMAL_FIELDS."""

NTP_SYSPEER_TIME_FIELDS = ("reftime", "rec")
"""Times in the format of NTP_TIME_FIELD."""

NTP_SYSPEER_FIELDS = (
    *NTP_SYSPEER_INTEGER_FIELDS,
    *NTP_SYSPEER_DECIMAL_FIELDS,
    *NTP_SYSPEER_TIME_FIELDS,
    *(field + LEGACY for field in NTP_SYSPEER_TIME_FIELDS),
)

NTP_PEER_TABLE = "ntp_peer"
"""One row for each line of `ntpq -n -c apeers`, with the label `remote`."""

NTP_PEER_FIELDS = ("delay", "offset", "jitter", "poll", "reach", "refid", "t", "st", "state", "when")
"""delay, offset, jitter: in billionths. poll: seconds. reach: the number of zero bits in the last 8 bits of the octal
number. refid: index in NTP_REFIDS, 0 for an address in 8 hexadecimal digits, -1 for other words. t: index in
NTP_PEER_TYPES or -1. st: stratum. state: index in NTP_PEER_STATES of the character before the name, or -1. when:
seconds, -1 for `-`.
"""

NTP_PEER_TYPES = ("u", "b", "l", "s", "A", "B", "M")

NTP_PEER_STATES = (" ", "x", ".", "-", "+", "#", "*", "o")
"""They mean: invalid, falseticker, overflow, pruned, candidate, backup, system peer, pps."""

NTP_REFIDS = (
    ".IPADDR.", ".ACST.", ".ACTS.", ".AUTH.", ".AUTO.", ".BCST.", ".CHU.", ".CRYPT.", ".DCFx.", ".DENY.", ".GAL.",
    ".GOES.", ".GPS.", ".HBG.", ".INIT.", ".IRIG.", ".JJY.", ".LFx.", ".LOCL.", ".LORC.", ".MCST.", ".MSF.", ".NIST.",
    ".PPS.", ".PTB.", ".RATE.", ".STEP.", ".TDF.", ".TIME.", ".USNO.", ".WWV.", ".WWVB.", ".WWVH.",
)  # fmt: skip
"""In the spelling of ntpq and the order of cmon-agent's numbers."""

TIME_TABLE = "time"
"""One row with the node's clock."""

TIME_FIELDS = ("now_ns",)
"""Nanoseconds since 1970."""

LABELS: Mapping[str, tuple[str, ...]] = {ZPOOL_TABLE: ("pool",), NTP_PEER_TABLE: ("remote",)}
"""Table -> names of the labels of its rows. Other tables have none."""
