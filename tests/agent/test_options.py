"""The agent's option table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymon.agent.options import AgentOptions, CollectorOption, load_agent_options
from pymon.config import Address, ConfigError

COLLECTORS = (
    CollectorOption("cpu", True, "Processor time."),
    CollectorOption("memory", True, "Memory."),
    CollectorOption("process", False, "Processes, by a walk."),
)


def options(*argv: str, env: dict[str, str] | None = None, platform: str = "linux") -> AgentOptions:
    return load_agent_options(argv, env or {}, COLLECTORS, platform=platform)


def test_defaults() -> None:
    got = options()
    assert got.listen_addresses == (Address("127.0.0.1", 9164),)
    assert (got.telemetry_path, got.max_requests, got.source, got.dialect) == ("/metrics", 40, "auto", "cadvisor")
    assert (got.procfs, got.cgroupfs) == (Path("/proc"), Path("/sys/fs/cgroup"))
    assert got.collectors == {"cpu", "memory"}
    assert got.owners == ()
    assert options(platform="sunos5").dialect == "cmon"


@pytest.mark.parametrize(
    ("argv", "enabled"),
    [
        (["--no-collector.cpu"], {"memory"}),
        (["--collector.process"], {"cpu", "memory", "process"}),
        (["--collector.disable-defaults"], set()),
        (["--collector.disable-defaults", "--collector.cpu"], {"cpu"}),
        (["--collector.cpu", "--no-collector.cpu"], {"memory"}),
    ],
)
def test_collectors(argv: list[str], enabled: set[str]) -> None:
    assert options(*argv).collectors == enabled


@pytest.mark.parametrize(
    "argv",
    [
        ["--web.telemetry-path=metrics"],
        ["--web.telemetry-path=/"],
        ["--web.telemetry-path=/-/healthy"],
        ["--web.telemetry-path=/v1/gz/metrics"],
        ["--web.telemetry-path=/a?b"],
        ["--web.max-requests=-1"],
        ["--source=ebpf"],
        ["--dialect=node"],
        ["--collector.nothing"],
    ],
)
def test_errors(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match=argv[0].partition("=")[0]):
        options(*argv)


def test_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.yml"
    file.write_text(
        "web: {listen-address: [':9164', '[::1]:9165'], max-requests: 0}\n"
        "container:\n  pattern: ['^/x/(?P<name>[^/]+)$']\n  label: [team]\n  all: true\n"
        "collector: {cpu: false, process: true, disable-defaults: false}\n"
        "owners:\n- label: account\n- slice: 'tenant-(?P<account>.*)'\n"
    )
    got = options(f"--config.file={file}")
    assert got.listen_addresses == (Address("", 9164), Address("::1", 9165))
    assert got.container_patterns[0].groupindex == {"name": 1}
    assert (got.container_labels, got.container_all, got.max_requests) == (("team",), True, 0)
    assert got.collectors == {"memory", "process"}
    assert got.owners == ({"label": "account"}, {"slice": "tenant-(?P<account>.*)"})
    file.write_text("owners:\n- label: account\n- slice: 'tenant-(?P<acount>.*)'\n")
    with pytest.raises(ConfigError, match=rf"^{file}: owners\[1\]\.slice: .*expected a group"):
        options(f"--config.file={file}")
    file.write_text("container: {pattern: '/tenants/(?P<acount>[^/]+)/.*'}\n")
    with pytest.raises(
        ConfigError, match=rf"^{file}: container.pattern: expected no named groups but name and account"
    ):
        options(f"--config.file={file}")
    file.write_text("web: {listen-address: []}\n")
    with pytest.raises(ConfigError, match="at least one address"):
        options(f"--config.file={file}")


def test_the_parent_of_zones_datasets_is_a_dataset() -> None:
    assert options().zfs_parent == "zones"
    assert options("--zfs.parent=rpool/zones").zfs_parent == "rpool/zones"
    for wrong in ("-o", "/zones", "zones/", "a//b", "zones@now", "a\nb"):
        with pytest.raises(ConfigError, match=r"zfs\.parent: expected a dataset of ZFS"):
            options(f"--zfs.parent={wrong}")
