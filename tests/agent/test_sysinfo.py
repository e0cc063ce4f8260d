"""The node of SmartOS: what `sysinfo` calls it."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from pymon.agent.build import build_agent
from pymon.config import ConfigError
from pymon.sources.errors import SourceError
from pymon.sources.programs.sysinfo import Sysinfo, parse_sysinfo, read_sysinfo
from tests.agent.zone_host import ZoneHost, running, scrape

NODE = "44454c4c-5400-1034-8052-b5c04f383432"
TOLD = "0d4a3a8c-2c1f-4c0e-9a35-9f5a3a1a7a11"


def say(node: ZoneHost, document: object) -> None:
    """Have sysinfo print it, and count its runs."""
    node.write("sysinfo.json", document if isinstance(document, str) else json.dumps(document))
    program = node.write(
        "usr/bin/sysinfo.new", f"#!/bin/sh\necho >>'{node.root}/runs'\nexec cat '{node.root}/sysinfo.json'\n"
    )
    program.chmod(0o755)
    program.rename(node.root / "usr/bin/sysinfo")


async def test_the_node_is_called_as_triton_calls_it(node: ZoneHost) -> None:
    say(node, {"Live Image": "x", "UUID": NODE, "Datacenter Name": "us-east-1", "Hostname": "cn1"})
    async with running(node.options()) as agent:
        assert json.loads(agent.registry.document())["node"]["uuid"] == NODE
        for _ in range(2):
            text = (await scrape(agent, scope="node") or b"").decode()
        assert f'cached_items{{datacenter="us-east-1",instance="0",server="{NODE}",service="cmon-agent"}}' in text
    assert (node.root / "runs").read_text().count("\n") == 1


async def test_without_sysinfo_it_is_called_as_before(node: ZoneHost) -> None:
    async with running(node.options()) as agent:
        text = (await scrape(agent, scope="node") or b"").decode()
        assert agent.registry.node.source == "machine-id"
    assert "datacenter=" not in text


def test_what_the_operator_says_comes_first(node: ZoneHost) -> None:
    say(node, {"UUID": NODE})
    agent = build_agent(node.options("--dialect=cmon", f"--node.uuid={TOLD}"))
    assert str(agent.registry.node.uuid) == TOLD
    agent.containers.close()


@pytest.mark.parametrize("document", ["", "{", "[]", {}, {"UUID": 7}, {"UUID": NODE.replace("-", "")}, "[" * 10**5])
def test_a_node_is_no_other_one_because_sysinfo_says_nothing_of_use(node: ZoneHost, document: object) -> None:
    say(node, document)
    with pytest.raises(ConfigError, match=r"^sysinfo: [^\n]*; --node\.uuid says which node it is$"):
        build_agent(node.options())
    agent = build_agent(node.options("--dialect=cmon", f"--node.uuid={TOLD}"))
    agent.containers.close()


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 3", "exit"), ("exec sleep 60", "deadline"), ("exec yes", "size")],
)
def test_a_run_that_fails_ends(tmp_path: Path, script: str, reason: str) -> None:
    program = tmp_path / "sysinfo"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(SourceError) as raised:
        read_sysinfo(program, 0.5 if reason == "deadline" else 30)
    assert raised.value.reason == reason
    assert read_sysinfo(tmp_path / "not-there") is None


@pytest.mark.parametrize("datacenter", [None, 7, "a\nb", "x" * 257])
def test_a_datacenter_that_is_no_name_is_none(datacenter: object) -> None:
    text = json.dumps({"UUID": NODE.upper(), "Datacenter Name": datacenter}).encode()
    assert parse_sysinfo(text) == Sysinfo(UUID(NODE), "")
