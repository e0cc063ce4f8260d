"""Peers of the suite: named on the command line, started, compared, absent and failed."""

from __future__ import annotations

import http.server
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from bench.suite import pcp
from bench.suite.agree import DisagreementError, agree, ids, of_collectd, of_netdata, of_pcp, of_processes, only, parse
from bench.suite.minute import minute
from bench.suite.peers import DEBIAN, AbsentError, Peer, cost, family, given, running
from bench.suite.turns import Field
from bench.suite.unpacked import libraries, version
from bench.world import CGROUPFS, Client, cgroups
from pymon.sources.cgroup import find_hierarchies
from tests.live.world import until

if TYPE_CHECKING:
    from bench.scrape import Floor
    from bench.suite.peers import Running

TEXT = b'# TYPE a_total counter\na_total{id="/p/c1",name="x",image=""} 3\na_total{id="/p/c2"} 4\nprocess_cpu 1\n'
CHUNKS = b"4\r\n" + TEXT[:4] + b"\r\n" + f"{len(TEXT) - 4:x};x=y\r\n".encode() + TEXT[4:] + b"\r\n0\r\n\r\n"

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"a 1\\n")
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def chunked() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(CHUNKS)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_answer_in_chunks_is_put_together(chunked: int) -> None:
    with closing(Client(chunked)) as client:
        assert [bytes(client.get("/metrics")) for _ in range(3)] == [TEXT] * 3
        with pytest.raises(RuntimeError, match="404"):
            client.get("/other")


def test_a_peer_by_url_is_scraped_and_has_no_processes(chunked: int, tmp_path: Path) -> None:
    with running(given(f"other=http://127.0.0.1:{chunked}/metrics"), tmp_path) as target:
        assert target.pid is None
        assert target.body() == TEXT
        assert bytes(target.scrape()) == bytes(target.scrape()) == CHUNKS


def test_a_peer_by_command_is_started_and_ended(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    with running(given(f"other={sys.executable} {script} {{port}}"), tmp_path) as target:
        assert target.pid is not None
        assert target.body() == b"a 1\n"
        assert bytes(target.scrape()) == bytes(target.scrape()), "it closes the connection each time"
        assert cost(family(target.pid))[1] > 1
        place = Path(f"/proc/{target.pid}")
    assert not place.exists()


def test_a_program_that_is_missing_is_absent_and_one_that_ends_has_failed(tmp_path: Path) -> None:
    with pytest.raises(AbsentError, match="not-there is not installed"), running(given("a=not-there {port}"), tmp_path):
        pass
    with pytest.raises(RuntimeError, match="a did not start"), running(given("a=false {port}"), tmp_path):
        pass


@pytest.mark.parametrize("words", ["a", "=true {port}", "a=", "a=true", "a=https://x/", "a=http:///metrics"])
def test_what_is_no_peer_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="--peer"):
        given(words)


def test_series_are_compared_without_what_describes_the_container() -> None:
    first, second = frozenset({("id", "/p/c1")}), frozenset({("id", "/p/c2")})
    assert parse(TEXT) == {("a_total", first): 3, ("a_total", second): 4}


def test_what_has_another_name_is_not_parsed() -> None:
    assert only(TEXT + b'b 1\na_total_more{x="1"} 1\n', {"b"}) == b"# TYPE a_total counter\nb 1\n"
    assert parse(only(TEXT, {"a_total", "c"})) == parse(TEXT)


def test_groups_of_process_exporter_are_found_below_the_parent() -> None:
    text = b"".join(
        b'namedprocess_namegroup_num_procs{groupname="[/ /%b/c00001 /]"} %d\n' % (parent, value)
        for parent, value in ((b"bench", 1), (b"other", 2))
    )
    assert of_processes(text, "bench") == {("container_processes", frozenset({("id", "/bench/c00001")})): 1}


