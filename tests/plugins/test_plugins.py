import asyncio
import json
import os
import time
from pathlib import Path

import pytest
import uvloop

from pymon.exposition.families import parse_text, write
from pymon.plugins.plugins import LATELY_SECONDS, MAX_RUNNING, RELOAD_SECONDS, Plugins, Target
from tests.exposition.prometheus_rules import broken_rules
from tests.plugins.scripts import script, until

UUID = "9f3c2a52-61b1-4c5f-9a05-0f34b1a3ce10"
OTHER = "0a8c1d6e-0000-4000-8000-000000000001"
WEB = Target(UUID, "web", (("id", UUID), ("name", "web")))
DB = Target(OTHER, "db", (("id", OTHER), ("name", "db")))
GOOD = r"printf 'value\tgauge\t42\n'"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def directories(tmp_path):
    node, containers = tmp_path / "gz-plugins", tmp_path / "vm-plugins"
    node.mkdir(mode=0o755)
    containers.mkdir(mode=0o755)
    return node, containers


@pytest.fixture
async def started(directories, clock):
    running = []

    async def started():
        plugins = Plugins(*directories, owner_uid=os.geteuid(), clock=clock)
        running.append(plugins)
        await plugins.start()
        return plugins

    yield started
    for plugins in running:
        await plugins.stop()


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def series(families):
    """Lines of the text format."""
    lines = write(families, openmetrics=False).decode().splitlines()
    return [line for line in lines if line[0] != "#" and "_timer_seconds" not in line]


def available(families):
    return {line.split()[0]: line.split()[1] for line in series(families) if "_available_" in line}


async def test_the_first_scrape_has_nothing_yet_and_the_next_has_the_values(directories, started):
    script(directories[0], "my.sh", GOOD)
    plugins = await started()
    assert series(plugins.node()) == [
        "plugin_my_metrics_available_boolean 0",
        "plugin_my_metrics_cached_boolean 0",
    ]
    await plugins.prime((), 20)
    first = plugins.node()
    assert series(first) == [
        "plugin_my_metrics_available_boolean 1",
        "plugin_my_metrics_cached_boolean 0",
        "plugin_my_value 42",
    ]
    assert any(family.name == "plugin_my_metrics_timer_seconds" for family in first)
    assert series(plugins.node())[1] == "plugin_my_metrics_cached_boolean 1"


async def test_prime_waits_for_the_node_and_the_containers(directories, started):
    script(directories[0], "host.sh", r'printf "whom{argument=\"$1\"}\tgauge\t1\n"')
    script(directories[1], "guest.prom", r'printf "# TYPE whom gauge\nwhom{argument=\"$1\"} 2\n"')
    plugins = await started()
    await plugins.prime((WEB, DB), 20)
    assert series(plugins.node())[-1] == 'plugin_host_whom{argument="global"} 1'
    assert series(plugins.container(WEB, labelled=False))[-1] == 'plugin_guest_whom{argument="web"} 2'
    labelled = write([*plugins.container(WEB, labelled=True), *plugins.container(DB, labelled=True)], openmetrics=False)
    assert f'plugin_guest_whom{{id="{UUID}",name="web",argument="web"}} 2\n' in labelled.decode()
    assert f'plugin_guest_metrics_available_boolean{{id="{OTHER}",name="db"}} 1\n' in labelled.decode()
    names = [family.name for family in parse_text(labelled)]
    assert len(names) == len(set(names)) == 4


async def test_prime_gives_up_after_its_timeout(directories, started):
    script(directories[0], "slow.sh", "exec sleep 300")
    (directories[0] / "plugin.json").write_text('{"slow.sh": {"timeout": 60000}}')
    (directories[0] / "plugin.json").chmod(0o644)
    plugins = await started()
    await plugins.prime((), 0.2)
    assert available(plugins.node()) == {"plugin_slow_metrics_available_boolean": "0"}


async def test_a_label_that_the_container_has_is_exported(directories, started):
    script(directories[1], "my.sh", r"""printf 'value{name="x",z="y"}\tgauge\t1\n'""")
    plugins = await started()
    await plugins.prime((WEB,), 20)
    wanted = f'plugin_my_value{{id="{UUID}",name="web",exported_name="x",z="y"}} 1'
    assert series(plugins.container(WEB, labelled=True))[-1] == wanted
    assert series(plugins.container(WEB, labelled=False))[-1] == 'plugin_my_value{name="x",z="y"} 1'


