"""Nodes of illumos, and logs that are looked at, for this folder's tests."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymon.sources.programs import background, process
from tests.agent.zone_host import CHAIN, ZoneHost


@pytest.fixture
def empty_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneHost]:
    """A node without kstats, programs and zones."""
    host = ZoneHost(tmp_path / "node")
    monkeypatch.setattr(
        background, "find_program", lambda name, _directories: process.find_program(name, [str(host.programs)])
    )
    yield host
    host.double.reset()


@pytest.fixture
def node(empty_node: ZoneHost) -> ZoneHost:
    """A node with the chain smartos-small, and no programs."""
    empty_node.double.load(CHAIN)
    empty_node.configure_chain()
    return empty_node


@pytest.fixture
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing here may log a traceback, or an error that its test does not take out."""
    caplog.set_level(logging.DEBUG)
    yield
    gc.collect()
    for record in caplog.records:
        assert record.levelno < logging.ERROR, record.getMessage()
        assert not record.exc_info
