"""The dashboards: ``python deploy/grafana/dashboards.py`` writes them anew, one file each, into this folder.

Users import the files and need no script. Grafana replaces ``$__rate_interval`` by a range that holds four scrapes.
"""

from __future__ import annotations

import json
from pathlib import Path

from model import Column, Json, Row, dashboard, graph, heat, stat, table, text, variable

HERE = Path(__file__).parent

ONE = 'job="$job",instance="$instance"'
"""Label matchers of the target that is chosen."""
MANY = 'job="$job",instance=~"$instance"'
"""Label matchers of all targets that are chosen."""
FOUND = f'{MANY},name!="",name=~"$search"'
"""Label matchers of the named containers whose names match the search, on the chosen targets."""
CONTAINER = f'{ONE},name="$container"'
TENANT = f'{MANY},account=~"$account"'

WAITED_FOR = ("cpu", "memory", "io")
"""Of which the kernel tells the pressure."""


def rate(metric: str, chosen: str) -> str:
    """Return the rate of a counter by the second."""
    return f"rate({metric}{{{chosen}}}[$__rate_interval])"


def top(expr: str, count: int = 10) -> str:
    """Return the largest series."""
    return f"topk({count}, {expr})"


def cpu(chosen: str) -> str:
    """Return the CPU time of each container, in CPUs."""
    return f"sum without (cpu) ({rate('container_cpu_usage_seconds_total', chosen)})"


def whole(metric: str, chosen: str, label: str) -> str:
    """Return the rate of each container over the interfaces or devices that have a label."""
    return f"sum without ({label}) ({rate(metric, chosen)})"


def throttled(chosen: str) -> str:
    """Return the part of its periods in which each container was throttled."""
    over = rate("container_cpu_cfs_periods_total", chosen)
    return f"{rate('container_cpu_cfs_throttled_periods_total', chosen)} / ({over} > 0)"


def near(chosen: str) -> str:
    """Return the part of its memory that each container uses."""
    return f"container_memory_working_set_bytes{{{chosen}}} / (container_spec_memory_limit_bytes{{{chosen}}} > 0)"


def age(chosen: str) -> str:
    """Return how long each container has been running; nothing for one that has ended."""
    return f"time() - (container_start_time_seconds{{{chosen}}} unless container_end_time_seconds{{{chosen}}})"


def by_container(expr: str) -> str:
    """Return an expression with the labels of the tables of containers and no other."""
    return f"sum by (instance, id, name) ({expr})"


