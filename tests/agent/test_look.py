"""Looking at the containers of a node without an agent: the same list, and little that has to be loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.look import registry_of
from pymon.agent.options import load_agent_options

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"aiohttp", "cryptography", "prometheus_client", "pymon.exposition.families", "pymon.plugins", "uvloop"}


def test_it_lists_what_an_agent_lists():
    options = load_agent_options(["--container.all"], {}, COLLECTORS)

    def same() -> bool:  # not while a group comes or goes
        agent = build_agent(options)
        try:
            with registry_of(options) as registry:
                assert registry.node == agent.registry.node
                return {one.uuid for one in registry.containers()} == {one.uuid for one in agent.registry.containers()}
        finally:
            agent.containers.close()

    assert any(same() for _ in range(10))


@pytest.mark.parametrize("command", ["containers", "doctor"])
def test_commands_that_only_look_load_neither_servers_nor_clients(command):
    argv = [command, "--data-dir=/nonexistent"]
    program = f"import sys; from pymon import cli; print(cli.main({argv}), *sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    status, *loaded = done.stderr.splitlines()[-1].split()
    assert status == "0"
    assert not HEAVY & set(loaded)
