"""Scrapes in protocol buffers and OpenMetrics 2.0: those of the node and of one container say what the text of the same
cycle says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.agent.scrape import Scrape
from pymon.exposition.negotiation import Format
from tests.agent.fixture_host import VOLATILE, copy_host
from tests.exposition.messages import families, series
from tests.exposition.openmetrics2 import read

TEXTFILE = r"""# HELP file_seconds Of a file.
# TYPE file_seconds histogram
file_seconds_bucket{le="1"} 1
file_seconds_sum 2.5
file_seconds_count 3
# TYPE file_number gauge
file_number{of="a\"b"} NaN
"""


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    host = copy_host("v2", tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one.prom").write_text(TEXTFILE)
    flags = [*host.flags(), f"--collector.textfile.directory={tmp_path / 'files'}"]
    made = build_agent(load_agent_options(flags, {}, COLLECTORS, version=pymon.__version__))
    made.collection.start()
    await made.collection.prime(30)
    yield made
    await made.collection.stop()


async def scrape(agent: Agent, form: Format, **of: object) -> bytes:
    lent = await agent.collection.scrape(Scrape(format=form, **of))
    assert lent is not None
    data = bytes(lent.data)
    lent.release()
    return data


async def both(agent: Agent, **of: object) -> tuple[str, bytes]:
    text, messages = await asyncio.gather(*(scrape(agent, form, **of) for form in (Format.TEXT_0_0_4, Format.PROTOBUF)))
    return text.decode(), messages


def of_text(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: repr(float(of)) if name == "le" else of for name, of in sample.labels.items()}
            found[sample.name, frozenset(labels.items())] = float(sample.value)
    return found


def frozen(found: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> dict[object, str]:
    """Without what differs from one moment to the next; numbers as text, so that NaN is itself."""
    return {
        (name.removesuffix("_total"), labels): repr(value)
        for (name, labels), value in found.items()
        if not VOLATILE.match(name)
    }


async def test_a_scrape_of_the_node(agent: Agent) -> None:
    text, messages = await both(agent)
    found = series(messages)
    told, expected = frozen(found), frozen(of_text(text))
    assert told == expected
    assert len(told) > 500
    assert found["pymon_collections_total", frozenset()] == 1
    assert {(name.removesuffix("_total"), of) for name, of in found} == {
        (name.removesuffix("_total"), of) for name, of in of_text(text)
    }
    assert told["file_number", frozenset({("of", 'a"b')})] == "nan"
    assert told["file_seconds_count", frozenset()] == "3.0"
    names = [family.name for family in families(messages)]
    in_text = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert names == [name for name in in_text if name in names], "a family without samples is in the text alone"


async def test_a_scrape_of_one_container_and_of_some_names(agent: Agent) -> None:
    uuids = [str(item.uuid) for item in agent.registry.containers()]
    names = frozenset({"container_cpu_usage_seconds_total", "pymon_collections_total", "container_start_time_seconds"})
    for of in ({"scope": "container", "uuid": uuids[0]}, {"names": names}, {"scope": "node"}):
        text, messages = await both(agent, **of)
        assert frozen(series(messages)) == frozen(of_text(text)) != {}


async def test_scrapes_in_openmetrics_2(agent: Agent) -> None:
    uuids = [str(item.uuid) for item in agent.registry.containers()]
    names = frozenset({"container_cpu_usage_seconds_total", "pymon_collections_total", "container_start_time_seconds"})
    for of in ({}, {"scope": "container", "uuid": uuids[0]}, {"names": names}, {"scope": "node"}):
        forms = (Format.TEXT_0_0_4, Format.OPENMETRICS_2_0_0)
        text, newest = await asyncio.gather(*(scrape(agent, form, **of) for form in forms))
        told = {key: value for family in read(newest).values() for key, value in family.series.items()}
        assert frozen(told) == frozen(of_text(text.decode())) != {}


async def test_openmetrics_2_says_since_when_counters_count(agent: Agent) -> None:
    found = read(await scrape(agent, Format.OPENMETRICS_2_0_0))
    made = {dict(labels)["id"]: value for (_, labels), value in found["container_creation_time_seconds"].series.items()}
    starts = found["container_cpu_usage_seconds_total"].starts
    assert starts
    assert all(start == made[dict(labels)["id"]] > 0 for labels, start in starts.items())
    assert found["container_network_receive_bytes_total"].starts == {}
    assert found["node_cpu_seconds_total"].starts == {}
    ((_, began),) = found["process_start_time_seconds"].series.items()
    for name in ("pymon_collections_total", "process_cpu_seconds_total"):
        assert list(found[name].starts.values()) == [pytest.approx(began, abs=0.001)]
    assert found["file_seconds"].starts == {}, "when a plugin began to count is not known"


async def test_counters_of_control_groups_begin_when_these_were_made(agent: Agent) -> None:
    _, messages = await both(agent)
    found = {family.name: family for family in families(messages)}

    def by_id(name: str) -> dict[str, object]:
        return {
            next(label.value for label in metric.label if label.name == "id"): metric for metric in found[name].metric
        }

    made = {path: metric.gauge.value for path, metric in by_id("container_creation_time_seconds").items()}
    cpu = by_id("container_cpu_usage_seconds_total")
    assert cpu
    for path, metric in cpu.items():
        assert metric.counter.created_timestamp.ToSeconds() == made[path] > 0
    others = found["container_network_receive_bytes_total"].metric
    assert others
    assert not any(metric.counter.HasField("created_timestamp") for metric in others)