def node() -> Json:
    """Return the dashboard of one node."""
    memory = f"node_memory_MemTotal_bytes{{{ONE}}}"
    available = f"node_memory_MemAvailable_bytes{{{ONE}}}"
    swap = f"node_memory_SwapTotal_bytes{{{ONE}}} - node_memory_SwapFree_bytes{{{ONE}}}"
    busy = f'sum(rate(node_cpu_seconds_total{{{ONE},mode!="idle",mode!="iowait"}}[$__rate_interval]))'
    cores = f"sum(machine_cpu_cores{{{ONE}}})"
    modes = rate("node_cpu_seconds_total", f'{ONE},mode!="idle"')
    mounted = f'{{{ONE},fstype!~"tmpfs|ramfs|overlay|squashfs"}}'
    free = f"node_filesystem_avail_bytes{mounted}"
    latency = {
        name: f"rate(node_disk_{kind}_time_seconds_total{{{ONE}}}[$__rate_interval]) / "
        f"(rate(node_disk_{done}_completed_total{{{ONE}}}[$__rate_interval]) > 0)"
        for name, kind, done in (("read {{device}}", "read", "reads"), ("write {{device}}", "write", "writes"))
    }
    return dashboard(
        "pymon-node", "pymon: node", "One node: what it has, what it does, and what waits.",
        [
            variable("job", "label_values(node_load1, job)"),
            variable("instance", 'label_values(node_load1{job="$job"}, instance)', label="Node"),
        ],
        [
            Row("Now", [
                stat("Up since boot", "s", f"time() - node_boot_time_seconds{{{ONE}}}"),
                stat("CPUs", "none", cores),
                stat("CPU in use", "percentunit", f"{busy} / {cores}", bad=(0.8, 0.95)),
                stat("Memory in use", "percentunit", f"1 - {available} / {memory}", bad=(0.85, 0.95)),
                stat("Load by CPU", "none", f"sum(node_load1{{{ONE}}}) / {cores}", bad=(1, 2)),
                stat("Containers", "none", f"pymon_containers{{{ONE}}}"),
            ]),
            Row("CPU", [
                graph("CPU by mode", "none", {"{{mode}}": f"sum by (mode) ({modes})"}, stack=True,
                      description="In CPUs."),
                graph("Load", "none", {minutes: f"{metric}{{{ONE}}}" for minutes, metric in
                                       (("1m", "node_load1"), ("5m", "node_load5"), ("15m", "node_load15"))}),
                graph("Pressure: part of the time for which something waits", "percentunit",
                      {what: rate(f"node_pressure_{what}_waiting_seconds_total", ONE) for what in WAITED_FOR}),
                graph("Switches, interrupts and forks", "ops", {
                    "context switches": rate("node_context_switches_total", ONE),
                    "interrupts": rate("node_intr_total", ONE),
                    "forks": rate("node_forks_total", ONE),
                }),
            ]),
            Row("Memory", [
                graph("Memory", "bytes", {
                    "in use": f"{memory} - {available}",
                    "page cache": f"node_memory_Cached_bytes{{{ONE}}}",
                    "slab": f"node_memory_Slab_bytes{{{ONE}}}",
                    "swap in use": swap,
                    "total": memory,
                }),
                graph("Paging", "ops", {
                    "major faults": rate("node_vmstat_pgmajfault", ONE),
                    "pages swapped in": rate("node_vmstat_pswpin", ONE),
                    "pages swapped out": rate("node_vmstat_pswpout", ONE),
                    "OOM kills": rate("node_vmstat_oom_kill", ONE),
                }),
            ]),
            Row("Disks", [
                graph("Bytes", "Bps", {
                    "read {{device}}": rate("node_disk_read_bytes_total", ONE),
                    "write {{device}}": rate("node_disk_written_bytes_total", ONE),
                }),
                graph("Busy", "percentunit", {"{{device}}": rate("node_disk_io_time_seconds_total", ONE)}, limit=1),
                graph("Latency", "s", latency, description="Mean time of a request, where there were requests."),
                graph("File systems in use", "percentunit",
                      {"{{mountpoint}}": f"1 - {free} / node_filesystem_size_bytes{mounted}"}, limit=1),
            ]),
            Row("Network", [
                graph("Bytes", "Bps", {
                    "in {{device}}": rate("node_network_receive_bytes_total", ONE),
                    "out {{device}}": rate("node_network_transmit_bytes_total", ONE),
                }),
                graph("Drops and errors", "pps", {
                    "dropped in {{device}}": rate("node_network_receive_drop_total", ONE),
                    "dropped out {{device}}": rate("node_network_transmit_drop_total", ONE),
                    "errors in {{device}}": rate("node_network_receive_errs_total", ONE),
                    "errors out {{device}}": rate("node_network_transmit_errs_total", ONE),
                }),
            ]),
        ],
    )  # fmt: skip


