import time
from pathlib import Path

import pytest

from pymon.sources.node.clock import Time
from tests.sources.node.rows import collected, rows


@pytest.fixture
def zone(monkeypatch):
    def use(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


def test_the_clock_to_the_nanosecond_and_the_zone(tmp_path, zone):
    zone("XST+3:30")
    directory = tmp_path / "devices/system/clocksource/clocksource0"
    directory.mkdir(parents=True)
    (directory / "available_clocksource").write_text("kvm-clock tsc \n")
    (directory / "current_clocksource").write_text("tsc\n")
    tables = collected(Time(tmp_path, lambda: 1795357885227916229))
    assert rows(tables["node_time"]) == [({}, {"now": 1795357885227916229})]
    assert rows(tables["node_time_zone"]) == [({"time_zone": "XST"}, {"offset": 2**64 - 12600})]
    assert rows(tables["node_time_clocksource_available"]) == [
        ({"device": "0", "clocksource": "kvm-clock"}, {"info": 1}),
        ({"device": "0", "clocksource": "tsc"}, {"info": 1}),
    ]
    assert rows(tables["node_time_clocksource_current"]) == [({"device": "0", "clocksource": "tsc"}, {"info": 1})]


def test_the_clock_needs_no_file(tmp_path):
    source = Time(tmp_path, lambda: 5)
    assert rows(collected(source)["node_time"]) == [({}, {"now": 5})]
    assert {problem.reason for problem in source.problems} == {"enoent"}


def test_live():
    before = time.time_ns()
    ((_, cells),) = rows(collected(Time(Path("/sys")))["node_time"])
    assert before <= cells["now"] <= time.time_ns()
