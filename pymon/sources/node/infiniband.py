"""Counters of InfiniBand ports, from /sys/class/infiniband (Documentation/ABI/stable/sysfs-class-infiniband)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import MILLI, ONE, Column, Kind, Metric, Sample, Unit, gauge
from pymon.sources.node.attributes import AttributeSource, integer
from pymon.sources.node.source import INFO_FIELDS, Collector

_COUNTERS = {
    "duplicate_requests_packets_total": (
        "hw_counters/duplicate_request",
        ("The number of received packets. A duplicate request is a request that had been previously executed."),
    ),
    "excessive_buffer_overrun_errors_total": (
        "counters/excessive_buffer_overrun_errors",
        (
            "Number of times that OverrunErrors consecutive flow control update periods occurred, each "
            "having at least one overrun error."
        ),
    ),
    "implied_nak_seq_errors_total": (
        "hw_counters/implied_nak_seq_err",
        (
            "The number of time the requested decided an ACK. with a PSN larger than the expected PSN for"
            " an RDMA read or response."
        ),
    ),
    "legacy_data_received_bytes_total": (
        "counters_ext/port_rcv_data_64",
        "Number of data octets received on all links",
    ),
    "legacy_data_transmitted_bytes_total": (
        "counters_ext/port_xmit_data_64",
        "Number of data octets transmitted on all links",
    ),
    "legacy_multicast_packets_received_total": (
        "counters_ext/port_multicast_rcv_packets",
        "Number of multicast packets received",
    ),
    "legacy_multicast_packets_transmitted_total": (
        "counters_ext/port_multicast_xmit_packets",
        "Number of multicast packets transmitted",
    ),
    "legacy_packets_received_total": (
        "counters_ext/port_rcv_packets_64",
        "Number of data packets received on all links",
    ),
    "legacy_packets_transmitted_total": (
        "counters_ext/port_xmit_packets_64",
        "Number of data packets received on all links",
    ),
    "legacy_unicast_packets_received_total": (
        "counters_ext/port_unicast_rcv_packets",
        "Number of unicast packets received",
    ),
    "legacy_unicast_packets_transmitted_total": (
        "counters_ext/port_unicast_xmit_packets",
        "Number of unicast packets transmitted",
    ),
    "link_downed_total": (
        "counters/link_downed",
        "Number of times the link failed to recover from an error state and went down",
    ),
    "link_error_recovery_total": (
        "counters/link_error_recovery",
        "Number of times the link successfully recovered from an error state",
    ),
    "local_ack_timeout_errors_total": (
        "hw_counters/local_ack_timeout_err",
        (
            "The number of times QP's ack timer expired for RC, XRC, DCT QPs at the sender side. The QP "
            "retry limit was not exceed, therefore it is still recoverable error."
        ),
    ),
    "local_link_integrity_errors_total": (
        "counters/local_link_integrity_errors",
        ("Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors."),
    ),
    "multicast_packets_received_total": (
        "counters/multicast_rcv_packets",
        "Number of multicast packets received (including errors)",
    ),
    "multicast_packets_transmitted_total": (
        "counters/multicast_xmit_packets",
        "Number of multicast packets transmitted (including errors)",
    ),
    "np_cnp_packets_sent_total": (
        "hw_counters/np_cnp_sent",
        (
            "The number of CNP packets sent by the Notification Point when it noticed congestion "
            "experienced in the RoCEv2 IP header (ECN bits). The counters was added in MLNX_OFED 4.1"
        ),
    ),
    "np_ecn_marked_roce_packets_received_total": (
        "hw_counters/np_ecn_marked_roce_packets",
        (
            "The number of RoCEv2 packets received by the notification point which were marked for "
            "experiencing the congestion (ECN bits where '11' on the ingress RoCE traffic) . The counters"
            " was added in MLNX_OFED 4.1"
        ),
    ),
    "out_of_buffer_drops_total": (
        "hw_counters/out_of_buffer",
        "The number of drops occurred due to lack of WQE for the associated QPs.",
    ),
    "out_of_sequence_packets_received_total": (
        "hw_counters/out_of_sequence",
        "The number of out of sequence packets received.",
    ),
    "packet_sequence_errors_total": (
        "hw_counters/packet_seq_err",
        "The number of received NAK sequence error packets. The QP retry limit was not exceeded.",
    ),
    "port_constraint_errors_received_total": (
        "counters/port_rcv_constraint_errors",
        "Number of packets received on the switch physical port that are discarded",
    ),
    "port_constraint_errors_transmitted_total": (
        "counters/port_xmit_constraint_errors",
        "Number of packets not transmitted from the switch physical port",
    ),
    "port_data_received_bytes_total": (
        "counters/port_rcv_data",
        "Number of data octets received on all links",
    ),
    "port_data_transmitted_bytes_total": (
        "counters/port_xmit_data",
        "Number of data octets transmitted on all links",
    ),
    "port_discards_received_total": (
        "counters/port_rcv_discards",
        "Number of inbound packets discarded by the port because the port is down or congested",
    ),
    "port_discards_transmitted_total": (
        "counters/port_xmit_discards",
        "Number of outbound packets discarded by the port because the port is down or congested",
    ),
    "port_errors_received_total": (
        "counters/port_rcv_errors",
        "Number of packets containing an error that were received on this port",
    ),
    "port_packets_received_total": (
        "counters/port_rcv_packets",
        "Number of packets received on all VLs by this port (including errors)",
    ),
    "port_packets_transmitted_total": (
        "counters/port_xmit_packets",
        "Number of packets transmitted on all VLs from this port (including errors)",
    ),
    "port_receive_remote_physical_errors_total": (
        "counters/port_rcv_remote_physical_errors",
        "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
    ),
    "port_receive_switch_relay_errors_total": (
        "counters/port_rcv_switch_relay_errors",
        "Number of packets that could not be forwarded by the switch.",
    ),
    "port_transmit_wait_total": (
        "counters/port_xmit_wait",
        ("Number of ticks during which the port had data to transmit but no data was sent during the entire tick"),
    ),
    "req_cqes_errors_total": (
        "hw_counters/req_cqe_error",
        ("The number of times requester detected CQEs completed with errors. The counters was added in MLNX_OFED 4.1"),
    ),
    "req_cqes_flush_errors_total": (
        "hw_counters/req_cqe_flush_error",
        (
            "The number of times requester detected CQEs completed with flushed errors. The counters was "
            "added in MLNX_OFED 4.1"
        ),
    ),
    "req_remote_access_errors_total": (
        "hw_counters/req_remote_access_errors",
        ("The number of times requester detected remote access errors. The counters was added in MLNX_OFED 4.1"),
    ),
    "req_remote_invalid_request_errors_total": (
        "hw_counters/req_remote_invalid_request",
        (
            "The number of times requester detected remote invalid request errors. The counters was added"
            " in MLNX_OFED 4.1"
        ),
    ),
    "resp_cqes_errors_total": (
        "hw_counters/resp_cqe_error",
        ("The number of times responder detected CQEs completed with errors. The counters was added in MLNX_OFED 4.1"),
    ),
    "resp_cqes_flush_errors_total": (
        "hw_counters/resp_cqe_flush_error",
        (
            "The number of times responder detected CQEs completed with flushed errors. The counters was "
            "added in MLNX_OFED 4.1"
        ),
    ),
    "resp_local_length_errors_total": (
        "hw_counters/resp_local_length_error",
        ("The number of times responder detected local length errors. The counters was added in MLNX_OFED 4.1"),
    ),
    "resp_remote_access_errors_total": (
        "hw_counters/resp_remote_access_errors",
        ("The number of times responder detected remote access errors. The counters was added in MLNX_OFED 4.1"),
    ),
    "rnr_nak_retry_packets_received_total": (
        "hw_counters/rnr_nak_retry_err",
        "The number of received RNR NAK packets. The QP retry limit was not exceeded.",
    ),
    "roce_adp_retransmits_timeout_total": (
        "hw_counters/roce_adp_retrans_to",
        (
            "The number of times RoCE traffic reached timeout due to adaptive retransmission. The counter"
            " was added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0"
        ),
    ),
    "roce_adp_retransmits_total": (
        "hw_counters/roce_adp_retrans",
        (
            "The number of adaptive retransmissions for RoCE traffic. The counter was added in MLNX_OFED "
            "rev 5.0-1.0.0.0 and kernel v5.6.0"
        ),
    ),
    "roce_slow_restart_cnps_total": (
        "hw_counters/roce_slow_restart_cnps",
        (
            "The number of times RoCE slow restart generated CNP packets. The counter was added in "
            "MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0"
        ),
    ),
    "roce_slow_restart_total": (
        "hw_counters/roce_slow_restart_trans",
        (
            "The number of times RoCE slow restart changed state to slow restart. The counter was added "
            "in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0"
        ),
    ),
    "roce_slow_restart_used_total": (
        "hw_counters/roce_slow_restart",
        (
            "The number of times RoCE slow restart was used. The counter was added in MLNX_OFED rev "
            "5.0-1.0.0.0 and kernel v5.6.0"
        ),
    ),
    "rp_cnp_ignored_packets_received_total": (
        "hw_counters/rp_cnp_ignored",
        (
            "The number of CNP packets received and ignored by the Reaction Point HCA. This counter "
            "should not raise if RoCE Congestion Control was enabled in the network. If this counter "
            "raise, verify that ECN was enabled on the adapter."
        ),
    ),
    "rp_cnp_packets_handled_total": (
        "hw_counters/rp_cnp_handled",
        (
            "The number of CNP packets handled by the Reaction Point HCA to throttle the transmission "
            "rate. The counters was added in MLNX_OFED 4.1"
        ),
    ),
    "rx_atomic_requests_total": (
        "hw_counters/rx_atomic_requests",
        "The number of received ATOMIC request for the associated QPs.",
    ),
    "rx_dct_connect_requests_total": (
        "hw_counters/rx_dct_connect",
        "The number of received connection requests for the associated DCTs.",
    ),
    "rx_icrc_encapsulated_errors_total": (
        "hw_counters/rx_icrc_encapsulated",
        ("The number of RoCE packets with ICRC errors. This counter was added in MLNX_OFED 4.4 and kernel 4.19"),
    ),
    "rx_read_requests_total": (
        "hw_counters/rx_read_requests",
        "The number of received READ requests for the associated QPs.",
    ),
    "rx_write_requests_total": (
        "hw_counters/rx_write_requests",
        "The number of received WRITE requests for the associated QPs.",
    ),
    "symbol_error_total": (
        "counters/symbol_error",
        "Number of minor link errors detected on one or more physical lanes.",
    ),
    "unicast_packets_received_total": (
        "counters/unicast_rcv_packets",
        "Number of unicast packets received (including errors)",
    ),
    "unicast_packets_transmitted_total": (
        "counters/unicast_xmit_packets",
        "Number of unicast packets transmitted (including errors)",
    ),
    "vl15_dropped_total": (
        "counters/VL15_dropped",
        "Number of incoming VL15 packets dropped due to resource limitations.",
    ),
}
"""File below the port's directory, and help, of each counter. counters_ext was before Linux 4.5."""