def containers() -> Json:
    """Return the dashboard of all containers."""
    link = {
        "title": "This container",
        "url": "/d/pymon-container?${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
        "&var-instance=${__data.fields.Target:percentencode}&var-container=${__data.fields.Container:percentencode}",
    }
    columns = [
        Column("CPU", "none", cpu(FOUND)),
        Column("Throttled", "percentunit", throttled(FOUND)),
        Column("Waits for a CPU", "percentunit", rate("container_pressure_cpu_waiting_seconds_total", FOUND)),
        Column("Memory", "bytes", f"container_memory_working_set_bytes{{{FOUND}}}"),
        Column("Of its limit", "percentunit", near(FOUND)),
        Column("Received", "Bps", rate("container_network_receive_bytes_total", FOUND)),
        Column("Sent", "Bps", rate("container_network_transmit_bytes_total", FOUND)),
        Column("Read", "Bps", rate("container_fs_reads_bytes_total", FOUND)),
        Column("Written", "Bps", rate("container_fs_writes_bytes_total", FOUND)),
        Column("Age", "s", age(FOUND)),
    ]
    return dashboard(
        "pymon-containers", "pymon: containers", "The containers of nodes or of an account, and the ten largest.",
        [
            variable("job", "label_values(container_last_seen, job)"),
            variable("instance", 'label_values(container_last_seen{job="$job"}, instance)', many=True, label="Target"),
            text("search", ".*", "Name (regular expression)"),
        ],
        [
            Row("All", [
                stat("Containers", "none", f"count(container_last_seen{{{FOUND}}})"),
                stat("CPUs in use", "none", f"sum({cpu(FOUND)})"),
                stat("Memory in use", "bytes", f"sum(container_memory_working_set_bytes{{{FOUND}}})"),
                stat("Processes killed by OOM", "none",
                     f"sum(increase(container_oom_events_total{{{FOUND}}}[$__range]))", bad=(1, 1)),
                stat("Starts again", "none", f"sum(changes(container_start_time_seconds{{{FOUND}}}[$__range]))",
                     bad=(1, 10)),
                stat("Threads", "none", f"sum(container_threads{{{FOUND}}})"),
                table("Containers", {"name": "Container", "instance": "Target"},
                      [column._replace(expr=by_container(column.expr)) for column in columns], link=link),
            ]),
            Row("The ten largest", [
                graph("CPU", "none", {"{{name}}": top(cpu(FOUND))}, description="In CPUs."),
                graph("Memory", "bytes", {"{{name}}": top(f"container_memory_working_set_bytes{{{FOUND}}}")}),
                graph("Throttled periods", "percentunit", {"{{name}}": top(throttled(FOUND))}, limit=1),
                graph("Memory, of the limit", "percentunit", {"{{name}}": top(near(FOUND))}),
                graph("Network received", "Bps",
                      {"{{name}}": top(whole("container_network_receive_bytes_total", FOUND, "interface"))}),
                graph("Network sent", "Bps",
                      {"{{name}}": top(whole("container_network_transmit_bytes_total", FOUND, "interface"))}),
                graph("Read", "Bps", {"{{name}}": top(whole("container_fs_reads_bytes_total", FOUND, "device"))}),
                graph("Written", "Bps", {"{{name}}": top(whole("container_fs_writes_bytes_total", FOUND, "device"))}),
            ]),
        ],
    )  # fmt: skip


