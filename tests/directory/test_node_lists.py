"""Lists of nodes: what they may say, and what they change, in both databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pymon.config import ConfigError
from pymon.directory.directory import Directory
from pymon.directory.model import DirectoryError, Node
from pymon.directory.node_lists import Entry, parse_list, read_list

A, B = UUID(int=0xA), UUID(int=0xB)
FILE = Path("nodes.yml")


def parsed(document: Any) -> list[Entry]:
    return parse_list(json.dumps(document).encode(), FILE)


def entries(*names: str, port: int = 9164, **fields: Any) -> list[Entry]:
    return [Entry(Node(name, None, f"http://{name}:{port}"), **fields) for name in names]


def urls(directory: Directory) -> dict[str, str]:
    return {name: node.url for name, node in directory.snapshot().nodes.items()}


def test_the_format() -> None:
    text = """
- targets: [n1.example.com:9164, "[2001:db8::1]:9164"]
  labels: {env: prod, __scheme__: https}
- targets: ["10.0.0.1:9164"]
  labels:
    pymon_node: n3
    pymon_uuid: 0000000a-0000-4000-8000-000000000000
    __scheme__: https
    pymon_tls_server_name: n3.example.com
    pymon_accounts: a,b
- targets: []
"""
    first, _, third = parse_list(text.replace('"[2001:db8::1]:9164"', "10.0.0.2:9164").encode(), FILE)
    assert first == Entry(Node("n1.example.com", None, "https://n1.example.com:9164"))
    assert third.node == Node(
        "n3", UUID("0000000a-0000-4000-8000-000000000000"), "https://10.0.0.1:9164", "n3.example.com"
    )
    assert third.accounts == ("a", "b")
    assert parsed([{"targets": ["n1:1"], "labels": {"pymon_accounts": ""}}])[0].accounts == ()


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({}, "expected a list of targets and labels"),
        (None, "expected a list of targets and labels"),
        ([1], "entry 1: expected targets and labels"),
        ([{"targets": "n1:1"}], "entry 1: expected targets and labels"),
        ([{"targets": [1]}], "entry 1: expected strings"),
        ([{"targets": ["n1:1"], "labels": {"pymon_acounts": "a"}}], "entry 1: expected one of pymon_node"),
        ([{"targets": ["n1:1", "n2:1"], "labels": {"pymon_node": "n1"}}], "expected one target with a name"),
        ([{"targets": ["n1"]}], "entry 1: node: expected"),
        ([{"targets": ["n1:x"]}], "entry 1: url: expected"),
        ([{"targets": ["n1:1/x"]}], "entry 1: url: expected"),
        ([{"targets": ["n1:1"], "labels": {"__scheme__": "ftp"}}], "entry 1: url: expected"),
        ([{"targets": ["n1:1"], "labels": {"pymon_uuid": "x"}}], "entry 1: uuid: expected"),
        ([{"targets": ["n1:1"]}, {"targets": ["n1:2"]}], "the node n1 comes twice"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file(document: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error) as caught:
        parsed(document)
    assert str(caught.value).startswith("nodes.yml: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_list(tmp_path / "none")
    for data in (b"\xff", b"[" * 100_000, b"a: ]"):
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(ConfigError):
            read_list(tmp_path / "file")


def test_an_import_adds_and_changes_and_leaves_others_alone(directory: Directory) -> None:
    directory.create_account("a")
    directory.create_node("n1", "http://old:1", uuid=A, accounts=["a"])
    directory.create_node("other", "http://other:1")
    changes = directory.node_lists.put(entries("n1", "n2"))
    assert (changes.created, changes.changed, changes.deleted) == (["n2"], ["n1"], [])
    assert urls(directory) == {"n1": "http://n1:9164", "n2": "http://n2:9164", "other": "http://other:1"}
    found = directory.snapshot().nodes["n1"]
    assert (found.uuid, len(found.accounts or ())) == (A, 1)
    before = directory.generation()
    assert not directory.node_lists.put(entries("n1", "n2"))
    assert directory.generation() == before
    directory.node_lists.put(entries("n2", accounts=("a",)))
    assert len(directory.snapshot().nodes["n2"].accounts or ()) == 1


def test_a_uuid_of_a_list_is_no_other_nodes(directory: Directory) -> None:
    directory.create_node("n1", "http://n1:1", uuid=A)
    changes = directory.node_lists.put([Entry(Node("n1", B, "http://n1:2"))])
    assert changes.refused == {"n1": f"has the UUID {A}; see `pymon node accept`"}
    with pytest.raises(DirectoryError, match="has the UUID of another node"):
        directory.node_lists.put([Entry(Node("n2", A, "http://n2:1"))])
    assert urls(directory) == {"n1": "http://n1:1"}


def test_a_list_that_is_followed_owns_its_nodes_and_no_others(directory: Directory) -> None:
    directory.create_node("hand", "http://hand:1")
    follow = directory.node_lists.follow
    changes = follow(entries("n1", "n2", "hand"), "file a")
    assert changes.created == ["n1", "n2"]
    assert list(changes.refused) == ["hand"]
    assert follow(entries("n1"), "file b").refused.keys() == {"n1"}
    assert follow(entries("n1", port=1), "file a").deleted == ["n2"]
    assert urls(directory) == {"n1": "http://n1:1", "hand": "http://hand:1"}


def test_an_empty_list_changes_nothing(directory: Directory) -> None:
    directory.node_lists.follow(entries("n1"), "file a")
    assert not directory.node_lists.follow([], "file a")
    assert urls(directory) == {"n1": "http://n1:9164"}


def test_an_account_that_is_not_there_refuses_the_list(directory: Directory) -> None:
    with pytest.raises(DirectoryError, match="account 'nobody'"):
        directory.node_lists.put([*entries("n1"), *entries("n2", accounts=("nobody",))])
    assert urls(directory) == {}