async def test_a_label_is_never_exported_onto_another(directories, started):
    script(directories[1], "my.sh", r"""printf 'value{exported_name="a",name="b"}\tgauge\t1\n'""")
    plugins = await started()
    await plugins.prime((WEB,), 20)
    wanted = f'plugin_my_value{{id="{UUID}",name="web",exported_name="a",exported_exported_name="b"}} 1'
    assert series(plugins.container(WEB, labelled=True))[-1] == wanted


async def test_a_label_is_exported_alike_in_all_lines_of_a_family(directories, started):
    lines = r"""value{name="x"}\tgauge\t1\nvalue{exported_name="x"}\tgauge\t2\n"""
    script(directories[1], "my.sh", f"printf '{lines}'")
    plugins = await started()
    await plugins.prime((WEB,), 20)
    written = write(plugins.container(WEB, labelled=True), openmetrics=False)
    assert broken_rules(written) == []
    assert f'plugin_my_value{{id="{UUID}",name="web",exported_exported_name="x"}} 1' in written.decode()
    assert f'plugin_my_value{{id="{UUID}",name="web",exported_name="x"}} 2' in written.decode()


async def test_of_two_plugins_with_one_family_the_first_has_it(directories, started):
    for directory in directories:
        script(directory, "a.sh", r"""printf 'b_value{x="1",y="2"}\tgauge\t1\n'""")
        script(directory, "a_b.sh", r"""printf 'value{y="2",x="1"}\tgauge\t2\nother\tgauge\t3\n'""")
    plugins = await started()
    await plugins.prime([WEB, DB], 20)
    for families in (plugins.node(), plugins.container(WEB, labelled=True), await plugins.containers([WEB, DB])):
        written = write(families, openmetrics=False)
        assert broken_rules(written) == []
        assert b"plugin_a_b_value" in written
        assert b"plugin_a_b_other" in written
        values = [line.split()[-1] for line in written.decode().splitlines() if line.startswith("plugin_a_b_value")]
        assert set(values) == {"1"}
    assert plugins.problems["a_b", "duplicate"] == 4


async def test_vms_of_plugin_json_says_for_which_containers_a_plugin_is_run(directories, started):
    script(directories[1], "my.sh", GOOD)
    (directories[1] / "plugin.json").write_text(json.dumps({"my.sh": {"vms": [UUID.upper()]}}))
    (directories[1] / "plugin.json").chmod(0o644)
    plugins = await started()
    assert plugins.of_containers
    assert plugins.container(DB, labelled=False) == []
    assert available(plugins.container(WEB, labelled=False))


async def test_a_scrape_does_not_wait_for_a_plugin(directories, started):
    script(directories[0], "slow.sh", "exec sleep 300")
    (directories[0] / "plugin.json").write_text('{"slow.sh": {"timeout": 1500}}')
    (directories[0] / "plugin.json").chmod(0o644)
    plugins = await started()
    before = time.monotonic()
    assert available(plugins.node()) == {"plugin_slow_metrics_available_boolean": "0"}
    assert time.monotonic() - before < 1
    await until(lambda: plugins.problems["slow", "timeout"])
    assert 'pymon_plugin_failures_total{plugin="slow",reason="timeout"} 1' in series(plugins.self_families())


async def test_the_last_good_value_stays_until_its_ttl_is_over(directories, started, clock, tmp_path):
    script(directories[0], "my.sh", f"test -e {tmp_path}/bad && exit 1; {GOOD}")
    plugins = await started()
    await plugins.prime((), 20)
    (tmp_path / "bad").touch()
    clock.now += 57
    plugins.node()
    await until(lambda: plugins.problems["my", "exit"] == 1)
    assert series(plugins.node())[-1] == "plugin_my_value 42"
    clock.now += 3
    assert series(plugins.node()) == ["plugin_my_metrics_available_boolean 0", "plugin_my_metrics_cached_boolean 0"]
    (tmp_path / "bad").unlink()
    clock.now += 20
    plugins.node()
    await until(lambda: available(plugins.node()) == {"plugin_my_metrics_available_boolean": "1"})


async def test_a_value_is_not_measured_again_while_it_is_young(directories, started, clock, tmp_path):
    script(directories[0], "my.sh", f"echo >> {tmp_path}/runs; {GOOD}")
    plugins = await started()
    await plugins.prime((), 20)
    clock.now += 30
    await plugins.prime((), 20)
    assert (tmp_path / "runs").read_text() == "\n"