def container() -> Json:
    """Return the dashboard of one container."""
    faults = f'{CONTAINER},failure_type="pgmajfault",scope="container"'
    quota = f"container_spec_cpu_quota{{{CONTAINER}}} / container_spec_cpu_period{{{CONTAINER}}}"

    def pressure(kind: str) -> dict[str, str]:
        return {what: rate(f"container_pressure_{what}_{kind}_seconds_total", CONTAINER) for what in WAITED_FOR}

    return dashboard(
        "pymon-container", "pymon: one container", "All of one container. Without a limit, there is no curve of it.",
        [
            variable("job", "label_values(container_last_seen, job)"),
            variable("instance", 'label_values(container_last_seen{job="$job"}, instance)', label="Target"),
            variable("container", f"label_values(container_last_seen{{{ONE}}}, name)"),
        ],
        [
            Row("Now", [
                stat("Age", "s", age(CONTAINER)),
                stat("CPU", "none", cpu(CONTAINER)),
                stat("Memory, of the limit", "percentunit", near(CONTAINER), bad=(0.85, 0.95)),
                stat("Processes killed by OOM", "none", f"container_oom_events_total{{{CONTAINER}}}", bad=(1, 1)),
                stat("Processes", "none", f"container_processes{{{CONTAINER}}}"),
                stat("Threads", "none", f"container_threads{{{CONTAINER}}}"),
            ]),
            Row("CPU", [
                graph("CPU", "none", {
                    "user": rate("container_cpu_user_seconds_total", CONTAINER),
                    "system": rate("container_cpu_system_seconds_total", CONTAINER),
                    "all": cpu(CONTAINER),
                    "quota": quota,
                }, description="In CPUs."),
                graph("Throttled", "percentunit", {
                    "of its periods": throttled(CONTAINER),
                    "of the time": rate("container_cpu_cfs_throttled_seconds_total", CONTAINER),
                }),
                graph("Some process waits: part of the time", "percentunit", pressure("waiting"), limit=1),
                graph("All processes wait: part of the time", "percentunit", pressure("stalled"), limit=1),
            ]),
            Row("Memory", [
                graph("Memory", "bytes", {
                    "working set": f"container_memory_working_set_bytes{{{CONTAINER}}}",
                    "anonymous": f"container_memory_rss{{{CONTAINER}}}",
                    "page cache": f"container_memory_cache{{{CONTAINER}}}",
                    "swap": f"container_memory_swap{{{CONTAINER}}}",
                    "limit": f"container_spec_memory_limit_bytes{{{CONTAINER}}}",
                }),
                graph("Want of memory", "ops", {
                    "major faults": rate("container_memory_failures_total", faults),
                    "killed by OOM": rate("container_oom_events_total", CONTAINER),
                    "at the limit": rate("container_memory_events_max_total", CONTAINER),
                    "file pages read again": rate("container_memory_workingset_refault_file_total", CONTAINER),
                }),
            ]),
            Row("Network and disks", [
                graph("Network", "Bps", {
                    "in {{interface}}": rate("container_network_receive_bytes_total", CONTAINER),
                    "out {{interface}}": rate("container_network_transmit_bytes_total", CONTAINER),
                }),
                graph("Packets dropped, and errors", "pps", {
                    "dropped in {{interface}}": rate("container_network_receive_packets_dropped_total", CONTAINER),
                    "dropped out {{interface}}": rate("container_network_transmit_packets_dropped_total", CONTAINER),
                    "errors in {{interface}}": rate("container_network_receive_errors_total", CONTAINER),
                    "errors out {{interface}}": rate("container_network_transmit_errors_total", CONTAINER),
                }),
                graph("Disks, bytes", "Bps", {
                    "read {{device}}": rate("container_fs_reads_bytes_total", CONTAINER),
                    "write {{device}}": rate("container_fs_writes_bytes_total", CONTAINER),
                }),
                graph("Disks, requests", "iops", {
                    "read {{device}}": rate("container_fs_reads_total", CONTAINER),
                    "write {{device}}": rate("container_fs_writes_total", CONTAINER),
                }),
                graph("Threads", "none", {
                    "threads": f"container_threads{{{CONTAINER}}}",
                    "limit": f"container_threads_max{{{CONTAINER}}}",
                }),
                graph("Sockets", "none", {
                    "all": f"container_sockstat_sockets_used{{{CONTAINER}}}",
                    "TCP": f"container_sockstat_tcp_inuse{{{CONTAINER}}}",
                    "TCP, time-wait": f"container_sockstat_tcp_tw{{{CONTAINER}}}",
                    "UDP": f"container_sockstat_udp_inuse{{{CONTAINER}}}",
                }),
            ]),
        ],
    )  # fmt: skip