_GAUGES = {
    "lifespan_seconds": (
        "hw_counters/lifespan",
        (
            "The maximum period in ms which defines the aging of the counter reads. Two consecutive reads"
            " within this period might return the same values."
        ),
    ),
    "physical_state_id": (
        "phys_state",
        (
            "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: "
            "shift, 5: link up, 6: link error recover, 7: phytest)"
        ),
    ),
    "rate_bytes_per_second": (
        "rate",
        "Maximum signal transfer rate",
    ),
    "state_id": (
        "state",
        "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)",
    ),
}

_FILES = {name: file for name, (file, _) in sorted((_COUNTERS | _GAUGES).items())}

INFINIBAND_FIELDS = tuple(_FILES)
"""Names of the metrics. data is in words of four bytes, the rate in bytes a second, lifespan in milliseconds."""

_NUMBER = re.compile(rb"\s*(\d{1,20})\b")
_RATE = re.compile(rb"(\d{1,9})(?:\.(\d{1,3}))? Gb/sec")
_WORDS = Unit(multiply=4)
_TENTH_OF_GBIT_IN_BYTES = 12_500_000


class Infiniband(AttributeSource):
    """Tables node_infiniband {device, board_id, firmware_version, hca_type} with the constant 1, and
    node_infiniband_port {device, port}. A counter that the hardware does not have is absent.
    """

    name: ClassVar[str] = "infiniband"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "infiniband"
        self._devices = Table("node_infiniband", INFO_FIELDS)
        self._ports = Table("node_infiniband_port", INFINIBAND_FIELDS)
        super().__init__((self._devices, self._ports))

    def _fill(self) -> None:
        for device in self._entries(self._directory):
            path, label = f"{self._directory}/{device}", ("device", device)
            words = (("board_id", "board_id"), ("firmware_version", "fw_ver"), ("hca_type", "hca_type"))
            labels = [(name, self._word(f"{path}/{file}")) for name, file in words]
            self._devices.fill(self._devices.add_row((label, *labels)), (1,))
            for port in self._entries(f"{path}/ports", r"[0-9]+"):
                numbers = [self._value(f"{path}/ports/{port}/{file}") for file in _FILES.values()]
                self._ports.fill(self._ports.add_row((label, ("port", port))), numbers)

    def _value(self, path: str) -> int | None:
        """Return the number that a file begins with. Counters of some hardware say "N/A (no PMA)"."""
        data = self._attribute(path) or b""
        if path.endswith("/rate"):
            rate = _RATE.match(data)
            return int(rate[1] + (rate[2] or b"0")[:1]) * _TENTH_OF_GBIT_IN_BYTES if rate else None
        number = _NUMBER.match(data)
        return integer(number[1]) if number else None


def _infiniband(name: str, help: str, kind: Kind) -> Metric:
    unit = MILLI if name == "lifespan_seconds" else _WORDS if "data_" in name else ONE
    sample = Sample((Column("node_infiniband_port", name, unit),))
    return Metric(f"node_infiniband_{name}", kind, help, "infiniband", (sample,))


METRICS = tuple(
    sorted(
        (
            gauge(
                "node_infiniband_info",
                "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
                "infiniband",
                Column("node_infiniband", "info"),
            ),
            *(_infiniband(name, help, Kind.COUNTER) for name, (_, help) in _COUNTERS.items()),
            *(_infiniband(name, help, Kind.GAUGE) for name, (_, help) in _GAUGES.items()),
        ),
        key=lambda metric: metric.name,
    )
)

COLLECTOR = Collector(
    Infiniband.name,
    lambda node: Infiniband(node.sysfs),
    METRICS,
    row_labels={
        "node_infiniband": ("device", "board_id", "firmware_version", "hca_type"),
        "node_infiniband_port": ("device", "port"),
    },
)