@pytest.mark.parametrize(("option", "seconds"), [("", 60), (r"ttl\toption\t300\n", 300), (r"ttl\toption\t0\n", 5)])
async def test_the_ttl_is_that_of_the_output_or_of_the_plugin(directories, started, clock, option, seconds):
    script(directories[0], "my.sh", rf"printf '{option}value\tgauge\t42\n'")
    plugins = await started()
    await plugins.prime((), 20)
    (directories[0] / "my.sh").write_text("#!/bin/sh\nexit 1\n")
    clock.now += seconds - 0.01
    assert available(plugins.node()) == {"plugin_my_metrics_available_boolean": "1"}
    clock.now += 0.01
    assert available(plugins.node()) == {"plugin_my_metrics_available_boolean": "0"}


async def test_values_are_renewed_in_the_background_while_somebody_asks(directories, tmp_path):
    script(directories[0], "my.sh", rf"echo >> {tmp_path}/runs; printf 'ttl\toption\t0\nvalue\tgauge\t1\n'")
    plugins = Plugins(*directories, owner_uid=os.geteuid(), min_ttl_seconds=0.2)
    await plugins.start()
    try:
        plugins.node()
        await until(lambda: (tmp_path / "runs").exists() and len((tmp_path / "runs").read_text()) >= 4)
    finally:
        await plugins.stop()


async def test_what_nobody_asks_for_is_not_run(directories, started, clock, tmp_path):
    script(directories[0], "my.sh", f"echo >> {tmp_path}/runs; {GOOD}")
    script(directories[1], "other.sh", f"touch {tmp_path}/never; {GOOD}")
    plugins = await started()
    await plugins.prime((), 20)
    clock.now += LATELY_SECONDS + 1
    plugins._wake.set()
    await until(lambda: plugins._entries["", "my"].parked)
    assert (tmp_path / "runs").read_text() == "\n"
    assert not (tmp_path / "never").exists()
    await plugins.prime((), 20)
    assert (tmp_path / "runs").read_text() == "\n\n"
    assert not plugins.problems
    clock.now += LATELY_SECONDS + 1
    plugins._wake.set()
    await until(lambda: plugins._entries["", "my"].parked)
    clock.now += RELOAD_SECONDS
    plugins._wake.set()
    await until(lambda: not plugins._entries)


@pytest.mark.parametrize(
    ("body", "reason"),
    [("exit 1", "exit"), ("echo nonsense", "parse"), ("exec yes", "size"), ("exec sleep 300", "timeout")],
)
async def test_a_failure_is_counted_by_its_reason_and_costs_no_other_plugin(directories, started, body, reason):
    script(directories[0], "bad.sh", body)
    script(directories[0], "good.sh", GOOD)
    (directories[0] / "plugin.json").write_text('{"bad.sh": {"timeout": 2000}}')
    (directories[0] / "plugin.json").chmod(0o644)
    plugins = await started()
    await plugins.prime((), 20)
    assert dict(plugins.problems) == {("bad", reason): 1}
    assert available(plugins.node()) == {
        "plugin_bad_metrics_available_boolean": "0",
        "plugin_good_metrics_available_boolean": "1",
    }


async def test_refused_files_are_counted_and_logged_once(directories, started, clock, caplog):
    script(directories[0], "open.sh", GOOD, mode=0o777)
    plugins = await started()
    assert plugins.node() == []
    assert dict(plugins.problems) == {("open", "owner"): 1}
    clock.now += RELOAD_SECONDS
    plugins._wake.set()
    await until(lambda: plugins.problems["open", "owner"] == 2)
    assert len([record for record in caplog.records if "open.sh" in record.getMessage()]) == 1


async def test_directories_are_read_again(directories, started, clock):
    script(directories[0], "old.sh", GOOD)
    plugins = await started()
    await plugins.prime((), 20)
    (directories[0] / "old.sh").unlink()
    script(directories[0], "new.sh", GOOD)
    clock.now += RELOAD_SECONDS
    plugins._wake.set()
    await until(lambda: list(available(plugins.node())) == ["plugin_new_metrics_available_boolean"])


