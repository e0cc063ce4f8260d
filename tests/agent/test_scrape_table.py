"""node_exporter's metrics about its collectors."""

from pathlib import Path

from tests.agent.fixture_host import copy_host

SERIES = ("node_scrape_collector_success", "node_scrape_collector_duration_seconds")


def of_collectors(found, name):
    return {dict(labels)["collector"]: value for (family, labels), value in found.items() if family == name}


def test_success_and_duration(tmp_path: Path) -> None:
    host = copy_host("v2", tmp_path)
    (host.root / "proc/vmstat").write_bytes(b"not numbers\n")
    flags = [f"--collector.{name}" for name in ("loadavg", "nvme", "vmstat")]
    found = host.collect("--collector.disable-defaults", *flags)
    success, duration = (of_collectors(found, name) for name in SERIES)
    assert success == {"loadavg": 1, "nvme": 0, "vmstat": 0}, "one without data is no success, as there"
    assert duration.keys() == success.keys()
    assert all(0 < seconds < 10 for seconds in duration.values())


def test_not_in_the_dialect_cmon(tmp_path: Path) -> None:
    found = copy_host("v2", tmp_path).collect("--dialect=cmon")
    assert not {name for name, _ in found} & set(SERIES)