def neighbours() -> Json:
    """Return the dashboard of those who take and those who wait."""
    chosen = f'{MANY},name!=""'
    legend = "{{instance}} {{name}}"
    waiting = {what: rate(f"container_pressure_{what}_waiting_seconds_total", chosen) for what in WAITED_FOR}
    cores = f"on (job, instance) group_left machine_cpu_cores{{{MANY}}}"
    moved, packets = (
        " + ".join(whole(metric, chosen, label) for metric in metrics)
        for label, metrics in (
            ("device", ("container_fs_reads_bytes_total", "container_fs_writes_bytes_total")),
            ("interface", ("container_network_receive_packets_total", "container_network_transmit_packets_total")),
        )
    )
    return dashboard(
        "pymon-neighbours", "pymon: noisy neighbours and latency",
        "Left: who takes. Right: who waits. The job has to be one of agents, which know the node and its containers.",
        [
            variable("job", "label_values(machine_cpu_cores, job)"),
            variable("instance", 'label_values(machine_cpu_cores{job="$job"}, instance)', many=True, label="Node"),
        ],
        [
            Row("CPU", [
                graph("Who takes: part of the node's CPUs", "percentunit", {legend: top(f"{cpu(chosen)} / {cores}")}),
                graph("Who waits: part of the time", "percentunit", {legend: top(waiting["cpu"])}, limit=1),
                heat("Containers by the part of the time that they wait for a CPU", "percentunit", waiting["cpu"]),
                graph("Who is throttled by its own quota: part of its periods", "percentunit",
                      {legend: top(throttled(chosen))}, limit=1,
                      description="Who is here and waits does so for its quota, and not for a neighbour."),
            ]),
            Row("Memory", [
                graph("Who takes: working set", "bytes",
                      {legend: top(f"container_memory_working_set_bytes{{{chosen}}}")}),
                graph("Who waits: part of the time", "percentunit", {legend: top(waiting["memory"])}, limit=1),
                graph("Who makes the kernel look for memory: pages scanned", "ops",
                      {legend: top(rate("container_memory_pgscan_total", chosen))}),
                graph("Whose page cache goes: file pages read again", "ops",
                      {legend: top(rate("container_memory_workingset_refault_file_total", chosen))}),
            ]),
            Row("Disks", [
                graph("Who takes: bytes", "Bps", {legend: top(moved)}),
                graph("Who waits: part of the time", "percentunit", {legend: top(waiting["io"])}, limit=1),
                heat("Containers by the part of the time that they wait for I/O", "percentunit", waiting["io"]),
                graph("Latency of the nodes' disks", "s", {
                    f"{{{{instance}}}} {{{{device}}}} {kind}":
                    f"{rate(f'node_disk_{kind}_time_seconds_total', MANY)} / "
                    f"({rate(f'node_disk_{kind}s_completed_total', MANY)} > 0)"
                    for kind in ("read", "write")
                }),
            ]),
            Row("Network and nodes", [
                graph("Who takes: packets", "pps", {legend: top(packets)}),
                graph("Who loses: received packets dropped", "pps",
                      {legend: top(whole("container_network_receive_packets_dropped_total", chosen, "interface"))}),
                graph("Nodes: part of the time for which something waits", "percentunit", {
                    f"{{{{instance}}}} {what}": rate(f"node_pressure_{what}_waiting_seconds_total", MANY)
                    for what in WAITED_FOR
                }),
                graph("Nodes: load by CPU", "none", {"{{instance}}": f"node_load1{{{MANY}}} / {cores}"}),
            ]),
        ],
    )  # fmt: skip