def test_the_loop_of_the_agent_runs_them_as_well(directories):
    async def said():
        plugins = Plugins(*directories, owner_uid=os.geteuid())
        await plugins.start()
        try:
            await plugins.prime((), 20)
            return series(plugins.node())
        finally:
            await plugins.stop()

    script(directories[0], "my.sh", GOOD)
    assert uvloop.run(said())[-1] == "plugin_my_value 42"


async def test_without_directories_there_is_nothing(tmp_path):
    plugins = Plugins(None, tmp_path / "nowhere", owner_uid=os.geteuid())
    await plugins.stop()
    await plugins.start()
    assert (plugins.node(), plugins.container(WEB, labelled=True), plugins.of_containers) == ([], [], False)
    await plugins.prime((WEB,), 20)
    await plugins.stop()


async def test_a_container_that_has_gone_is_forgotten(directories, started):
    script(directories[1], "my.sh", GOOD)
    plugins = await started()
    await plugins.prime((WEB, DB), 20)
    plugins.forget(UUID)
    plugins.forget("unknown")
    assert list(plugins._entries) == [(OTHER, "my")]
    assert available(plugins.container(WEB, labelled=False)) == {"plugin_my_metrics_available_boolean": "0"}


async def test_no_more_than_the_limit_run_at_once(directories, started, clock, tmp_path):
    script(directories[1], "my.sh", f"until test -e {tmp_path}/go; do sleep 0.1; done; {GOOD}")
    (directories[1] / "plugin.json").write_text('{"my.sh": {"timeout": 60000}}')
    (directories[1] / "plugin.json").chmod(0o644)
    plugins = await started()
    targets = [Target(f"{number}", f"{number}", ()) for number in range(MAX_RUNNING + 5)]
    for target in targets:
        plugins.container(target, labelled=False)
    running = plugins.self_families()[-1]
    assert (running.name, running.samples[0].value) == ("pymon_plugins_running", str(MAX_RUNNING))
    clock.now += 2
    (tmp_path / "go").touch()
    await plugins.prime(targets, 30)
    assert all("plugin_my_value 42" in series(plugins.container(target, labelled=False)) for target in targets)
    assert dict(plugins.problems) == {("my", "concurrency"): 5}


async def test_stop_kills_what_runs(directories, clock, tmp_path):
    script(
        directories[0], "my.sh", f"echo $$ > {tmp_path}/pid.tmp; mv {tmp_path}/pid.tmp {tmp_path}/pid; exec sleep 300"
    )
    (directories[0] / "plugin.json").write_text('{"my.sh": {"timeout": 300000}}')
    (directories[0] / "plugin.json").chmod(0o644)
    descriptors = open_descriptors()
    plugins = Plugins(*directories, owner_uid=os.geteuid(), clock=clock)
    await plugins.start()
    plugins.node()
    await until((tmp_path / "pid").exists)
    await plugins.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert open_descriptors() == descriptors


async def test_what_is_said_of_many_containers_is_what_is_said_of_each(started, directories):
    script(
        directories[1],
        "app.sh",
        r"""printf 'value{id="its own"}\tgauge\t%s\tHelp.\n' "${#1}"; [ "$1" = db ] || printf 'more\tcounter\t7\n'""",
    )
    histogram = '# TYPE h histogram\nh_bucket{le="2"} 1\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n'
    script(directories[1], "app2.prom", f"printf '{histogram}'".replace("\n", "\\n"))
    plugins = await started()
    await plugins.prime([WEB, DB], 20)
    plugins.container(WEB, labelled=True), plugins.container(DB, labelled=True)  # from now on they are cached
    for target in (WEB, WEB._replace(labels=(("id", UUID), ("name", "another")))):
        targets = (target, DB)
        expected = [family for each in targets for family in plugins.container(each, labelled=True)]
        found = await plugins.containers(targets)
        assert len({family.name for family in found}) == len(found)
        for openmetrics in (False, True):
            assert write(found, openmetrics=openmetrics) == write(expected, openmetrics=openmetrics)
    assert b'value{id="' + UUID.encode() + b'",name="another",exported_id="its own"} 3\n' in write(
        found, openmetrics=False
    )


async def test_many_containers_do_not_hold_the_loop(started, directories):
    script(directories[1], "app.sh", GOOD)
    directories[1].joinpath("plugin.json").write_text(f'{{"app.sh": {{"vms": ["{UUID}"]}}}}')
    plugins = await started()
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count())
    await plugins.containers(Target(str(i), "", (("id", str(i)),)) for i in range(10_000))
    others.cancel()
    assert turns > 30
