"""Nodes that the tests of the proxy share; everything is taken away again, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.fleet import Fleet, Node
from tests.live.conftest import _termination as _termination  # noqa: PLC0414  # a fixture, for this folder too


@pytest.fixture(scope="session")
def shared_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.start()
        yield fleet


@pytest.fixture(scope="module")
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """Three nodes, with nothing on them but what this module's tests put there.

    The agents are other ones for each module, as an agent keeps what has ended for minutes.
    """
    yield shared_fleet
    for node in shared_fleet.nodes:
        node.clear()
        node.stop()
    shared_fleet.start()


@pytest.fixture
def nodes(fleet: Fleet) -> Iterator[list[Node]]:
    """Three nodes that run, with nothing on them but what the module and this test put there."""
    before = [set(node.containers) for node in fleet.nodes]
    yield fleet.nodes
    for node, kept in zip(fleet.nodes, before, strict=True):
        node.clear(kept)
    fleet.start()
