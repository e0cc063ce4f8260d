"""Which node an agent and the commands beside it say this is."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from uuid import UUID

import pytest

from pymon.agent import node
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.config import ConfigError
from pymon.containers.node_identity import FILE

TOLD = "7d0f4a52-6a55-4c8e-9d53-1d8c6d0a4b11"


@pytest.fixture
def bare(tmp_path: Path) -> list[str]:
    """Flags of a machine that has neither machine-id nor firmware."""
    (tmp_path / "root").mkdir()
    return [f"--path.rootfs={tmp_path}/root", f"--path.sysfs={tmp_path}", f"--data-dir={tmp_path}/data"]


def options(words: list[str]) -> AgentOptions:
    return load_agent_options(words, {}, COLLECTORS)


def test_an_agent_makes_one_and_whoever_looks_has_the_same(bare, tmp_path):
    made = node.node_identity(options(bare), serving=True)
    assert made.source == "data-dir"
    assert (tmp_path / "data" / FILE).read_text() == f"{made.uuid}\n"
    for serving in (True, False):
        assert node.node_identity(options(bare), serving=serving) == made


def test_whoever_looks_writes_nothing(bare, tmp_path, caplog):
    identity = node.node_identity(options(bare), serving=False)
    assert identity.source == "none"
    assert not (tmp_path / "data").exists()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "UUID" in record.getMessage()


def test_a_machine_that_has_one_needs_no_data_directory(bare, tmp_path, monkeypatch):
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/machine-id").write_text("b08dfa6083e7567a1921a715000001fb\n")
    assert node.node_identity(options(bare), serving=True).source == "machine-id"
    assert not (tmp_path / "data").exists()
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert node.node_identity(options(bare[:2]), serving=True).source == "machine-id"


def test_the_flag_overrides_all(bare, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE).write_text("damaged")
    identity = node.node_identity(options([*bare, f"--node.uuid={TOLD}"]), serving=True)
    assert (identity.uuid, identity.source) == (UUID(TOLD), "node.uuid")
    assert node.zones_node_identity(options([*bare, f"--node.uuid={TOLD}"])) == identity


@pytest.mark.parametrize("serving", [True, False])
def test_a_damaged_file_is_one_line_that_names_the_flag(bare, tmp_path, serving):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE).write_text("")
    with pytest.raises(ConfigError, match=r"data/node-uuid: expected a UUID .*--node\.uuid"):
        node.node_identity(options(bare), serving=serving)


def test_what_cannot_be_written_is_one_line_that_names_the_flag(bare, tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConfigError, match=r"data/node-uuid: .*--node\.uuid"):
        node.node_identity(options(bare), serving=True)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match=r"--data-dir: .*--node\.uuid"):
        node.node_identity(options(bare[:2]), serving=True)


def test_a_file_system_that_is_read_only(bare, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError, match=r"read-only file system.*--node\.uuid"):
        node.node_identity(options(bare), serving=True)


def test_what_is_no_uuid_is_refused():
    with pytest.raises(ConfigError, match=r"--node\.uuid: expected a UUID"):
        options(["--node.uuid=node1"])


def test_zones_have_their_nodes_name(bare):
    identity = node.zones_node_identity(options(bare))
    assert identity.source == "nodename"
