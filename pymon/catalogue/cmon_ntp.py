"""Metrics of ntpd in the cmon dialect.

Times are divided as in cmon-agent, even if the divisor does not fit the unit in which ntpq reports them.
"""

from __future__ import annotations

from pymon.catalogue.model import KIB, ONE, SIGNED, Column, Kind, Metric, Sample, Unit
from pymon.catalogue.program_fields import LEGACY as LEGACY_SUFFIX
from pymon.catalogue.program_fields import NTP_PEER_TABLE, NTP_SYSPEER_TABLE, NTP_TABLE

BILLIONTHS = Unit(decimals=9, signed=True)
MSEC = Unit(decimals=12, signed=True)
"""The table has billionths of a value that cmon-agent treats as milliseconds."""
USEC = Unit(decimals=15, signed=True)
"""The table has billionths of a value that cmon-agent treats as microseconds."""
NTP_TIME = Unit(multiply=10**9, divide=2**32, decimals=9)
"""A 64-bit NTP timestamp (RFC 5905 §6): seconds since 1900 with a binary fraction. Converted to nanoseconds."""
LEGACY_TIME = Unit(decimals=9)
LEGACY_KIB = Unit(multiply=5**10, decimals=10)
"""KiB as MiB: the value divided by 1024."""

_Row = tuple[str, str, Unit, str]

_COUNTERS: tuple[_Row, ...] = (
    # iostats
    ("dropped packets", "dropped_packets_total", ONE, "Packets dropped on reception."),
    ("ignored packets", "ignored_packets_total", ONE, "Packets received on the wildcard interface."),
    ("input wakeups", "input_wakeups_total", ONE, "Times that the input handler was called."),
    ("low water refills", "low_water_refill_count", ONE, "Times that receive buffers were added."),
    ("packet send failures", "packet_send_failures_total", ONE, "Packets that could not be sent."),
    ("packets sent", "packet_sent_total", ONE, "Packets sent."),
    ("received packets", "packet_received_total", ONE, "Packets received."),
    ("time since reset", "time_since_reset_seconds", ONE, "Time since the I/O statistics were reset."),
    ("useful input wakeups", "useful_input_wakeups_total", ONE, "Calls of the input handler that found a packet."),
    # kerninfo
    ("calibration cycles", "calibration_cycles_total", ONE, "Frequency calibration intervals."),
    ("jitter exceeded", "jitter_exceeded_seconds_total", ONE, "Seconds discarded because of too much jitter."),
    (
        "stability exceeded",
        "stability_exceeded_seconds_total",
        ONE,
        "Calibration intervals discarded because of too much wander.",
    ),
    # sysstats
    ("authentication failed", "authentication_failures_total", ONE, "Packets that failed authentication."),
    ("bad length or format", "bad_length_or_format_total", ONE, "Packets of a wrong length or format."),
    ("current version", "same_version_total", ONE, "Packets of this version of the protocol."),
    ("declined", "declined_total", ONE, "Packets declined."),
    ("KoD responses", "kod_responses_total", ONE, "Kiss-o'-death packets sent."),
    ("older version", "old_version_total", ONE, "Packets of an older version of the protocol."),
    ("processed for time", "packets_processed_total", ONE, "Packets processed."),
    ("rate limited", "packets_rate_limited_total", ONE, "Packets dropped for their rate."),
    ("restricted", "access_denied_packets_total", ONE, "Packets denied access."),
    ("sysstats reset", "sysstats_reset_seconds", ONE, "Time since the system statistics were reset."),
    ("uptime", "uptime_seconds", ONE, "Time since ntpd started."),
)
"""(field of ntpq, suffix of the metric's name, unit, help)."""