def test_groups_of_netdata_are_found_below_the_parent() -> None:
    text = b"".join(
        b'netdata_cgroup_mem{chart="cgroup_%b_c00001.mem",family="mem",dimension="%b"} 4096 1796126487260\n' % words
        for words in ((b"bench", b"rss"), (b"bench", b"swap"), (b"other", b"rss"))
    )
    assert of_netdata(text, "bench") == {("container_memory_rss", frozenset({("id", "/bench/c00001")})): 4096}


def test_groups_of_collectd_and_pcp_are_named_as_pymons() -> None:
    text = (
        b'collectd_cgroups_cpu_total{cgroups="c00001",type="user",instance="h"} 123 1796134110373\n'
        b'collectd_cgroups_cpu_total{cgroups="c00001",type="other",instance="h"} 1 1796134110373\n'
    )
    one = frozenset({("id", "/bench/c00001")})
    assert of_collectd(text, "bench") == {("container_cpu_user_seconds_total", one): 1.23}
    text = b"".join(
        b'%b{cgroup="/x",hostname="vm",instname="/%b/c00001",instid="8",userid="0"} 4096\n' % words
        for words in (
            (b"cgroup_memory_usage", b"bench"),
            (b"cgroup_memory_usage", b"other"),
            (b"cgroup_memory_stat_anon", b"bench"),
            (b"cgroup_memory_limit", b"bench"),
        )
    )
    assert of_pcp(text, "bench") == {
        ("container_memory_usage_bytes", one): 4096,
        ("container_memory_rss", one): 4096,
    }


