"""The dialect cmon against what cmon-agent made of a node's kstats: tests/kstat/chains/ORIGIN.md says where from."""

from __future__ import annotations

import pytest

from tests.agent.zone_host import ZoneHost, running, series
from tests.kstat.double import CHAINS

MEMCAP, TCP, MISC = (
    "b55cf19c-4898-4bd1-9169-b89b472d0621",
    "ddda3938-eca5-4a03-b7b2-2fe79b5b2dd1",
    "319cb666-4797-4387-83ed-56d865fd25f4",
)
TWO_LINKS, ONE_LINK = "61c64afd-6c69-44b3-94fc-bcd17234e268", "f0b7e8d8-8f76-46db-b292-6d8124212ea1"

EXPECTED = {
    MEMCAP: """
        memcap_metrics_available_boolean 1
        mem_agg_usage 324755456
        mem_anon_alloc_fail 0
        mem_limit 2147483648
        mem_swap 1764012032
        mem_swap_limit 4294967296
        """,
    TCP: """
        tcp_metrics_available_boolean 1
        tcp_failed_connection_attempt_count 39
        tcp_retransmitted_segment_count 2745
        tcp_duplicate_ack_count 1742322
        tcp_listen_drop_count 0
        tcp_listen_drop_Qzero_count 0
        tcp_half_open_drop_count 0
        tcp_retransmit_timeout_drop_count 0
        tcp_active_open_count 272214
        tcp_passive_open_count 265510
        tcp_current_established_connections_total 411
        cpucap_metrics_available_boolean 1
        cpucap_above_base_seconds_total 0
        cpucap_above_seconds_total 0
        cpucap_baseline_percentage 321
        cpucap_below_seconds_total 812427
        cpucap_burst_limit_seconds 0
        cpucap_effective_percentage 400
        cpucap_max_usage_percentage 89
        cpucap_waiting_threads_count 0
        cpucap_cur_usage_percentage 1
        cpucap_limit_percentage 400
        """,
    MISC: """
        cpucap_metrics_available_boolean 0
        zone_misc_metrics_available_boolean 1
        cpu_user_usage 382258003486
        cpu_sys_usage 175294007074
        cpu_wait_time 3149676934738
        load_average 0
        zone_vfs_metrics_available_boolean 1
        vfs_bytes_read_count 106467672
        vfs_bytes_written_count 16612520
        vfs_read_operation_count 2808720
        vfs_write_operation_count 21455
        vfs_wait_time_count 12561929432
        vfs_wait_length_time_count 12588270335
        vfs_run_time_count 41205058480
        vfs_run_length_time_count 12588270335
        vfs_elements_wait_state 0
        vfs_elements_run_state 0
        """,
    TWO_LINKS: """
        link_metrics_available_boolean 1
        net_agg_packets_in{interface="vnic0"} 8942538
        net_agg_bytes_out{interface="vnic0"} 386700874
        net_agg_packets_out{interface="vnic0"} 5029565
        net_agg_bytes_in{interface="vnic0"} 551194436
        net_agg_packets_in{interface="vnic1"} 244580
        net_agg_bytes_out{interface="vnic1"} 418432
        net_agg_packets_out{interface="vnic1"} 6215
        net_agg_bytes_in{interface="vnic1"} 15497110
        """,
    ONE_LINK: """
        link_metrics_available_boolean 1
        net_agg_packets_in{interface="vnic0"} 6348522
        net_agg_bytes_out{interface="vnic0"} 204461637
        net_agg_packets_out{interface="vnic0"} 1696748
        net_agg_bytes_in{interface="vnic0"} 360616500
        """,
}
NODE = """
    cpu_info_metrics_available_boolean 1
    cpu_info_model 158
    arcstats_metrics_available_boolean 1
    arcstats_anon_evictable_data_bytes 0
    arcstats_anon_evictable_metadata_bytes 0
    arcstats_anon_size_bytes 5148672
    arcstats_arc_meta_limit_bytes 1272592384
    arcstats_arc_meta_max_bytes 474022432
    arcstats_arc_meta_min_bytes 318148096
    arcstats_arc_meta_used_bytes 420681784
    arcstats_target_cache_size_bytes 636296192
    arcstats_max_target_cache_size_bytes 5090369536
    arcstats_min_target_cache_size_bytes 636296192
    arcstats_compressed_size_bytes 173048832
    arcstats_data_size_bytes 201933824
    arcstats_demand_data_hits_total 6643181
    arcstats_demand_data_misses_total 128106654
    arcstats_demand_hit_predictive_prefetch_total 836127
    arcstats_demand_metadata_hits_total 5832134
    arcstats_demand_metadata_misses_total 122432177
    arcstats_evict_l2_cached_bytes_total 0
    arcstats_evict_l2_eligible_bytes_total 4712126668800
    arcstats_evict_l2_ineligible_bytes_total 337252438016
    arcstats_evict_l2_skip_total 0
    arcstats_evict_not_enough_total 14645564
    arcstats_evict_skip_total 132404948
    arcstats_hash_chain_max 4
    arcstats_hash_chains 624
    arcstats_hash_collisions_total 11605254
    arcstats_hash_elements 36874
    arcstats_hash_elements_max 69958
    arcstats_hdr_size_bytes 6895576
    arcstats_hits_total 13380586
    arcstats_l2_hdr_bytes 0
    arcstats_l2_hits_total 0
    arcstats_sync_wait_for_async_total 40279
    arcstats_uncompressed_size_bytes 374457856
    """
RUN_LENGTH = "vfs_run_length_time_count"


def lines(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.strip().splitlines())


@pytest.fixture
def recorded(empty_node: ZoneHost) -> ZoneHost:
    empty_node.double.load(CHAINS / "cmon-agent.json")
    return empty_node


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_zone_and_the_node_have_the_values_that_cmon_agent_gave(recorded: ZoneHost, legacy: bool) -> None:
    flags = ("--dialect=cmon", *(("--cmon.legacy-values",) if legacy else ()))
    async with running(recorded.options(*flags)) as agent:
        for uuid, text in {**EXPECTED, "": NODE}.items():
            found = {
                name
                + ("{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels)) + "}" if labels else ""): value
                for (name, labels), value in (await series(agent, uuid, scope="node")).items()
            }
            expected = {name: int(value) for name, value in lines(text).items()}
            if RUN_LENGTH in expected and not legacy:
                expected[RUN_LENGTH] = 44287888294  # of the run queue, which cmon-agent mistakes
            assert expected == {name: found.get(name) for name in expected}
