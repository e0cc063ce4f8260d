"""A directory, a disk and ports that are damaged, missing, full or taken: what a whole proxy does then."""

import contextlib
import shutil
import socket
import sqlite3

from pymon import cli
from pymon.directory.directory import open_directory
from tests.proxy.agents import until
from tests.proxy.hostile_world import lines, world
from tests.proxy.running import (
    A,
    FakeNode,
    Site,
    container,
    on_uvloop,
    run_proxy,
    running,
)


@on_uvloop
async def test_a_directory_that_is_damaged_or_goes_while_it_serves_changes_nothing(tmp_path, caplog):
    async with world(tmp_path) as (proxy, _, alice, bob):
        live, file = proxy.proxy.live, proxy.site.data_dir / "directory.db"
        proxy.site.directory.close()
        aside = tmp_path / "aside"
        shutil.copyfile(file, aside)
        for damage in ("removed", "garbage", "empty"):
            for part in proxy.site.data_dir.glob("directory.db*"):
                part.unlink()
            if damage != "removed":
                (proxy.site.data_dir / "new").write_bytes(b"garbage " * 1000 if damage == "garbage" else b"")
                (proxy.site.data_dir / "new").replace(file)
            await until(lambda: live.error)
            assert (await proxy.ask(f"/v1/{A}/metrics", alice)).status == 200
            assert (await proxy.ask("/v1/discover", bob)).status == 200
            assert await proxy.metric("pymon_proxy_directory_up") == 0
            assert file.exists() == (damage != "removed")
            shutil.copyfile(aside, proxy.site.data_dir / "new")
            (proxy.site.data_dir / "new").replace(file)
            await until(lambda: not live.error)
        with open_directory(str(file)) as directory:
            directory.delete_account("bob")
        await until(lambda: "bob" not in live.snapshot.accounts_by_name)
        assert (await proxy.ask("/v1/discover", bob)).status == 401
        assert (await proxy.ask("/v1/discover", alice)).status == 200
        assert await proxy.metric("pymon_proxy_directory_up") == 1
    assert all(str(file) in line for line in lines(caplog) if "directory cannot be read" in line)


@on_uvloop
async def test_a_directory_that_is_damaged_at_the_start_is_served_from_the_copy(tmp_path, caplog, capsys):
    async with world(tmp_path) as (proxy, node, alice, bob):
        site = proxy.site
        site.directory.close()
        copy = site.data_dir / "directory-copy.json"
        await until(lambda: copy.exists() and node.uuid in copy.read_text())  # from then on the node is pinned there
        await proxy.proxy.stop_following()
        file = site.data_dir / "directory.db"
        bad = file.read_bytes()[:9000]
        file.write_bytes(bad)
        async with running(site) as again:
            await until(lambda: len(again.proxy.fleet) > 0)
            assert (await again.ask(f"/v1/{A}/metrics", alice)).status == 200
            assert (await again.ask("/v1/discover", bob)).status == 200
            assert await again.metric("pymon_proxy_directory_up") == 0
            for words in (["account", "create", "x"], ["account", "list"], ["directory", "upgrade"]):
                assert cli.main([*words, "--data-dir", str(site.data_dir)]) == 1
                out, err = capsys.readouterr()
                assert (out, err.count("\n")) == ("", 1)
                assert err.startswith(f"pymon: {file}: ")
    assert file.read_bytes() == bad
    assert len([line for line in lines(caplog) if "serving from the copy of the directory" in line]) == 1


@on_uvloop
async def test_a_disk_that_takes_nothing_costs_a_line_and_no_answer(tmp_path, caplog):
    site = Site(tmp_path)
    alice = site.account("alice")
    (site.data_dir / "inventory").write_text("a file")
    (site.data_dir / "directory-copy.json").mkdir()
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            assert (await proxy.ask(f"/v1/{A}/metrics", alice)).status == 200
            await until(lambda: any("inventories cannot be kept" in line for line in lines(caplog)))
    written = lines(caplog)
    assert len([line for line in written if "directory's copy cannot be written" in line]) == 1
    assert len([line for line in written if "inventories cannot be kept on disk" in line]) == 1


def refused(*flags):
    """The one line with which it does not start."""
    done = run_proxy(*flags)
    assert done.stdout == ""
    last = done.stderr.splitlines()
    assert len(last) == 1, done.stderr
    return done.returncode, last[0].removeprefix("pymon: ")


def test_a_damaged_directory_is_refused_and_stays_as_it_is(tmp_path):
    site = Site(tmp_path)
    site.directory.close()
    file = site.data_dir / "directory.db"
    whole = file.read_bytes()
    text = b"not a database at all\n" * 100
    for name, data in {"text": text, "cut": whole[:3000], "header": b"X" * 100 + whole[100:]}.items():
        file.write_bytes(data)
        status, line = refused(*site.flags())
        assert status == 1
        assert line.startswith(f"{file}: "), name
        assert "pymon directory" in line or "damaged" in line, line
        assert file.read_bytes() == data
    assert line == f"{file}: not a pymon directory (file is not a database)"


def test_a_directory_that_is_missing_or_another_programs_is_refused(tmp_path):
    site = Site(tmp_path)
    site.directory.close()
    for part in site.data_dir.glob("directory.db*"):
        part.unlink()
    file = site.data_dir / "directory.db"
    status, line = refused(*site.flags())
    assert (status, line.startswith(f"{file}: no directory there"), file.exists()) == (1, True, False), line
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE accounts (x)")
        other.commit()
    before = file.read_bytes()
    status, line = refused(*site.flags())
    assert (status, file.read_bytes()) == (1, before)
    assert line.startswith(f"{file}: not a pymon directory")


def test_a_port_that_is_taken_is_one_line(tmp_path):
    site = Site(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in ("web", "telemetry"):
            done = run_proxy(*site.flags(), f"--{flag}.listen-address={address}")
            assert done.returncode == 1
            errors = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
            assert errors == [f"pymon: cannot listen on {address}: Address already in use"], done.stderr
