"""`pymon up`: what it prints works as it stands, and a second start is no first one."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest
import yaml

from pymon.cli.up import _load
from pymon.config import Address
from tests.e2e.prometheus import Prometheus, require
from tests.e2e.proxy import ZONE, Process, run_pymon
from tests.live.world import World, run, until
from tests.top.terminal import terminal

GLOBAL = "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n"
NAME = "up-here"
ANY_PORT = (
    "--web.listen-address=127.0.0.1:0",
    "--proxy.listen-address=127.0.0.1:0",
    "--proxy.telemetry-address=127.0.0.1:0",
    "--dns.listen-address=127.0.0.1:0",
)


def test_all_of_it_listens_on_loopback_unless_told_otherwise() -> None:
    plan = _load([], {})
    addresses = (*plan.agent.listen_addresses, plan.proxy_address, plan.telemetry_address, plan.dns_address)
    assert {address.host for address in addresses} == {"127.0.0.1"}
    assert plan.proxy_address == Address("127.0.0.1", 9163)


class Up(Process):
    """`pymon up` once it has said where everything is."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.said = data_dir.parent / f"{data_dir.name}.said"
        with self.said.open("wb") as said:
            super().__init__("up", f"--data-dir={data_dir}", *ANY_PORT, *flags, stdout=said.fileno())
        try:
            self.await_("what it says", lambda: "triton_sd_configs" in self.text())
        except BaseException:
            self.kill()
            raise

    def text(self) -> str:
        return self.said.read_text()

    def configurations(self) -> list[str]:
        """The two that are printed, as they are pasted."""
        printed = self.text().partition("\nPrometheus:\n")[2]
        found = re.findall(r"^( +)scrape_configs:\n((?:\1 .*\n)+)", printed, re.MULTILINE)
        return [textwrap.dedent(f"{indent}scrape_configs:\n{body}") for indent, body in found]

    def curl(self, what: str) -> str:
        """What a printed curl line prints, once the proxy has heard its node."""
        line = re.search(rf"^ *{what} +(curl .*)$", self.text(), re.MULTILINE)
        assert line, self.text()
        words = shlex.split(line[1])
        words += ["--silent", "--show-error", "--fail", "--retry", "20", "--retry-delay", "1"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout


@pytest.mark.root
@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_headings_are_bold_at_a_terminal_unless_no_color_is_set(tmp_path: Path, environ: dict[str, str]) -> None:
    with terminal("up", f"--data-dir={tmp_path}", *ANY_PORT, width=200, height=100, environ=environ) as here:
        here.shows("measures this machine", "\nPrometheus:", "triton_sd_configs")
        assert ("\x1b[1mPrometheus:" in here.styled()) == (not environ)
        assert "in the data directory" not in here.text()
        here.keys("C-c")
        assert here.status() == 0


@pytest.fixture
def world() -> Iterator[World]:
    with contextlib.closing(World()) as world:
        yield world


@pytest.mark.root
def test_what_is_printed_works_and_a_second_start_keeps_everything(tmp_path: Path, world: World) -> None:
    require("prometheus")
    require("curl")
    group = world.group("up")
    pattern = f"--container.pattern={group.path[:-3]}-(?P<name>up)"
    data = tmp_path / "data"
    with Up(data, pattern) as up:
        assert "container_last_seen{" in up.curl("everything")
        assert group.path in up.curl("which containers")
        tenant = up.curl("as a tenant")
        assert '"__meta_triton_machine_alias":"up"' in tenant
        (uuid,) = re.findall(r'"__meta_triton_machine_id":"([0-9a-f-]{36})","__meta_triton_machine_alias":"up"', tenant)
        http, triton = up.configurations()
        assert "http_sd_configs" in http
        assert "triton_sd_configs" in triton
        hosts = tmp_path / "hosts"
        uuids = re.findall(r'"__meta_triton_machine_id":"([0-9a-f-]{36})"', tenant)
        hosts.write_text("".join(f"127.0.0.1 {name}.{ZONE}\n" for name in ("cmon", *(f"{one}.cmon" for one in uuids))))
        prefix = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts))
        with contextlib.ExitStack() as close:
            both = {"http": (http, ())}
            if run(*prefix, "true", check=False).returncode == 0:
                both["triton"] = (triton, prefix)
            started = []
            for name, (config, words) in both.items():
                (tmp_path / name).mkdir()
                started.append(close.enter_context(Prometheus(GLOBAL + config, tmp_path / name, prefix=words)))
            for prometheus in started:
                (sample,) = prometheus.wait_for(f'container_last_seen{{id="{group.path}",name="up"}}')
                assert sample.labels["instance"].startswith(f"{uuid}.cmon.{ZONE}:")
                until(
                    "all up",
                    lambda prometheus=prometheus: {one["health"] for one in prometheus.targets()} == {"up"},
                )
                assert prometheus.warnings() == []
    kept = {file: file.read_bytes() for name in ("tls", "authority", "clients") for file in (data / name).rglob("*")
            if file.is_file()}  # fmt: skip
    assert len(kept) >= 8
    accounts, certificates = (run_pymon(what, "list", f"--data-dir={data}").stdout for what in ("account", "cert"))
    with Up(data, pattern) as up:
        assert uuid in up.curl("as a tenant")
        assert {file: file.read_bytes() for file in kept} == kept
        assert run_pymon("account", "list", f"--data-dir={data}").stdout == accounts
        assert run_pymon("cert", "list", f"--data-dir={data}").stdout == certificates
        assert len(run_pymon("node", "list", f"--data-dir={data}").stdout.splitlines()) == 2, "a title and a node"


