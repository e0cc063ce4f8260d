"""Peers of the suite: named on the command line, started, compared, absent and failed."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.suite.agree import DisagreementError, agree, of_netdata, of_processes, parse
from bench.suite.peers import AbsentError, Peer, cost, family, given, running
from bench.suite.turns import Field
from bench.world import Client

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


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    absent = Peer("x", words=("not-there",), package="no-such-package")
    assert absent.version() == ""
    with pytest.raises(AbsentError, match="no-such-package is not installed"), running(absent, tmp_path):
        pass
