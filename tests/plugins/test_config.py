import json
import os
from pathlib import Path

import pytest

from pymon.plugins.config import Plugin, load_directory

ME = os.geteuid()


def script(path, text="#!/bin/sh\n", mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "plugins"
    path.mkdir(mode=0o755)
    return path


def configured(directory, **entries):
    (directory / "plugin.json").write_text(
        json.dumps({name.replace("__", "."): value for name, value in entries.items()})
    )
    (directory / "plugin.json").chmod(0o644)


def reasons(loaded):
    return [(refused.plugin, refused.reason) for refused in loaded.refused]


def test_executable_files_are_plugins_named_without_their_last_extension(directory):
    script(directory / "disk.sh")
    script(directory / "load")
    script(directory / "notes.txt", mode=0o644)
    script(directory / "plugin.json", "{}")
    (directory / "sub").mkdir()
    os.mkfifo(directory / "pipe", 0o755)
    loaded = load_directory(directory, ME)
    assert loaded.plugins == (Plugin("disk", directory / "disk.sh"), Plugin("load", directory / "load"))
    assert not loaded.refused
    assert (loaded.plugins[0].timeout_seconds, loaded.plugins[0].ttl_seconds, loaded.plugins[0].uuids) == (3, 60, None)


def test_a_directory_that_is_not_there_holds_none(tmp_path):
    assert load_directory(tmp_path / "nowhere", ME) == ((), ())


def test_plugin_json_sets_timeout_ttl_and_containers_by_full_file_name(directory):
    script(directory / "a.sh")
    script(directory / "b.sh")
    configured(directory, a__sh={"timeout": 250, "ttl": 10, "vms": ["AB-1"], "note": "x"}, b={"timeout": 1}, gone={})
    a, b = load_directory(directory, ME).plugins
    assert a == Plugin("a", directory / "a.sh", 0.25, 10.0, frozenset(("ab-1",)))
    assert b == Plugin("b", directory / "b.sh")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"timeout": 0}, "timeout: expected milliseconds above 0, got 0"),
        ({"timeout": "3"}, "timeout: expected milliseconds above 0, got '3'"),
        ({"ttl": True}, "ttl: expected seconds, got True"),
        ({"ttl": float("nan")}, "ttl: expected seconds, got nan"),
        ({"vms": "all"}, "vms: expected an array of UUIDs, got 'all'"),
        ({"vms": [1]}, "vms: expected an array of UUIDs, got [1]"),
        ([], "expected an object, got []"),
    ],
)
def test_a_bad_entry_costs_its_plugin(directory, entry, expected):
    script(directory / "a.sh")
    script(directory / "b.sh")
    configured(directory, a__sh=entry)
    loaded = load_directory(directory, ME)
    assert [plugin.name for plugin in loaded.plugins] == ["b"]
    assert reasons(loaded) == [("a", "config")]
    assert loaded.refused[0].text.endswith(f"plugin.json: a.sh: {expected}")


@pytest.mark.parametrize("text", ["{", "[]", "1", "[" * 100_000, '{"a":' * 100_000, "\0", " " * (1 << 20) + "{}"])
def test_a_bad_plugin_json_costs_the_directory(directory, text):
    script(directory / "a.sh")
    (directory / "plugin.json").write_text(text)
    (directory / "plugin.json").chmod(0o644)
    loaded = load_directory(directory, ME)
    assert not loaded.plugins
    assert reasons(loaded) == [("", "config")]
    assert loaded.refused[0].text.startswith(f"{directory}/plugin.json: expected ")
    assert len(loaded.refused[0].text) < 300


def test_a_plugin_json_that_is_no_file_costs_the_directory(directory):
    script(directory / "a.sh")
    os.mkfifo(directory / "plugin.json", 0o644)
    assert reasons(load_directory(directory, ME)) == [("", "config")]


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_what_others_can_write_is_not_run(directory, mode):
    script(directory / "a.sh", mode=mode)
    script(directory / "b.sh")
    loaded = load_directory(directory, ME)
    assert [plugin.name for plugin in loaded.plugins] == ["b"]
    assert reasons(loaded) == [("a", "owner")]
    directory.chmod(mode)
    loaded = load_directory(directory, ME)
    assert not loaded.plugins
    assert loaded.refused[0].text == (
        f"{directory}: expected not to be writable by group and others, got mode {mode:04o}"
    )
    directory.chmod(0o755)
    (directory / "plugin.json").write_text("{}")
    (directory / "plugin.json").chmod(0o666)
    assert reasons(load_directory(directory, ME)) == [("", "owner")]


def test_what_another_user_owns_is_not_run(directory):
    script(directory / "a.sh")
    loaded = load_directory(directory, ME + 1)
    assert reasons(loaded) == [("", "owner")]
    assert loaded.refused[0].text == f"{directory}: expected to be owned by user {ME + 1}, got {ME}"


@pytest.mark.root
def test_a_file_of_another_user_in_the_right_directory_is_not_run(directory):
    os.chown(script(directory / "a.sh"), 12345, 0)
    assert reasons(load_directory(directory, ME)) == [("a", "owner")]


def test_a_link_is_followed_into_a_directory_that_is_as_safe(directory, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (directory / "a").symlink_to(script(other / "real.sh"))
    (directory / "dangling").symlink_to("nowhere")
    loaded = load_directory(directory, ME)
    assert [plugin.name for plugin in loaded.plugins] == ["a"]
    assert reasons(loaded) == [("dangling", "oserror")]
    other.chmod(0o777)
    assert reasons(load_directory(directory, ME)) == [("a", "owner"), ("dangling", "oserror")]


@pytest.mark.parametrize("name", ["disk-usage.sh", "a.b.sh", "a b", 'x"y', "ä"])
def test_a_name_that_no_metric_can_have_is_refused(directory, name):
    script(directory / name)
    loaded = load_directory(directory, ME)
    assert not loaded.plugins
    assert reasons(loaded) == [(Path(name).stem, "name")]


def test_of_two_files_with_one_name_the_first_is_run(directory):
    script(directory / "a.py")
    script(directory / "a.sh")
    loaded = load_directory(directory, ME)
    assert [plugin.path.name for plugin in loaded.plugins] == ["a.py"]
    assert reasons(loaded) == [("a", "name")]