_GAUGES: tuple[_Row, ...] = (
    # iostats
    ("free receive buffers", "free_receive_buffers_count", ONE, "Receive buffers that are free."),
    ("receive buffers", "receive_buffers_count", ONE, "Receive buffers."),
    ("used receive buffers", "used_receive_buffers_count", ONE, "Receive buffers that are full."),
    # kerninfo
    ("calibration interval", "calibration_interval_seconds", ONE, "Length of the calibration interval."),
    ("estimated error", "estimated_error_seconds", USEC, "Estimated error of the clock."),
    ("frequency tolerance", "frequency_tolerance_ppm", BILLIONTHS, "Highest frequency error of the oscillator."),
    ("maximum error", "maximum_error_seconds", USEC, "Highest error of the clock."),
    ("pll frequency", "frequency_offset_ppm", BILLIONTHS, "Frequency offset of the kernel's clock."),
    ("pll offset", "pll_offset_seconds", USEC, "Offset that the kernel is working off."),
    ("pll time constant", "pll_time_const", SIGNED, "Time constant of the phase-locked loop."),
    ("pps frequency", "pps_frequency_ppm", BILLIONTHS, "Frequency offset by the pulse-per-second signal."),
    ("pps jitter", "pps_jitter_ppm", BILLIONTHS, "Jitter of the pulse-per-second signal."),
    ("pps stability", "pps_stability_ppm", BILLIONTHS, "Wander of the pulse-per-second signal."),
    ("precision", "precision", USEC, "Precision of the kernel's clock, in seconds."),
    # monstats
    ("enabled", "mru_monitor_enabled_boolean", ONE, "Whether recent clients are monitored."),
    ("addresses", "mru_monitor_address_count", ONE, "Addresses in the list of recent clients."),
    (
        "peak addresses",
        "mru_monitor_max_address_count",
        ONE,
        "Maximum number of addresses in the list of recent clients so far.",
    ),
    ("maximum addresses", "mru_monitor_max_address_limit", ONE, "Limit of addresses in the list of recent clients."),
    (
        "reclaim above count",
        "mru_monitor_min_address_limit",
        ONE,
        "Number of addresses in the list of recent clients that are kept regardless of their age.",
    ),
    ("reclaim older than", "mru_monitor_max_age_limit", ONE, "Age in seconds after which addresses may be dropped."),
    ("kilobytes", "mru_monitor_memory_bytes", KIB, "Memory of the list of recent clients."),
    ("maximum kilobytes", "mru_monitor_max_memory_bytes", KIB, "Limit of memory of the list of recent clients."),
    # sysinfo
    ("broadcast delay", "broadcast_delay_seconds", USEC, "Default delay of broadcast clients."),
    ("clock jitter", "clock_jitter_ppm", BILLIONTHS, "Jitter of the clock."),
    ("clock wander", "clock_frequency_wander_ppm", BILLIONTHS, "Frequency wander of the clock."),
    (
        "leap indicator",
        "leap_indicator_status",
        ONE,
        "Leap second to come: 0 none, 1 added, 2 removed, 3 not synchronised.",
    ),
    ("log2 precision", "precision_log2s", SIGNED, "Precision of the clock, binary logarithm of seconds."),
    ("stratum", "stratum_number", ONE, "Stratum of this node."),
    ("system jitter", "sys_jitter_ppm", BILLIONTHS, "Combined jitter."),
    (
        "system peer mode",
        "syspeer_mode_number",
        SIGNED,
        "0 bclient, 1 broadcast, 2 client, 3 control, 4 private, 5 server, 6 sym_active, 7 sym_passive, 8 unspec.",
    ),
    ("reference time", "reftime_seconds", NTP_TIME, "When the clock was last set, in seconds since 1900."),
    ("root delay", "root_delay_seconds", MSEC, "Round trip to the primary reference clock."),
    ("root dispersion", "root_dispersion_seconds", MSEC, "Highest error to the primary reference clock."),
)

_SYSPEER_GAUGES: tuple[_Row, ...] = (
    ("delay", "delay_seconds", MSEC, "Round trip to the system peer."),
    ("dispersion", "dispersion_seconds", MSEC, "Highest error of the system peer's time."),
    ("headway", "headway_seconds", USEC, "Time until the next packet may be sent."),
    ("hmode", "hmode_number", ONE, "Mode of this node (RFC 5905 §7.3)."),
    ("hpoll", "hpoll_interval_log2s", SIGNED, "Poll interval of this node, binary logarithm of seconds."),
    ("jitter", "jitter_ppm", BILLIONTHS, "Jitter of the system peer."),
    ("leap", "leap_indicator_status", ONE, "Leap second to come, as ntp_leap_indicator_status."),
    ("offset", "offset_seconds", USEC, "Offset of the system peer's clock."),
    ("pmode", "pmode_number", ONE, "Mode of the system peer (RFC 5905 §7.3)."),
    ("ppoll", "ppoll_interval_log2s", SIGNED, "Poll interval of the system peer, binary logarithm of seconds."),
    ("precision", "precision_log2s", SIGNED, "Precision of the system peer, binary logarithm of seconds."),
    ("rec", "rec_seconds", NTP_TIME, "When the system peer was last heard, in seconds since 1900."),
    ("reftime", "reftime_seconds", NTP_TIME, "When the clock of the system peer was last set, in seconds since 1900."),
    ("rootdelay", "root_delay_seconds", MSEC, "Round trip from the system peer to its reference clock."),
    ("rootdisp", "root_dispersion_seconds", MSEC, "Highest error from the system peer to its reference clock."),
    ("stratum", "stratum_number", ONE, "Stratum of the system peer."),
    ("xleave", "xleave_seconds", USEC, "Interleave delay."),
)

