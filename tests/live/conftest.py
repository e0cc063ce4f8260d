"""Fixtures of real control groups and a real agent; everything is taken away again, whatever happened."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from types import FrameType

import pytest

from tests.live.agent import Agent
from tests.live.world import World


@pytest.fixture(scope="session", autouse=True)
def _termination() -> Iterator[None]:
    """SIGTERM ends the session as SIGINT does, so that fixtures take away what they made."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def world() -> Iterator[World]:
    with closing(World()) as world:
        yield world


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    with closing(World()) as world:
        yield world


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """An agent that takes every group for a container."""
    with Agent("--container.all") as running:
        yield running