def tenants() -> Json:
    """Return the dashboard of accounts and proxies."""
    buckets = rate("pymon_proxy_upstream_request_duration_seconds_bucket", MANY)
    requests = rate("pymon_proxy_requests_total", TENANT)
    refused = rate("pymon_proxy_throttled_total", TENANT)
    failed = rate("pymon_proxy_requests_total", f'{TENANT},code=~"5.."')
    return dashboard(
        "pymon-tenants", "pymon: tenants and proxies", "What accounts ask of the proxies, and how the proxies answer.",
        [
            variable("job", "label_values(pymon_proxy_containers, job)"),
            variable("instance", 'label_values(pymon_proxy_containers{job="$job"}, instance)', many=True,
                     label="Proxy"),
            variable("account", 'label_values(pymon_proxy_requests_total{job="$job"}, account)', many=True),
        ],
        [
            Row("Now", [
                stat("Proxies that answer", "none", f"sum(up{{{MANY}}})"),
                stat("Containers", "none", f"max(pymon_proxy_containers{{{MANY}}})"),
                stat("Nodes that answer", "percentunit", f"avg(pymon_proxy_inventory_up{{{MANY}}})", bad=(1, 0.9)),
                stat("Requests a second", "reqps", f"sum({requests})"),
                stat("Directory is old by", "s", f"max(pymon_proxy_directory_age_seconds{{{MANY}}})", bad=(10, 60)),
                stat("First certificate expires in", "s",
                     f"min(pymon_certificate_expiry_timestamp_seconds{{{MANY}}}) - time()", bad=(14400, 3600)),
            ]),
            Row("Tenants", [
                graph("Requests by account", "reqps", {"{{account}}": top(f"sum by (account) ({requests})", 20)},
                      stack=True),
                graph("Requests by route and code", "reqps",
                      {"{{route}} {{code}}": f"sum by (route, code) ({requests})"}),
                graph("Refused by a limit", "reqps",
                      {"{{account}} {{limit}}": f"sum by (account, limit) ({refused})"},
                      description="Requests answered with 429. pymon quota set changes what an account may ask for."),
                graph("Answered with 5xx", "percentunit",
                      {"{{account}}": f"sum by (account) ({failed}) / (sum by (account) ({requests}) > 0)"}, limit=1),
                graph("Requests with no valid credential", "reqps",
                      {"{{reason}}": f"sum by (reason) ({rate('pymon_proxy_authentication_failures_total', MANY)})"}),
                graph("TLS handshakes, and connections refused", "reqps", {
                    "handshake {{outcome}}": f"sum by (outcome) ({rate('pymon_proxy_handshakes_total', MANY)})",
                    "refused: {{reason}}": f"sum by (reason) ({rate('pymon_proxy_connections_refused_total', MANY)})",
                }),
            ]),
            Row("Agents, as the proxies see them", [
                heat("Time of agents' answers", "s", f"sum by (le) ({buckets})", buckets=True),
                graph("Time of agents' answers", "s", {
                    f"{name} {{{{outcome}}}}": f"histogram_quantile({part}, sum by (le, outcome) ({buckets}))"
                    for name, part in (("half", 0.5), ("99 %", 0.99))
                }),
                graph("Scrapes of agents", "reqps", {
                    "{{route}}": f"sum by (route) ({rate('pymon_proxy_scrapes_total', MANY)})",
                    "shared with another request": f"sum({rate('pymon_proxy_shared_scrapes_total', MANY)})",
                }, description="Route peer: through another proxy, because this one does not reach the agent."),
                graph("Connections to agents, and scrapes that wait", "none", {
                    "connections {{instance}}": f"pymon_proxy_upstream_connections{{{MANY}}}",
                    "waiting {{instance}}": f"pymon_proxy_upstream_waiting{{{MANY}}}",
                }),
                graph("Age of inventories", "s",
                      {"{{instance}} {{node}}": top(f"pymon_proxy_inventory_age_seconds{{{MANY}}}", 20)}),
                graph("Inventories that fail", "ops", {
                    "{{node}} {{reason}}":
                    f"sum by (node, reason) ({rate('pymon_proxy_inventory_failures_total', MANY)})",
                }),
            ]),
            Row("Several proxies", [
                graph("Nodes", "none", {
                    "reached {{instance}}": f"pymon_proxy_nodes_reached{{{MANY}}}",
                    "unknown {{instance}}": f"pymon_proxy_nodes_unknown{{{MANY}}}",
                }),
                graph("Proxies", "none", {
                    "peers of {{instance}}": f"pymon_proxy_peers{{{MANY}}}",
                    "share quotas with {{instance}}": f"pymon_proxy_quota_proxies{{{MANY}}}",
                    "{{instance}} is out of DNS": f"pymon_proxy_left{{{MANY}}}",
                }),
            ]),
            Row("DNS", [
                graph("DNS answers", "reqps", {
                    "{{transport}} {{rcode}}":
                    f"sum by (transport, rcode) ({rate('pymon_dns_responses_total', MANY)})",
                }, description="With --dns.listen-address."),
                graph("Records of DNS zones", "none", {"{{instance}} {{zone}}": f"pymon_dns_zone_records{{{MANY}}}"}),
            ]),
        ],
    )  # fmt: skip


