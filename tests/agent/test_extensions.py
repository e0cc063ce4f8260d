"""Plugins and text files through the agent: real scripts, on the fixture hosts of Linux and on a node of illumos."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from pymon.agent.extensions import _Admission
from pymon.exposition.families import ExpositionError, Family, write
from pymon.plugins import textfile
from pymon.plugins.output import parse_output
from pymon.plugins.plugins import _labelled
from pymon.plugins.textfile import Textfile
from tests.agent.fixture_host import FixtureHost, copy_host
from tests.agent.zone_host import CAPPED, TWIN, ZoneHost, failures, names, running, scrape, series, value, zones
from tests.e2e.prometheus import check_metrics
from tests.exposition.prometheus_rules import broken_rules
from tests.live.agent import Agent as AgentProcess
from tests.live.world import until
from tests.oracle import parse
from tests.plugins.scripts import script

ECHO = r"""printf 'whom{k="v"}\tgauge\t%s\tHelp.\nruns\tcounter\t1\n' "$(printf %s "$1" | wc -c)" """


class Folders:
    """Directories of the operator's."""

    def __init__(self, root: Path) -> None:
        self.node, self.containers, self.text = root / "gz-plugins", root / "vm-plugins", root / "text"
        for folder in (self.node, self.containers, self.text):
            folder.mkdir(mode=0o755)

    def flags(self) -> list[str]:
        return [
            f"--plugin.node-directory={self.node}",
            f"--plugin.container-directory={self.containers}",
            f"--collector.textfile.directory={self.text}",
        ]

    def write(self, name: str, text: str) -> None:
        partial = self.text / f"{name}.new"
        partial.write_text(text)
        partial.rename(self.text / name)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def linux(tmp_path: Path) -> FixtureHost:
    return copy_host("v2", tmp_path)


@pytest.fixture(params=["cmon", "cadvisor"])
def flags(request: pytest.FixtureRequest, node: ZoneHost, folders: Folders) -> list[str]:
    return [f"--dialect={request.param}", *folders.flags()]


def test_collecting_once_runs_plugins_and_waits_for_them(flags: list[str], node: ZoneHost, folders: Folders) -> None:
    script(folders.node, "load.sh", ECHO)
    script(folders.containers, "disk.sh", ECHO)
    folders.write("backup.prom", "# TYPE backup_seconds gauge\nbackup_seconds 7\n")
    text = node.collect(*flags)
    openmetrics = node.collect(*flags, openmetrics=True)
    found = parse(text)
    assert value(found, "plugin_load_whom", k="v") == len("global")
    assert value(found, "plugin_disk_whom", id=f"/{CAPPED}", k="v", name="web-1") == len(CAPPED), "its zone's name"
    assert value(found, "plugin_disk_metrics_available_boolean", id=f"/{TWIN}") == 1
    assert value(found, "backup_seconds") == 7
    assert value(found, "node_textfile_scrape_error") == 0
    assert len([1 for name, _ in found if name == "plugin_disk_runs"]) == 7
    assert set(names(parse(openmetrics))) == names(found)
    list(parse_openmetrics(openmetrics.decode()))
    assert check_metrics(text).status in (0, 3)


async def test_a_zone_alone_has_the_labels_of_its_dialect(flags: list[str], node: ZoneHost, folders: Folders) -> None:
    script(folders.containers, "disk.sh", ECHO)
    async with running(node.options(*flags)) as agent:
        await agent.collection.prime(20)
        one = await series(agent, CAPPED)
        assert value(one, "plugin_disk_whom", k="v") == len(CAPPED)
        (labels,) = {frozenset(dict(labels)) for name, labels in one if name == "plugin_disk_whom"}
        assert labels == ({"k"} if "--dialect=cmon" in flags else {"k", "id", "image", "name"})
        assert not {name for name in names(one) if name.startswith("pymon_")}
        body = await scrape(agent, CAPPED, openmetrics=True)
        assert body is not None
        assert "plugin_disk_whom" in {family.name for family in parse_openmetrics(body.decode())}
        assert names(await series(agent, CAPPED, names=["plugin_disk_runs"])) == {"plugin_disk_runs"}
        narrow = await series(agent, CAPPED, collect=["tcp" if "--dialect=cmon" in flags else "container"])
        assert narrow
        assert "plugin_disk_whom" not in names(narrow)


