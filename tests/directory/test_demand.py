"""Proxies tell one another what accounts ask of them, in both databases."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.directory import demand, sqlite
from pymon.directory.demand import DemandExchange, decode, encode
from pymon.directory.directory import Directory, open_directory


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "TELL_SECONDS", 0.05)
    monkeypatch.setattr(demand, "RENEW_SECONDS", 0.2)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


class One:
    """A proxy and what it was last told of the others."""

    def __init__(self, url: str, name: str) -> None:
        self.others: list[demand.Demands] | None = None
        self.exchange = DemandExchange(url, name, self._learn)

    def _learn(self, others: list[demand.Demands]) -> None:
        self.others = others


@contextlib.asynccontextmanager
async def being(url: str, name: str) -> AsyncIterator[One]:
    one = One(url, name)
    one.exchange.start()
    try:
        yield one
    finally:
        thread = one.exchange._worker._thread
        assert thread
        await one.exchange.stop()
        assert not thread.is_alive()


@pytest.mark.usefixtures("directory")
async def test_demands_are_told_until_they_or_the_proxy_end(url: str) -> None:
    async with being(url, "a") as first:
        await until(lambda: first.others == [])
        first.exchange.tell({1: 0.5, 2: 0.25})
        async with being(url, "b") as second:
            await until(lambda: second.others == [{1: 0.5, 2: 0.25}])
            assert first.others == [{}]
            second.exchange.tell({7: 1.0})
            await until(lambda: first.others == [{7: 1.0}])
            second.exchange.tell({})
            await until(lambda: first.others == [{}])
        await until(lambda: first.others == [])


async def test_of_one_that_was_killed_the_demand_ends_first(
    url: str, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "STALE_SECONDS", 0.5)
    monkeypatch.setattr(demand, "ALIVE_SECONDS", 2.0)
    async with being(url, "a") as first:
        directory.put_lease("demand b", encode(1, {7: 1.0}), 2.0)
        await until(lambda: first.others == [{7: 1.0}])
        await until(lambda: first.others == [{}])
        await until(lambda: first.others == [])


async def test_rows_that_say_nothing_count_as_proxies_without_demand(url: str, directory: Directory) -> None:
    texts = ["", "5", "[1]", "[1, 5]", '[1, {"x": 1}]', "[" * 10_000, "x" * 100_000, '[1, {"' + "0" * 32 + '": "x"}]']
    for number, text in enumerate(texts):
        directory.put_lease(f"demand {number}", text, 15.0)
    directory.put_lease("demand z", encode(1, {3: 0.5}), 15.0)
    async with being(url, "a") as first:
        await until(lambda: first.others is not None)
        assert first.others == [{}] * len(texts) + [{3: 0.5}]
        assert first.exchange.error == ""


@given(st.dictionaries(st.integers(0, 2**128 - 1), st.floats(0, 1).map(lambda demand: round(demand, 3)), max_size=20))
def test_a_row_says_what_was_written(demands: dict[int, float]) -> None:
    assert decode(encode(1, demands)) == demands


@pytest.mark.parametrize(("text", "counts"), [("NaN", 0.0), ("-5", 0.0), ("-Infinity", 0.0), ("1e300", 1.0)])
def test_a_demand_that_is_no_part_of_a_quota_counts_as_the_nearest(text: str, counts: float) -> None:
    assert decode(f'[1, {{"{9:032x}": {text}}}]') == {9: counts}


async def test_while_the_directory_is_away_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, away = tmp_path / "directory.db", tmp_path / "away.db"
    sqlite.create(file)
    async with being(str(file), "a") as first:
        with open_directory(str(file)) as directory:
            directory.put_lease("demand b", encode(1, {}), 15.0)
        await until(lambda: first.others == [{}])
        file.rename(away)
        await until(lambda: first.exchange.error)
        first.others = None
        await asyncio.sleep(0.3)
        assert first.others is None
        away.rename(file)
        await until(lambda: first.others == [{}])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