def refused(data: Path, *flags: str, status: int = 1) -> str:
    """The one line of a start that fails."""
    done = run_pymon("up", f"--data-dir={data}", *ANY_PORT, *flags)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("pymon: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_damaged_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    database = data / "directory.db"
    database.write_bytes(b"damaged" * 1000)
    assert str(database) in refused(data)
    assert database.read_bytes() == b"damaged" * 1000
    assert {file.name for file in data.iterdir()} == {"directory.db", "lock"}


def test_a_directory_that_was_damaged_later_is_served_from_its_copy(tmp_path: Path) -> None:
    require("curl")
    data = tmp_path / "data"
    with Up(data) as up:
        assert up.curl("as a tenant").startswith("[")
        # Without its UUID, nothing of the node is accepted while the directory is damaged.
        pinned = re.compile(r'"nodes":\[\["[^"]+","')
        until("the copy has the node", lambda: pinned.search((data / "directory-copy.json").read_text()))
    database = data / "directory.db"
    damaged = database.read_bytes()[:9000]
    database.write_bytes(damaged)
    with Up(data) as up:
        up.allowed = re.compile(r"holders of UUIDs cannot be read or written: .*: damaged")
        assert up.curl("as a tenant").startswith("[")
        done = run_pymon("account", "create", "x", f"--data-dir={data}")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"pymon: {database}: ")
    assert database.read_bytes() == damaged


def test_a_directory_that_was_lost_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Up(data):
        pass
    for file in data.glob("directory.db*"):
        file.unlink()
    for _ in range(2):
        assert str(data / "directory.db") in refused(data)
    assert not list(data.glob("directory.db*"))


@pytest.mark.parametrize(
    ("address", "url"), [("127.0.0.5", "127.0.0.5"), ("0.0.0.0", "127.0.0.1"), ("[0::1]", "[::1]"), ("", "127.0.0.1")]
)
def test_what_is_printed_is_what_the_proxy_listens_on(tmp_path: Path, address: str, url: str) -> None:
    require("curl")
    data = tmp_path / "data"
    with Up(data, f"--proxy.listen-address={address}:0", "--zone=here.example") as up:
        assert up.curl("as a tenant").startswith("[")
        assert f"https://{url}:" in up.configurations()[0]
        create = re.search(r"pymon (account create NAME .*)\n +pymon (cert create NAME .*)\n", up.text())
        assert create, up.text()
        for words in map(shlex.split, create.groups()):
            done = run_pymon(*[str(tmp_path / "NAME") if word == "DIR" else word for word in words])
            assert done.returncode == 0, done.stderr
        made_for = (tmp_path / "NAME" / "prometheus.yml").read_text()
        port = re.search(rf"https://{re.escape(url)}:(\d+)/", up.configurations()[0])
        assert port
        assert f'- url: "https://{url}:{port[1]}/v1/sd?via=path"' in made_for
        assert 'dns_suffix: "cmon.here.example"' in made_for
        made = (data / "tls" / "server-cert.pem").read_bytes()
    with Up(data, f"--proxy.listen-address={address}:0", "--zone=here.example"):
        assert (data / "tls" / "server-cert.pem").read_bytes() == made