def test_the_version_of_what_is_unpacked_is_that_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "pcp_6.0.3-1.1_amd64.deb").touch()
    (tmp_path / "pcp-conf_1%3a2_all.deb").touch()
    (tmp_path / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    assert version("pcp", tmp_path) == "6.0.3-1.1"
    assert version("pcp-conf", tmp_path) == "1:2"
    assert version("pc", tmp_path) == ""
    assert libraries(tmp_path) == f"{tmp_path}/usr/lib:{tmp_path}/usr/lib/x86_64-linux-gnu"
    absent = Peer("x", words=("true",), package="no-such-package", unpacked=True)
    with pytest.raises(AbsentError, match="no-such-package is not unpacked"), running(absent, tmp_path):
        pass


def test_pcp_is_configured_in_its_tree() -> None:
    text = "# A comment\nPCP_VAR_DIR=/var/lib/pcp\nPCP_RUN_DIR=/run/pcp\nPCP_USER=pcp\nPCP_ECHO_C=\nPCP_PS_PROG=ps\n"
    assert pcp.configuration(text, Path("/t"), Path("/p")) == (
        "# A comment\nPCP_VAR_DIR=/t/var/lib/pcp\nPCP_RUN_DIR=/p\nPCP_USER=root\nPCP_ECHO_C=\nPCP_PS_PROG=ps\n"
    )
    spaces = (
        "root {\n    pmcd\n}\npmcd {\n    a PMCD:0:1 /* { */\n}\n",
        "root {\n    cgroup\n}\ncgroup {\n    b PROC:1:2\n}\ncgroup.b {\n    c PROC:1:3\n}\nproc {\n    d PROC:1\n}\n",
    )
    assert pcp.names(*spaces) == (
        "root {\n    pmcd\n    cgroup\n}\n"
        "pmcd {\n    a 2:0:1 \n}\ncgroup {\n    b 3:1:2\n}\ncgroup.b {\n    c 3:1:3\n}\n"
    )


@pytest.mark.parametrize("peer", [peer for peer in DEBIAN if peer.unpacked], ids=lambda peer: peer.name)
def test_what_is_unpacked_tells_of_every_group(peer: Peer, tmp_path: Path) -> None:
    if not peer.version():
        pytest.skip(f"{peer.package} is not unpacked: make packages-bench-unpacked")
    if os.geteuid() != 0:
        pytest.skip("control groups are made as root")
    if peer.name == "collectd" and "cpuacct" not in find_hierarchies(CGROUPFS).v1:
        pytest.skip("collectd reads version 1 of control groups alone")
    with cgroups(3) as groups, running(peer, tmp_path, groups.parent) as target:
        expected = {f"/{groups.parent}/{name}" for name in groups.names}
        until("every group", lambda: ids(peer.translated(target.body(), groups.parent)) == expected, 120)
        assert target.pid is not None
        processes = family(target.pid)
        assert len(processes) == (3 if peer.name == "pcp" else 1)
    until("its processes are gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


SERIES = [("a", frozenset({("id", f"/p/{number}")})) for number in range(100)]


def test_peers_agree_when_their_numbers_lie_between_ours() -> None:
    ours = iter([dict.fromkeys(SERIES, 1.0), dict.fromkeys(SERIES, 3.0)])
    assert (
        agree(lambda: next(ours), lambda: dict.fromkeys(SERIES, 2.0), containers=100)
        == "100 of 100 series in both agree"
    )


def test_what_moves_has_several_rounds_and_what_never_agrees_is_named() -> None:
    theirs = {**dict.fromkeys(SERIES, 1.0), SERIES[0]: 2.0}
    said = agree(lambda: dict.fromkeys(SERIES, 1.0), lambda: theirs)
    assert said == "99 of 100 series in both agree; not a"


def test_peers_that_say_something_else_or_less_disagree() -> None:
    ours = dict.fromkeys(SERIES, 1.0)
    with pytest.raises(DisagreementError, match="0 of 100"):
        agree(lambda: ours, lambda: dict.fromkeys(SERIES, 2.0))
    with pytest.raises(DisagreementError, match="99 of 100 containers"):
        agree(lambda: ours, lambda: dict.fromkeys(SERIES[1:], 1.0), containers=100)
    other = {("b", frozenset()): 1.0}
    with pytest.raises(DisagreementError, match="has nothing"):
        agree(lambda: ours, lambda: other)
    assert agree(lambda: ours, lambda: other, containers=100, known=False).startswith("nothing that pymon has")


def test_runners_take_turns_and_one_that_fails_is_out() -> None:
    asked: list[str] = []

    def runner(name: str, limit: int) -> float:
        asked.append(name)
        if asked.count(name) > limit:
            raise ConnectionError("it has\nended")
        return float(len(asked))

    found = Field({"a": lambda: runner("a", 99), "b": lambda: runner("b", 3)}, absent={"c": "not installed"})
    case = found.measure("n", "N", "ms", 3, warm_up=1)
    assert asked == ["a", "b", "a", "b", "a", "b", "a", "b"]
    assert case.runs == {"a": (3.0, 5.0, 7.0)}
    assert (case.absent, case.failed) == ({"c": "not installed"}, {"b": "it has ended"})


def test_a_minute_leaves_out_who_takes_longer_than_the_interval() -> None:
    pid = os.getpid()
    floor = SimpleNamespace(pid=pid, round_seconds=float)
    waits = {"fast": 0.0, "slow": 1.1}
    targets = {
        name: SimpleNamespace(pid=pid, scrape=lambda seconds=seconds: time.sleep(seconds))
        for name, seconds in waits.items()
    } | {"elsewhere": SimpleNamespace(pid=None, scrape=float)}
    cpu, memory = minute(3, 1, 4, cast("Floor", floor), cast("dict[str, Running]", targets), Field())
    for case in (cpu, memory):
        assert case.runs.keys() == {"floor", "fast"}
        assert case.failed.keys() == {"slow"}
        assert case.failed["slow"].startswith("a scrape takes 1.")
        assert case.absent.keys() == {"elsewhere"}


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    absent = Peer("x", words=("not-there",), package="no-such-package")
    assert absent.version() == ""
    with pytest.raises(AbsentError, match="no-such-package is not installed"), running(absent, tmp_path):
        pass