async def test_the_node_alone_has_its_own_plugins_only(flags: list[str], node: ZoneHost, folders: Folders) -> None:
    script(folders.node, "load.sh", ECHO)
    script(folders.containers, "disk.sh", ECHO)
    folders.write("backup.prom", "backup_seconds 7\n")
    async with running(node.options(*flags)) as agent:
        await agent.collection.prime(20)
        found = await series(agent, scope="node")
        assert {"plugin_load_whom", "backup_seconds"} <= names(found)
        assert "plugin_disk_whom" not in names(found)
        narrow = await series(agent, scope="node", collect=["plugin"])
        assert "plugin_load_whom" in names(narrow)
        assert "backup_seconds" not in names(narrow)
        narrow = await series(agent, collect=["textfile"])
        assert "backup_seconds" in names(narrow)
        assert not {name for name in names(narrow) if name.startswith("plugin_")}
        assert names(await series(agent, names=["backup_seconds"])) == {"backup_seconds"}


async def test_a_slow_plugin_delays_no_scrape_and_is_seen_later(
    node: ZoneHost, folders: Folders, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script(folders.node, "slow.sh", f"read line <'{gate}'; printf 'value\\tgauge\\t42\\n'")
    folders.node.joinpath("plugin.json").write_text('{"slow.sh": {"timeout": 60000}}')
    async with running(node.options("--dialect=cmon", *folders.flags())) as agent:
        found: dict = {}
        async with asyncio.timeout(20):
            while "plugin_slow_metrics_available_boolean" not in names(found):
                found = await series(agent)
        begin = time.monotonic()
        found = await series(agent)
        assert time.monotonic() - begin < 5
        assert value(found, "plugin_slow_metrics_available_boolean") == 0
        assert value(found, "pymon_plugins_running") == 1
        await asyncio.to_thread(gate.write_text, "go\n")
        async with asyncio.timeout(20):
            while value(found, "plugin_slow_value") is None:
                found = await series(agent)
        assert value(found, "plugin_slow_value") == 42
        assert value(found, "plugin_slow_metrics_available_boolean") == 1


async def test_what_is_called_like_something_of_pymons_is_left_out_and_counted(
    node: ZoneHost, folders: Folders
) -> None:
    folders.write(
        "a.prom",
        "# TYPE cpu_user_usage counter\ncpu_user_usage 1\n"
        "# TYPE cpu_idle_seconds gauge\ncpu_idle_seconds 2\n"
        "# TYPE pymon_build_info gauge\npymon_build_info 3\n"
        "# TYPE cached_items gauge\ncached_items 4\n"
        "# TYPE collector_time_seconds_count gauge\ncollector_time_seconds_count 5\n"
        "# TYPE good gauge\ngood 6\n"
        "# TYPE good_total counter\ngood_total 7\n",
    )
    async with running(node.options("--dialect=cmon", *folders.flags())) as agent:
        await series(agent)
        found = await series(agent)
        openmetrics = await scrape(agent, openmetrics=True)
    assert value(found, "good") == 6
    assert "good_total" not in names(found), "OpenMetrics would call its family as the gauge's"
    assert all(("id" in dict(labels)) for name, labels in found if name == "cpu_user_usage")
    assert value(found, "cached_items") == 0
    assert "cpu_idle_seconds" not in names(found)
    assert failures(found, "textfile") == {"duplicate": 12}
    assert openmetrics is not None
    list(parse_openmetrics(openmetrics.decode()))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("# TYPE a gauge\na 1\n", "# TYPE a_total counter\na_total 1\n"),
        ("# TYPE a_total counter\na_total 1\n", "# TYPE a gauge\na 1\n"),
        ("# TYPE a summary\na_sum 1\na_count 2\n", "# TYPE a_count gauge\na_count 1\n"),
        ("# TYPE a_bucket gauge\na_bucket 1\n", '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n'),
        ("# TYPE a_created gauge\na_created 1\n", "# TYPE a_total counter\na_total 1\n"),
        ("# TYPE a_info gauge\na_info 1\n", "# TYPE a gauge\na 1\n"),
        ("# TYPE a gauge\na 1\n", "# TYPE a counter\na 1\n"),
    ],
)
async def test_families_of_files_that_are_in_each_others_way(
    first: str, second: str, node: ZoneHost, folders: Folders
) -> None:
    folders.write("1.prom", first)
    folders.write("2.prom", second)
    async with running(node.options("--dialect=cmon", *folders.flags())) as agent:
        text, openmetrics = await scrape(agent), await scrape(agent, openmetrics=True)
    assert text is not None
    assert openmetrics is not None
    assert first.splitlines()[-1].encode() in text
    list(parse_openmetrics(openmetrics.decode()))
    assert names(parse(text)) == names(parse(openmetrics))


