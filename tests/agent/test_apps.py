"""What an agent makes of requests for the metrics of applications, with a fetcher that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pymon.agent import apps as module
from pymon.agent.apps import Apps, parsed
from pymon.agent.options import load_agent_options
from pymon.apps.protocol import MAX_BODY_BYTES, Answer, Ask, line_of, read_ask
from pymon.config import ConfigError
from pymon.containers.identity import Container
from pymon.exposition.own_metrics import OwnMetrics
from pymon.service.answer import Refusal
from pymon.sources.net_process import NetProcess
from tests.agent.web_agent import UUID as WEB_UUID
from tests.agent.web_agent import run, running, until


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def whole(*arguments: Any, **named: Any) -> None:
        run(test(*arguments, **named))

    return whole


UUID_TEXT = "0b0f0c0d-1111-5222-8333-44444444abcd"
CONTAINER = Container(
    UUID(UUID_TEXT), "/docker/a\udcff", "web", "docker", 1.0, owner="acme", app_ports=(9100, 80), app_path="/stats"
)
PROCESS = NetProcess(4711, 99, 4026532281, on_host=False)
BODY = b"# TYPE a gauge\na 1\n"


class Rows:
    """One container, or none."""

    def __init__(self) -> None:
        self.there: Container | None = CONTAINER

    def row_of(self, uuid: str) -> int | None:
        return 7 if self.there is not None and uuid == str(self.there.uuid) else None

    def container(self, row: int) -> Container | None:
        assert row == 7
        return self.there

    def label_pairs(self, row: int) -> tuple[tuple[str, str], ...]:
        assert row == 7
        return (("id", "/docker/a"), ("name", "web"))


class Processes:
    def __init__(self) -> None:
        self.found: NetProcess | Exception | None = PROCESS
        self.paths: list[str] = []

    def find(self, path: str) -> NetProcess | None:
        self.paths.append(path)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class World:
    """An agent's `Apps`, and the fetcher: `data` is what it answers, or `talk` does."""

    def __init__(self, folder: Path) -> None:
        self.rows, self.processes, self.own = Rows(), Processes(), OwnMetrics()
        self.socket = folder / "fetcher.sock"
        self.apps = Apps(self.rows, self.processes, self.socket, self.own)  # type: ignore[arg-type]
        self.asks: list[Ask] = []
        self.ended = 0
        self.data = line_of(Answer(len(BODY))) + BODY
        self.talk: Talk | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.asks.append(read_ask(await reader.readline()))
            if self.talk is None:
                writer.write(self.data)
                await writer.drain()
            else:
                await self.talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.ended += 1

    async def get(self, query: str = "port=80", seconds: float | None = 30.0, uuid: str = UUID_TEXT) -> bytes:
        return await self.apps.answer(uuid, query, seconds)

    async def refused(self, query: str = "port=80", seconds: float | None = 30.0, uuid: str = UUID_TEXT) -> str:
        """Status and text of a refusal."""
        with pytest.raises(Refusal) as caught:
            await self.get(query, seconds, uuid)
        return f"{caught.value.reply.status} {caught.value}".replace(f"{UUID_TEXT}: ", "")

    def outcomes(self) -> dict[str, float]:
        found = {
            sample.labels["outcome"]: sample.value
            for family in self.own.registry.collect()
            for sample in family.samples
            if sample.name == "pymon_app_fetches_total"
        }
        return {outcome: value for outcome, value in found.items() if value}


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    made = World(folder)
    async with await asyncio.start_unix_server(made.serve, str(made.socket)):
        yield made


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


