"""Labels of runtimes that make the same label of metrics: the first wins, the others are counted."""

from __future__ import annotations

import pytest

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from tests.agent.fixture_host import FIXTURES, FixtureHost, collect_once
from tests.oracle import parse

KEYS = ("app.kubernetes.io/name", "app-kubernetes-io-name", "app_kubernetes_io_name", "tier")


@pytest.mark.parametrize(("keys", "clashes"), [(KEYS, 2), (KEYS[::3], 0), ((), 0)])
def test_they_are_counted_and_told(keys: tuple[str, ...], clashes: int, caplog: pytest.LogCaptureFixture) -> None:
    flags = [*FixtureHost(FIXTURES / "v2").flags(), *(f"--container.label={key}" for key in keys)]
    agent = build_agent(load_agent_options(flags, {}, COLLECTORS, version=pymon.__version__))
    pairs = agent.registry.label_pairs(0)
    series = parse(collect_once(agent))
    assert series["pymon_container_label_clashes", frozenset()] == clashes
    assert [name for name, _ in pairs if name.startswith("container_label_")] == [
        f"container_label_{name}" for name in ("app_kubernetes_io_name", "tier") if keys
    ]
    said = [record.getMessage() for record in caplog.records if "is not exported" in record.getMessage()]
    assert len(said) == clashes
    assert all(repr(key) in line for key, line in zip(KEYS[1:], said, strict=False))