def itself() -> Json:
    """Return the dashboard of the processes of pymon."""
    return dashboard(
        "pymon-itself", "pymon: itself", "What agents and proxies cost, and whether they are well.",
        [
            variable("job", "label_values(pymon_build_info, job)"),
            variable("instance", 'label_values(pymon_build_info{job="$job"}, instance)', many=True, label="Process"),
        ],
        [
            Row("Cost", [
                table("Versions", {"instance": "Process", "version": "Version", "python": "Python", "source": "Source"},
                      [Column("Up", "bool_yes_no",
                              f"max by (instance, version, python, source) (pymon_build_info{{{MANY}}})")]),
                graph("CPU", "none", {"{{instance}}": top(rate("process_cpu_seconds_total", MANY), 20)},
                      description="In CPUs."),
                graph("Memory", "bytes", {"{{instance}}": top(f"process_resident_memory_bytes{{{MANY}}}", 20)}),
                graph("Descriptors, of those allowed", "percentunit",
                      {"{{instance}}": top(f"process_open_fds{{{MANY}}} / process_max_fds{{{MANY}}}", 20)}),
                graph("Scrapes, as Prometheus sees them", "s",
                      {"{{instance}}": top(f"scrape_duration_seconds{{{MANY}}}", 20)}),
                graph("Samples of a scrape", "none", {"{{instance}}": top(f"scrape_samples_scraped{{{MANY}}}", 20)}),
                graph("Files read again with no success", "ops",
                      {"{{instance}} {{use}}": rate("pymon_reload_failures_total", MANY)}),
            ]),
            Row("Agents", [
                graph("Time of collectors", "s",
                      {"{{collector}}": f"max by (collector) (pymon_collector_duration_seconds{{{MANY}}})"}),
                graph("Collectors that work, of the processes", "percentunit",
                      {"{{collector}}": f"avg by (collector) (pymon_collector_success{{{MANY}}})"}, limit=1),
                graph("Failures of collectors", "ops", {
                    "{{collector}} {{reason}}":
                    f"sum by (collector, reason) ({rate('pymon_collector_failures_total', MANY)})",
                }, description="A kernel file that is not there counts too (enoent)."),
                graph("Collections", "ops", {"{{instance}}": top(rate("pymon_collections_total", MANY), 20)}),
                heat("Time of requests", "s",
                     f"sum by (le) ({rate('pymon_http_request_duration_seconds_bucket', MANY)})", buckets=True),
                graph("Requests", "reqps",
                      {"{{handler}} {{code}}": f"sum by (handler, code) ({rate('pymon_http_requests_total', MANY)})"}),
                graph("Watches on cgroups", "none", {
                    "watched {{instance}}": top(f"pymon_cgroup_watches{{{MANY}}}", 20),
                    "without a watch {{instance}}": top(f"pymon_cgroup_unwatched{{{MANY}}}", 20),
                    "descriptors kept open {{instance}}": top(f"pymon_open_descriptors{{{MANY}}}", 20),
                }),
                graph("Columns that BPF fills", "none", {
                    "filled {{instance}}": f"pymon_bpf_columns{{{MANY}}}",
                    "lost {{instance}}": f"pymon_bpf_columns_lost_total{{{MANY}}}",
                }),
            ]),
            Row("Proxies", [
                graph("Workers", "none", {
                    "answer {{instance}}": f"pymon_proxy_workers{{{MANY}}}",
                    "started again {{instance}}": f"pymon_proxy_worker_restarts_total{{{MANY}}}",
                }, description="With --workers of more than 1."),
                graph("Well or not", "none", {
                    "directory {{instance}}": f"pymon_proxy_directory_up{{{MANY}}}",
                    "holders {{instance}}": f"pymon_proxy_holders_up{{{MANY}}}",
                    "quotas {{instance}}": f"pymon_proxy_quota_exchange_up{{{MANY}}}",
                }, limit=1),
                graph("Copies that wait to be written", "none",
                      {"{{instance}} {{of}}": f"pymon_proxy_copy_pending{{{MANY}}}"}),
                graph("Holders, and containers left out", "none", {
                    "holders {{instance}}": f"pymon_proxy_holders{{{MANY}}}",
                    "left out of {{node}}": f"sum by (node) (pymon_proxy_containers_left_out{{{MANY}}})",
                }),
            ]),
        ],
    )  # fmt: skip


def documents() -> dict[str, str]:
    """Return the text of each dashboard's file by its name."""
    made = (node(), containers(), container(), neighbours(), tenants(), itself())
    return {f"{one['uid']}.json": json.dumps(one, indent=1) + "\n" for one in made}


if __name__ == "__main__":
    for name, document in documents().items():
        (HERE / name).write_text(document)