@pytest.mark.parametrize("lost", ["server-cert.pem", "server-key.pem"])
def test_a_server_certificate_that_lost_its_half_is_made_anew(tmp_path: Path, lost: str) -> None:
    require("curl")
    data = tmp_path / "data"
    with Up(data):
        pass
    kept = data / "tls" / ({"server-cert.pem", "server-key.pem"} - {lost}).pop()
    before = kept.read_bytes()
    (data / "tls" / lost).unlink()
    with Up(data) as up:
        assert up.curl("as a tenant").startswith("[")
    assert kept.read_bytes() != before


def test_accounts_that_are_there_before_the_first_start(tmp_path: Path) -> None:
    require("curl")
    data = tmp_path / "data of $HOME"
    assert run_pymon("account", "create", "somebody", f"--data-dir={data}").returncode == 0
    with Up(data) as up:
        assert up.curl("as a tenant").startswith("[")


def test_what_listens_on_all_addresses_is_reached_on_loopback(tmp_path: Path) -> None:
    require("curl")
    with Up(tmp_path / "data", "--proxy.listen-address=0.0.0.0:0", "--dns.listen-address=0.0.0.0:0") as up:
        assert up.curl("as a tenant").startswith("[")
        line = re.search(r"dig @(\S+) -p (\d+) (\S+)$", up.text(), re.MULTILINE)
        assert line, up.text()
        answer = dns.query.udp(dns.message.make_query(line[3], "A"), line[1], timeout=10, port=int(line[2]))
        assert [rdata.to_text() for rdata in answer.answer[0]] == ["127.0.0.1"]


@pytest.mark.parametrize(
    "flag", ["--web.listen-address", "--proxy.listen-address", "--proxy.telemetry-address", "--dns.listen-address"]
)
def test_an_address_that_is_taken_is_one_line(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        data = tmp_path / "data"
        done = run_pymon("up", f"--data-dir={data}", *ANY_PORT, f"{flag}={address}")
        assert not data.exists(), "nothing is made before all addresses are known to be free"
    assert done.returncode == 1
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
    assert len(complaints) == 1, done.stderr
    assert f"{address}: Address already in use; {flag} chooses another" in complaints[0]


def owners(up: Up) -> dict[str, str | None]:
    """The owner of each container by its cgroup's path, as the agent has it."""
    document = json.loads(up.curl("which containers"))
    return {container["id"]: container["owner"] for container in document["containers"]}


@pytest.mark.root
def test_the_configuration_in_the_data_directory(tmp_path: Path, world: World) -> None:
    require("curl")
    group = world.group()
    pattern = f"--container.pattern={re.escape(group.path)}"
    data = tmp_path / "data"
    with Up(data, pattern) as up:
        made = (data / "agent.yaml").read_text()
        assert [next(iter(rule)) for rule in yaml.safe_load(made)["owners"]] == ["cgroup", "label", "zone"]
        assert owners(up)[group.path] is None
        assert f"configuration        {data / 'agent.yaml'}\n" in up.text()
    (data / "agent.yaml").write_text("owners: [{account: everybody}]\n")
    with Up(data, pattern) as up:
        assert owners(up)[group.path] == "everybody"
    other = tmp_path / "other.yaml"
    other.write_text("owners: [{account: nobody}]\n")
    with Up(data, pattern, f"--config.file={other}") as up:
        assert owners(up)[group.path] == "nobody"
        assert f"configuration        {other}\n" in up.text()
    (data / "agent.yaml").write_text("owners: [{}]\n")
    assert "owners[0]" in refused(data, status=2)


def test_the_log_says_where_it_listens_what_is_there_and_its_end(tmp_path: Path) -> None:
    counted = re.compile(r"\d+ containers?, \d+ without an owner")
    with Up(tmp_path / "data") as up:
        up.await_("the containers", lambda: any(map(counted.search, up.log)))
    parts = [found[1] for line in up.log if (found := re.search(r"msg=listening part=(\w+) address=\S+:\d+$", line))]
    assert sorted(parts) == ["agent", "dns", "proxy", "telemetry"]
    assert up.log[-1].rstrip().endswith("msg=ended")