async def test_a_plugin_may_not_pass_for_another(node: ZoneHost, folders: Folders) -> None:
    script(folders.node, "a.sh", r"printf 'b_value\tgauge\t1\n'")
    script(folders.node, "a_b.sh", r"printf 'value\tcounter\t2\n'")
    async with running(node.options("--dialect=cmon", *folders.flags())) as agent:
        await agent.collection.prime(20)
        found = await series(agent)
        openmetrics = await scrape(agent, openmetrics=True)
    assert value(found, "plugin_a_b_value") == 1
    assert failures(found, "plugin") == {"duplicate": 1}
    assert openmetrics is not None
    list(parse_openmetrics(openmetrics.decode()))


async def test_a_failing_plugin_is_counted_and_absent(node: ZoneHost, folders: Folders) -> None:
    script(folders.node, "bad.sh", "echo no tabs")
    script(folders.node, "worse.sh", "exit 3")
    script(folders.node, "open.sh", ECHO, mode=0o777)
    async with running(node.options("--dialect=cmon", *folders.flags())) as agent:
        await agent.collection.prime(20)
        found = await series(agent)
    assert value(found, "pymon_plugin_failures_total", plugin="bad", reason="parse") == 1
    assert value(found, "pymon_plugin_failures_total", plugin="worse", reason="exit") == 1
    assert value(found, "pymon_plugin_failures_total", plugin="open", reason="owner") == 1
    assert value(found, "plugin_bad_metrics_available_boolean") == 0
    assert "plugin_open_metrics_available_boolean" not in names(found)


async def test_a_zone_that_has_gone_has_no_plugins(node: ZoneHost, folders: Folders) -> None:
    script(folders.containers, "disk.sh", ECHO)
    async with running(node.options("--dialect=cmon", *folders.flags())) as agent:
        await agent.collection.prime(20)
        assert f"{CAPPED}" in zones(await series(agent))
        node.double.remove_zone(1)
        assert await scrape(agent, CAPPED) is None
        found = await series(agent)
        assert CAPPED not in zones(found)
        assert (CAPPED, "disk") not in agent.collection._extensions._plugins._entries, "it is not run for it any more"
        assert len([1 for name, _ in found if name == "plugin_disk_whom"]) == 6