_PEER_GAUGES: tuple[_Row, ...] = (
    ("delay", "delay_seconds", MSEC, "Round trip to the peer."),
    ("jitter", "jitter_ppm", BILLIONTHS, "Jitter of the peer."),
    ("offset", "offset_seconds", MSEC, "Offset of the peer's clock."),
    ("poll", "poll_interval_seconds", ONE, "Poll interval of the peer."),
    ("reach", "last8_polls_failure_count", ONE, "Failures among the last 8 polls."),
    (
        "refid",
        "refid_number",
        SIGNED,
        "Where the peer has its time from: 0 an address, 1.. a kind of clock, -1 unknown.",
    ),
    (
        "t",
        "connection_type",
        SIGNED,
        "0 unicast, 1 broadcast, 2 local, 3 symmetric, 4 manycast, 5 broadcast server, 6 multicast, -1 unknown.",
    ),
    ("st", "stratum_number", ONE, "Stratum of the peer."),
    (
        "state",
        "state",
        SIGNED,
        "0 invalid, 1 falseticker, 2 overflow, 3 pruned, 4 candidate, 5 backup, 6 system peer, 7 pps, -1 unknown.",
    ),
    ("when", "last_query_seconds", SIGNED, "Time since the peer was last heard; -1 never."),
)


def _metrics(prefix: str, table: str, kind: Kind, rows: tuple[_Row, ...]) -> tuple[Metric, ...]:
    return tuple(
        Metric(f"{prefix}_{suffix}", kind, f"ntpd: {help}", "ntp", (Sample((Column(table, field, unit),)),))
        for field, suffix, unit, help in rows
    )


METRICS: tuple[Metric, ...] = (
    *_metrics("ntp", NTP_TABLE, Kind.COUNTER, _COUNTERS),
    *_metrics("ntp", NTP_TABLE, Kind.GAUGE, _GAUGES),
    *_metrics("ntp_syspeer", NTP_SYSPEER_TABLE, Kind.GAUGE, _SYSPEER_GAUGES),
    *_metrics(
        "ntp_syspeer",
        NTP_SYSPEER_TABLE,
        Kind.COUNTER,
        (("unreach", "unreach_total", ONE, "Times that the system peer was out of reach."),),
    ),
    *_metrics("ntp_peer", NTP_PEER_TABLE, Kind.GAUGE, _PEER_GAUGES),
)

_OF_TIME = "ntpd: seconds since 1900, the binary fraction written as a decimal one."

LEGACY: dict[str, tuple[Column, str]] = {
    "ntp_mru_monitor_memory_bytes": (
        Column(NTP_TABLE, "kilobytes", LEGACY_KIB),
        "ntpd: memory of the list of recent clients, in MiB.",
    ),
    "ntp_mru_monitor_max_memory_bytes": (
        Column(NTP_TABLE, "maximum kilobytes", LEGACY_KIB),
        "ntpd: most memory that it may take, in MiB.",
    ),
    "ntp_reftime_seconds": (Column(NTP_TABLE, "reference time" + LEGACY_SUFFIX, LEGACY_TIME), _OF_TIME),
    "ntp_syspeer_rec_seconds": (Column(NTP_SYSPEER_TABLE, "rec" + LEGACY_SUFFIX, LEGACY_TIME), _OF_TIME),
    "ntp_syspeer_reftime_seconds": (Column(NTP_SYSPEER_TABLE, "reftime" + LEGACY_SUFFIX, LEGACY_TIME), _OF_TIME),
}
"""Metric name -> (column, help) of the value that cmon-agent exports by mistake."""
