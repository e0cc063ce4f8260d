"""What a proxy tells of requests: the access log, the ids of refusals, and `pymon explain`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from pymon.proxy.access_log import AccessLog
from pymon.proxy.request_log import Exchange, RequestLog
from pymon.proxy.self_metrics import SelfMetrics
from pymon.service.answer import Reply
from tests.front.test_workers import proxy_of, until
from tests.proxy.running import (
    NOBODY,
    REPOSITORY,
    A,
    B,
    C,
    FakeNode,
    Site,
    answer,
    container,
    environment,
    on_uvloop,
    process,
    run_proxy,
    running,
    says,
)

SECRET = "pymon_abcdefghijkl_" + "s" * 43


def explain(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pymon", "explain", *map(str, words)],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def reasons(caplog) -> dict[str, str]:
    """Reason of each refusal by the id of its request."""
    return {one.fields["request"]: one.fields["reason"] for one in caplog.records if one.getMessage() == "refused"}


@on_uvloop
async def test_a_refusal_has_an_id_and_the_log_its_reason(tmp_path, caplog):
    caplog.set_level("INFO")
    site = Site(tmp_path)
    alice, bob, op = site.account("alice"), site.account("bob"), site.account("op", operator=True)
    expired = site.directory.create_token("bob", expires_at=1.0)
    async with FakeNode(container(A, "alice"), container(B, "bob"), container(C)) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            ids: list[str] = []

            async def why(target: str, status: int, *fields: str, tenant=None) -> str:
                got = await proxy.ask(target, tenant, *fields)
                assert got.status == status, target
                assert re.fullmatch("[0-9a-f]{16}", got["x-request-id"])
                ids.append(got["x-request-id"])
                return reasons(caplog)[got["x-request-id"]]

            assert await why(f"/v1/{B}/metrics", 404, tenant=alice) == f"container '{B}' is of account bob"
            assert await why(f"/v1/{C}/metrics", 404, tenant=alice) == f"container '{C}' is of no account"
            assert await why(f"/v1/{NOBODY}/metrics", 404, tenant=alice) == (
                f"no container or node '{NOBODY}' is known"
            )
            assert await why("/v1/gz/discover", 404, tenant=alice) == "of operators only, and the account is none"
            assert await why("/nothing", 404, tenant=op) == "no such path"
            for _ in range(2):  # the second time it is remembered
                text = await why("/v1/sd", 401, f"Authorization: Bearer {expired}")
                assert text == f"expired: token {expired.split('_')[1]} of bob"
            assert await why("/v1/sd", 401) == "no_credential"
            assert await why("/v1/sd", 401, f"Authorization: Bearer {SECRET}") == "unknown_token: token abcdefghijkl"
            assert (await why("/v1/sd", 413, "Content-Length: 99999999", tenant=alice)).startswith("body too large")
            site.directory.set_quota("bob", requests_per_second=0.001, burst=1)
            statuses = []
            while 429 not in statuses:
                got = await proxy.ask("/v1/discover", bob)
                statuses.append(got.status)
            assert reasons(caplog)[got["x-request-id"]] == "too many requests a second"
            assert (await proxy.ask("/v1/sd", alice))["x-request-id"] is None, "an answer has none"
            proxy.proxy.tenants.web.ending = True
            assert await why("/-/ready", 503) == "not ready: it is ending"
    assert len(set(ids)) == len(ids)
    assert not [
        record for record in caplog.records if SECRET in str(record.__dict__) or expired in str(record.__dict__)
    ]


@on_uvloop
async def test_what_is_of_another_and_what_is_not_there_differ_by_the_id_alone(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    site.account("bob")
    async with FakeNode(container(A, "alice"), container(B, "bob")) as node:
        site.node("n1", node)
        async with running(site) as proxy, proxy.client(alice) as client:
            answers = [await client.ask(f"/v1/{uuid}/metrics") for uuid in (B, NOBODY, node.uuid)]
            assert len({(one.told[0], tuple(one.told[1]), one.body) for one in answers}) == 1
            assert len({len(one["x-request-id"]) for one in answers}) == 1
            assert [[name for name, _ in one.fields] for one in answers] == [
                [name for name, _ in answers[0].fields]
            ] * 3


@on_uvloop
async def test_a_flood_of_refusals_is_not_a_flood_of_lines(tmp_path, caplog):
    caplog.set_level("INFO")
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            async with proxy.client(alice) as client:
                for _ in range(200):
                    assert (await client.ask("/nothing"))["x-request-id"]
            said = len(reasons(caplog))
            assert 50 <= said < 200
            assert await proxy.metric("pymon_proxy_refusals_unsaid_total") == 200 - said


@on_uvloop
async def test_each_request_has_a_line_and_no_secret_is_in_it(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    log = tmp_path / "access"
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        with process(site, f"--access-log={log}", "--log.format=json") as proxy:
            await until(lambda: node.waits)
            got = await proxy.ask(f"/v1/{A}/metrics?{SECRET}", alice)
            assert got.status == 200
            whole = await proxy.ask("/v1/account/metrics", alice)
            assert whole.status == 200
            assert (await proxy.ask("/v1/sd", alice, method="HEAD")).status == 200
            unknown = await proxy.ask("/v1/sd", None, f"Authorization: Bearer {SECRET}", "Cookie: x=" + SECRET)
            await proxy.ask(f"/{SECRET}?x={SECRET}", None, "Authorization: Basic cHltb25fYWJjZGVmOng=")
            node.scrape = says(answer(b"", "500 No"))
            failed = await proxy.ask(f"/v1/{A}/metrics", alice)
            async with proxy.client() as client:
                await client.send(b"no request\r\n\r\n")
                assert (await client.answer()).status == 400
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [(one["account"], one["route"], one["code"], one["node"]) for one in lines] == [
            ("alice", "container", 200, "n1"),
            ("alice", "account_metrics", 200, ""),
            ("alice", "sd_container", 200, ""),
            ("", "other", 401, ""),
            ("", "other", 401, ""),
            ("alice", "container", 502, "n1"),
            ("", "malformed", 400, ""),
        ]
        assert [one["bytes"] for one in lines[:4]] == [len(got.body), len(whole.body), 0, len(unknown.body)]
        assert {one["source"] for one in lines} == {"127.0.0.1"}
        assert all(0 <= one["seconds"] < 60 for one in lines)
        assert lines[3]["request"] == unknown["x-request-id"]
        for text in (log.read_text(), proxy.log):
            assert SECRET not in text
            assert "s" * 43 not in text
            assert alice.token not in text
            assert "cHltb25f" not in text
    why = explain("--request", failed["x-request-id"], "--log", proxy.log_file)
    assert (why.returncode, why.stderr) == (0, "")
    said = dict(line.split(None, 1) for line in why.stdout.splitlines())
    assert (said["account"], said["node"], said["code"]) == ("alice", "n1", "502")
    assert said["reason"] == "its node answered 500"
    of_access = explain("--request", failed["x-request-id"], "--log", log)
    assert "502" in of_access.stdout


@on_uvloop
async def test_workers_write_whole_lines_to_one_file_which_may_be_renamed(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    log, old = tmp_path / "access", tmp_path / "access.1"
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        async with proxy_of(site, f"--access-log={log}") as proxy:
            for turn in range(2):
                for _ in range(20):  # each connection may come to either worker
                    async with proxy.client(alice) as client:
                        for _ in range(5):
                            assert (await client.ask(f"/v1/{A}/metrics")).status == 200
                if not turn:
                    await until(lambda: log.exists() and log.read_text().count("\n") == 100)
                    log.rename(old)
            await until(lambda: log.exists() and log.read_text().count("\n") == 100)
            count = await proxy.metric("pymon_proxy_request_duration_seconds_count", account="alice", route="container")
            assert count == 200
            assert await proxy.metric("pymon_proxy_access_log_lost_total") == 0
    lines = (old.read_text() + log.read_text()).splitlines()
    assert all(
        re.fullmatch(r"time=\S+ request=[0-9a-f]{16} account=alice .* source=127\.0\.0\.1", one) for one in lines
    )
    assert Counter(one.split()[1] for one in lines).most_common(1)[0][1] == 1


@on_uvloop
async def test_a_proxy_answers_and_ends_while_its_access_log_hangs(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # reads nothing
    async with FakeNode(container(A, "alice")) as node:
        site.node("n1", node)
        with process(site, f"--access-log={fifo}") as proxy:
            await until(lambda: node.waits)
            async with proxy.client(alice) as client:
                for _ in range(900):  # more than a pipe takes
                    assert (await client.ask("/v1/discover")).status == 200
    os.close(reader)


@on_uvloop
async def test_a_streamed_answer_is_closed_and_its_bytes_are_counted(tmp_path):
    ended = []

    async def pieces():
        try:
            for _ in range(10):
                yield b"x" * 1000
        finally:
            ended.append("stream")

    log = AccessLog(tmp_path / "log", "json")
    requests = RequestLog(SelfMetrics(), log)
    for wanted in (10, 3):  # the second client goes away
        reply = requests.answered(
            Exchange("127.0.0.1"), Reply(200, b"", b"", release=lambda: ended.append("release"), stream=pieces())
        )
        for _ in range(wanted):
            await anext(reply.stream)
        await reply.stream.aclose()
        reply.release()
    log.close()
    assert ended == ["stream", "release"] * 2
    assert [json.loads(line)["bytes"] for line in (tmp_path / "log").read_text().splitlines()] == [10_000, 3000]


def test_an_access_log_that_cannot_be_written_is_one_line_at_the_start(tmp_path):
    site = Site(tmp_path)
    got = run_proxy(*site.flags(), f"--access-log={tmp_path}")
    assert got.returncode == 2
    assert got.stderr == f"pymon: access-log: {tmp_path}: cannot be written: Is a directory\n"


LINE = 'Nov 30 host pymon[1]: time=t msg=refused request={} code=404 reason="container \\"x\\" = 1"\n'


def test_a_request_is_found_in_a_large_log_and_its_values_are_shown_as_text(tmp_path):
    log = tmp_path / "log"
    wanted = "0123456789abcdef"
    with log.open("w") as stream:
        stream.write(LINE.format(wanted))
        stream.write("x" * 3_000_000 + "\n")
        for number in range(20_000):
            stream.write(LINE.format(f"{number:016x}"))
        stream.write(f"other={wanted} msg=no\n" + "{" * 9000 + f" {wanted}\n")
        stream.write(f'{{"request": "{wanted}", "route": "evil\\u001b[2J"}}\n')
    got = explain("--request", wanted, "--log", log)
    assert got.returncode == 0
    assert 'reason   container "x" = 1' in got.stdout
    log.write_text(f'{{"request": "{wanted}", "route": "evil\\u001b[2J"}}')
    assert "evil\\x1b[2J" in explain("--request", wanted, "--log", log).stdout


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--request", "0" * 16, "--log", "/dev/zero"], 2, "expected a regular file"),
        (["--request", "0" * 16, "--log", "/none"], 1, "/none: No such file"),
        (["--request", "0" * 16, "--log", "/etc"], 1, "/etc: Is a directory"),
        (["--request", "x", "--log", "/none"], 2, "16 hex digits"),
        (["--log", "/none"], 2, "got no --request"),
        (["--request", "0" * 16], 2, "got no --log"),
        (["--request", "0" * 16, "--log", "/etc/hostname"], 1, "no line about request"),
    ],
)
def test_what_cannot_be_explained_is_one_line(words, status, text):
    got = explain(*words)
    assert got.returncode == status
    assert got.stdout == ""
    assert got.stderr.count("\n") == 1
    assert text in got.stderr