async def test_text_files_that_cannot_be_read_in_time_are_absent(
    node: ZoneHost, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.write("backup.prom", "backup_seconds 7\n")
    free = threading.Event()
    read = textfile._read
    async with running(node.options("--dialect=cmon", *folders.flags())) as agent:
        assert "backup_seconds" in names(await series(agent))
        monkeypatch.setattr(textfile, "_read", lambda path: free.wait(60) and read(path))
        found = await series(agent, seconds=1.0)
        assert "backup_seconds" not in names(found), "of an earlier scrape, and nobody knows how old"
        assert failures(found, "textfile") == {"deadline": 1}
        free.set()
        async with asyncio.timeout(20):
            while "backup_seconds" not in names(found):
                found = await series(agent)


def test_a_bad_text_file_costs_that_file(linux: FixtureHost, folders: Folders) -> None:
    folders.write("good.prom", "good 1\n")
    folders.write("bad.prom", "bad 1 1700000000000\n")
    found = linux.collect(*folders.flags())
    assert value(found, "good") == 1
    assert "bad" not in names(found)
    assert value(found, "node_textfile_scrape_error") == 1
    assert failures(found, "textfile") == {"parse": 1}


@pytest.mark.parametrize("dialect", ["cmon", "cadvisor"])
def test_on_linux_plugins_are_told_the_uuid(dialect: str, linux: FixtureHost, folders: Folders) -> None:
    script(folders.node, "load.sh", ECHO)
    script(folders.containers, "disk.sh", ECHO)
    found = linux.collect(f"--dialect={dialect}", *folders.flags())
    assert value(found, "plugin_load_whom") == len("global")
    told = {dict(labels)["id"]: count for (name, labels), count in found.items() if name == "plugin_disk_whom"}
    assert set(told.values()) == {36}
    assert len(told) == 6


def test_without_directories_there_is_nothing_but_that_nothing_failed(linux: FixtureHost) -> None:
    found = linux.collect()
    there = {name for name in names(found) if name.startswith(("plugin_", "pymon_plugin", "node_textfile"))}
    assert there == {"node_textfile_scrape_error"}
    assert found["node_textfile_scrape_error", frozenset()] == 0
    assert not {name for name in names(linux.collect("--dialect=cmon")) if name.startswith("node_textfile")}


def test_plugins_and_text_files_of_an_agent_that_is_a_process(
    linux: FixtureHost, folders: Folders, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script(folders.node, "slow.sh", f"read line <'{gate}'; printf 'value\\tgauge\\t42\\n'")
    script(folders.containers, "disk.sh", ECHO)
    folders.node.joinpath("plugin.json").write_text('{"slow.sh": {"timeout": 60000}}')
    folders.write("backup.prom", "backup_seconds 7\n")
    with AgentProcess(*linux.flags(), "--dialect=cmon", *folders.flags()) as agent:
        until("the containers' plugin has run", lambda: "plugin_disk_whom" in names(agent.scrape().series))
        scraped = agent.scrape()
        assert scraped.own("backup_seconds") == 7
        assert scraped.own("plugin_slow_metrics_available_boolean") == 0
        gate.write_text("go\n")
        until("the slow one has run", lambda: agent.scrape().own("plugin_slow_value") == 42)
        (uuid,) = {item["uuid"] for item in json.loads(agent.get("/v1/containers").body)["containers"][:1]}
        one = parse(agent.get(f"/v1/{uuid}/metrics").body)
        assert value(one, "plugin_disk_whom", k="v") == 36
        assert {key for name, labels in one if name == "plugin_disk_whom" for key, _ in labels} == {"k"}
        assert b"plugin_slow_value" in agent.get("/v1/gz/metrics").body
        assert agent.get("/metrics?collect[]=plugin").status == 200
        narrow = parse(agent.get("/metrics?collect[]=textfile&name[]=backup_seconds").body)
        assert narrow == {("backup_seconds", frozenset()): 7}
        openmetrics = agent.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
        list(parse_openmetrics(openmetrics.body.decode()))


def test_the_agent_answers_while_it_reads_hostile_text_files(linux: FixtureHost, folders: Folders) -> None:
    """It was 11 s at each scrape with the first."""
    folders.write("a.prom", "a 1 x" + " " * 40_000 + "y\n")
    folders.write("b.prom", "b" + " " * 15_000_000 + "1 x\n")
    folders.write("c.prom", "# TYPE c gauge\n" + "".join(f'c{{n="{n}"}} 1\n' for n in range(100_000)))
    folders.write("good.prom", "good 1\n")
    with AgentProcess(*linux.flags(), *folders.flags()) as agent:
        bodies: list[bytes] = []

        def scrape() -> None:
            bodies.extend(agent.get("/metrics").body for _ in range(3))

        thread = threading.Thread(target=scrape)
        thread.start()
        longest, asked = 0.0, 0
        while thread.is_alive():
            started = time.perf_counter()
            assert agent.get("/-/healthy").status == 200
            longest = max(longest, time.perf_counter() - started)
            asked += 1
        thread.join()
    assert longest < 1, "the loop is held"
    assert asked > 3
    found = parse(bodies[-1])
    assert value(found, "good") == 1
    assert value(found, "node_textfile_scrape_error") == 1
    assert len([1 for name, _ in found if name == "c"]) == 100_000
    assert not names(found) & {"a", "b"}


# Whatever text files and plugins write, what is sent is valid.

NAMES = st.sampled_from(["a", "a_sum", "a_count", "a_bucket", "a_total", "plugin_p_a", "plugin_p_a_sum", "pymon_a"])
LABELS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "id", "exported_id", "le", "quantile"]),
        st.sampled_from(["", "1", "1.0", "+Inf", "NaN", "nan", "\\n", "ä"]),
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    lines = []
    for name in draw(st.lists(NAMES, max_size=3)):
        kind = draw(st.sampled_from(["gauge", "counter", "histogram", "summary", "untyped"]))
        if draw(st.booleans()):
            lines.append(f"# HELP {name} {draw(st.sampled_from(['x', 'y']))}")
        lines.append(f"# TYPE {name} {kind}")
        for _ in range(draw(st.integers(1, 3))):
            suffixes = {"histogram": ["_bucket", "_sum", "_count"], "summary": ["", "_sum", "_count"]}.get(kind, [""])
            suffix, labels = draw(st.sampled_from(suffixes)), draw(LABELS)
            bound = {("histogram", "_bucket"): "le", ("summary", ""): "quantile"}.get((kind, suffix))
            if bound and bound not in dict(labels):
                labels.append((bound, draw(st.sampled_from(["1", "1.0", "NaN", "nan", "+Inf", "inf"]))))
            inside = ",".join(f'{label}="{text}"' for label, text in labels)
            lines.append(f"{name}{suffix}{{{inside}}} {draw(st.sampled_from(['1', '.5', '+2e3']))}")
    return "".join(f"{line}\n" for line in lines)


@settings(max_examples=200, deadline=None)
@given(files=st.lists(texts(), max_size=3), outputs=st.lists(texts(), max_size=2))
def test_what_text_files_and_plugins_write_is_valid_or_left_out(
    files: list[str], outputs: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("text")
    for number, text in enumerate(files):
        (directory / f"{number}.prom").write_text(text)
    textfile = Textfile([str(directory)])
    textfile.collect()
    said: list[Family] = list(textfile.families)
    for plugin, text in zip(("p", "p_a"), outputs, strict=False):
        with contextlib.suppress(ExpositionError):
            families = parse_output(plugin, "/plugins/x.prom", text.encode()).families
            said += [_labelled(family, (("id", "/x"),)) for family in families]
    admission = _Admission(frozenset())
    admitted = [family for family in said if admission.admits(family)]
    assert broken_rules(write(admitted, openmetrics=False)) == []
    # This parser, unlike Prometheus, also asks whether a histogram's numbers make sense.
    plain = [family for family in admitted if family.kind not in ("histogram", "summary")]
    list(parse_openmetrics(write(plain, openmetrics=True).decode() + "# EOF\n"))