@on_uvloop
async def test_the_fetcher_is_asked_for_what_the_labels_say_and_nothing_else(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        assert await site.get() == BODY
        (ask,) = site.asks
        assert 9 >= ask.seconds > 5
        assert ask == Ask(
            pid=4711, start_ticks=99, cgroup="/docker/a\xff", namespace=4026532281, port=80, path="/stats",
            seconds=ask.seconds, max_bytes=MAX_BODY_BYTES,
        )  # fmt: skip
        assert site.processes.paths == [CONTAINER.id]
        await site.get(seconds=2.0)
        assert site.asks[1].seconds < 2.0
        assert site.outcomes() == {"ok": 2}


@on_uvloop
async def test_the_labels_of_the_container_are_added_on_request(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        text = b'a{name="x"} 1\n'
        site.data = line_of(Answer(len(text))) + text
        assert await site.get() == text
        assert await site.get("port=80&labels=1") == (
            b'# TYPE a untyped\na{id="/docker/a",name="web",exported_name="x"} 1\n'
        )


@on_uvloop
async def test_only_declared_ports_are_asked(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        assert await site.refused("") == "400 port: expected 9100 or 80, got none"
        for port in ("22", "0", "65536", "99999", "00022"):
            assert (await site.refused(f"port={port}")).startswith("400 port: expected 9100 or 80, got ")
        for port in ("-80", "80x", "8 0", "%0d%0a80", "+80", "", "1" * 400, "%D9%A1"):
            assert (await site.refused(f"port={port}")).startswith("400 port: expected a number, got ")
        assert await site.refused("port=80&port=81") == "400 port: given twice"
        assert await site.refused("port=80&host=10.0.0.1") == "400 'host': unknown parameter"
        assert await site.refused("label=1") == "400 'label': unknown parameter, did you mean labels?"
        assert await site.refused("port=80&labels=yes") == "400 labels: expected 0 or 1, got 'yes'"
        assert site.asks == []
        site.rows.there = replace(CONTAINER, app_ports=(80,))
        assert await site.get("") == BODY
        site.rows.there = replace(CONTAINER, app_ports=None, app_path=None)
        assert await site.refused() == "403 no label says where its application answers"
        site.rows.there = None
        assert await site.refused() == "404 not there or not running"


@on_uvloop
async def test_a_container_on_the_hosts_network_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        site.processes.found = PROCESS._replace(on_host=True)
        assert await site.refused() == "403 it is on the host's network, where nothing is fetched"
        site.processes.found = None
        assert await site.refused() == "404 it has no process"
        assert site.asks == []
        site.processes.found = PROCESS
        site.data = line_of(Answer(reason="host", text="it is on the host's network"))
        assert await site.refused() == "403 it is on the host's network"
        assert site.outcomes() == {"host": 2, "gone": 1}


@on_uvloop
async def test_what_is_no_exposition_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as site:
        for body, why in (
            (b"<html></html>\n", "line 1: expected the name of a metric, got '<html></html>'"),
            (b"a 1", "line 1: expected a newline at its end"),
            (b"a 1\na 2\n", "a: the same labels twice"),
            (b"\xff\n", "line 1: expected UTF-8, got byte 0xff"),
        ):
            site.data = line_of(Answer(len(body))) + body
            assert await site.refused() == f"502 its exposition is not valid: {why}"
        monkeypatch.setattr(module, "MAX_SAMPLES", 2)
        body = b"a 1\nb 1\nc 1\n"
        site.data = line_of(Answer(len(body))) + body
        assert await site.refused() == "502 its exposition is not valid: expected at most 2 samples"
        site.data = line_of(Answer())
        assert await site.get() == b""
        assert site.outcomes() == {"exposition": 5, "ok": 1}


@on_uvloop
async def test_a_fetcher_that_fails_or_lies_is_one_line_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as site:
        for data, why in (
            (b"", "the fetcher ended without an answer"),
            (b"x" * 100_000, "the fetcher ended without an answer"),
            (b"{}garbage\n", "the fetcher's answer is malformed"),
            (line_of(Answer(MAX_BODY_BYTES + 1)), "the fetcher's answer is malformed"),
            (line_of(Answer(100)) + b"a 1\n", "the fetcher ended without an answer"),
            (line_of(Answer(reason="connect", text="port 80: Connection refused")), "port 80: Connection refused"),
        ):
            site.data = data
            assert await site.refused() == f"502 {why}"
        site.data = line_of(Answer(reason="timeout", text="no answer in time from port 80"))
        assert await site.refused() == "504 no answer in time from port 80"
        site.processes.found = PermissionError(13, "Permission denied")
        assert await site.refused() == "502 its network namespace may not be read: Permission denied"
    site.processes.found = PROCESS
    site.socket.unlink(missing_ok=True)
    assert await site.refused() == "502 the fetcher cannot be asked: No such file or directory"
    lines = [record.getMessage() for record in caplog.records if record.name == "pymon.agent.apps"]
    assert lines == [
        "metrics of applications: the fetcher ended without an answer",
        "metrics of applications: its network namespace may not be read: Permission denied",
    ]


@on_uvloop
async def test_a_fetcher_that_is_silent_costs_no_more_than_the_time_of_the_client(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        site.talk = silence
        assert await site.refused(seconds=0.2) == "504 no answer in time"
        assert site.outcomes() == {"timeout": 1}


@on_uvloop
async def test_a_client_that_has_gone_ends_the_fetch_and_frees_the_place(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        site.talk = silence
        tasks = [asyncio.create_task(site.get()) for _ in range(2)]
        await until(lambda: len(site.asks) == 2)
        assert (await site.refused()).startswith("503 more than 2 requests at a time for its application")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: site.ended == 2)
        site.talk = None
        assert await site.get() == BODY
        assert site.outcomes() == {"busy": 1, "cancelled": 2, "ok": 1}


@on_uvloop
async def test_an_answer_that_waits_to_be_checked_holds_its_place(tmp_path: Path) -> None:
    async with world(tmp_path) as site:
        await site.apps._checking.acquire()
        tasks = [asyncio.create_task(site.get()) for _ in range(2)]
        await until(lambda: site.ended == 2)
        assert (await site.refused()).startswith("503 ")
        site.apps._checking.release()
        assert await asyncio.gather(*tasks) == [BODY, BODY]
        assert await site.refused(seconds=0) == "504 no answer in time"


class Answering:
    """Applications that answer what they are told."""

    def __init__(self, answer: bytes | Refusal) -> None:
        self.answers = answer
        self.asked: list[tuple[str, str, float | None]] = []

    async def answer(self, uuid: str, query: str, seconds: float | None) -> bytes:
        self.asked.append((uuid, query, seconds))
        if isinstance(self.answers, Refusal):
            raise self.answers
        return self.answers


@on_uvloop
async def test_the_endpoint_of_an_agent() -> None:
    apps: Any = Answering(BODY * 50)
    async with running(apps=apps) as agent:
        status, headers, body = await agent.get(
            f"/v1/{WEB_UUID.upper()}/app/metrics?port=80&labels=1",
            headers={"X-Prometheus-Scrape-Timeout-Seconds": "3", "Accept-Encoding": "gzip"},
        )
        assert (status, gzip.decompress(body)) == (200, BODY * 50)
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert headers["Content-Encoding"] == "gzip"
        assert apps.asked == [(WEB_UUID, "port=80&labels=1", 2.5)]
        apps.answers = Refusal(504, "no answer in time")
        assert (await agent.get(f"/v1/{WEB_UUID}/app/metrics"))[::2] == (504, b"no answer in time\n")
        assert (await agent.get(f"/v1/{WEB_UUID}/app/metrics", method="POST"))[0] == 405
        assert (await agent.get("/v1/x/app/metrics"))[::2] == (404, b"x: no container UUID\n")
        assert agent.count("app", 200) == agent.count("app", 504) == 1


@on_uvloop
async def test_answers_that_nobody_receives_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymon.agent.web.MAX_APP_BYTES", 1000)
    apps: Any = Answering(b"a" * 1001)
    async with running(apps=apps) as agent:
        assert (await agent.get(f"/v1/{WEB_UUID}/app/metrics"))[0] == 503
        apps.answers = b"a" * 1000
        for _ in range(3):
            assert (await agent.get(f"/v1/{WEB_UUID}/app/metrics"))[0] == 200


@on_uvloop
async def test_without_the_option_there_is_nothing() -> None:
    async with running() as agent:
        status, _, body = await agent.get(f"/v1/{WEB_UUID}/app/metrics")
    assert (status, body) == (403, b"metrics of applications are off on this node: see --container.app-metrics\n")


def test_the_option_is_a_path_and_off_by_default() -> None:
    assert load_agent_options([], {}, ()).container_app_metrics is None
    assert load_agent_options(["--container.app-metrics=/run/x"], {}, ()).container_app_metrics == Path("/run/x")
    with pytest.raises(ConfigError):
        load_agent_options(["--container.app-metrics="], {}, ())


def test_a_query_is_read() -> None:
    assert parsed("") == (None, False)
    assert parsed("labels=1&port=080") == (80, True)
