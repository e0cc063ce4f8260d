"""Tokens with which nodes join, in both databases."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from pymon.config import ConfigError
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DirectoryError, Holder, Node, NotUpgradedError
from pymon.directory.node_tokens import Secret, TokenRefusedError, parse_token
from tests.directory import old

A, B = UUID(int=1), UUID(int=2)
URL = "https://10.0.0.1:9164"


def node(name: str = "n1", uuid: UUID = A, url: str = URL) -> Node:
    return Node(name, uuid, url, f"{name}.node.pymon.invalid")


def token(directory: Directory, name: str = "n1", seconds: float = 60.0) -> Secret:
    found = parse_token(directory.node_tokens.create(name, seconds))
    assert found
    return found


def test_a_token_registers_its_node_once(directory: Directory) -> None:
    made = token(directory)
    before = directory.generation()
    directory.node_tokens.admit(made, node())
    assert directory.snapshot().nodes == {"n1": node()}
    assert directory.node_tokens.joined("n1") == made.id
    assert directory.generation() != before
    with pytest.raises(TokenRefusedError, match="was used already"):
        directory.node_tokens.admit(made, node(url="https://10.0.0.2:9164"))
    assert directory.snapshot().nodes == {"n1": node()}
    _, (listed,) = directory.node_tokens.all()
    assert (listed.id, listed.node) == (made.id, "n1")
    assert listed.used_at is not None


def test_the_secret_is_not_stored(directory: Directory) -> None:
    text = directory.node_tokens.create("n1", 60.0, "ab" * 32)
    _, id, secret, fingerprint = text.split(".")
    assert fingerprint == "ab" * 32
    with directory._database.reading() as connection:
        (row,) = connection.execute("SELECT * FROM node_tokens")
    assert id in row
    assert not any(secret in str(value) for value in row)


@pytest.mark.parametrize(
    ("seconds", "change", "name", "why"),
    [
        (-1.0, {}, "n1", "has expired"),
        (60.0, {}, "n2", "is for the node n1"),
        (60.0, {"secret": "x" * 43}, "n1", "not known"),
        (60.0, {"id": "0" * 16}, "n1", "not known"),
    ],
    ids=["expired", "another name", "another secret", "unknown"],
)
def test_a_token_that_is_refused_changes_nothing(directory, seconds, change, name, why) -> None:
    made = token(directory, seconds=seconds)
    before = directory.generation()
    with pytest.raises(TokenRefusedError, match=why):
        directory.node_tokens.admit(made._replace(**change), node(name))
    assert directory.snapshot().nodes == {}
    assert directory.generation() == before
    assert [found.used_at for found in directory.node_tokens.all()[1]] == [None]


def test_of_many_that_use_a_token_at_the_same_time_one_joins(url: str, directory: Directory) -> None:
    made = token(directory)
    barrier = threading.Barrier(4)
    outcomes: list[str] = []

    def join(number: int) -> None:
        with open_directory(url) as own:
            barrier.wait()
            try:
                own.node_tokens.admit(made, node(url=f"https://10.0.0.{number}:9164"))
                outcomes.append("joined")
            except TokenRefusedError as error:
                outcomes.append(str(error).partition(": ")[2])

    threads = [threading.Thread(target=join, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["joined", *["was used already"] * 3]


def test_a_node_that_joins_again_keeps_its_uuid_and_its_limit(directory: Directory) -> None:
    directory.create_account("alice")
    directory.create_node("n1", "http://old:9164", accounts=["alice"])
    directory.node_tokens.admit(token(directory), node())
    limit = directory.snapshot().nodes["n1"].accounts
    assert limit is not None
    assert len(limit) == 1
    again = token(directory)
    with pytest.raises(DirectoryError, match="see `pymon node accept`"):
        directory.node_tokens.admit(again, node(uuid=B))
    directory.node_tokens.admit(again, node(url="https://10.0.0.9:9164"))
    found = directory.snapshot().nodes["n1"]
    assert (found.uuid, found.url, found.accounts) == (A, "https://10.0.0.9:9164", limit)
    assert directory.node_tokens.joined("n1") == again.id


def test_a_node_takes_no_uuid_of_another_node_or_a_container_and_keeps_its_token(directory: Directory) -> None:
    directory.create_node("n2", "http://n2:9164", uuid=B)
    directory.hold([Holder(UUID(int=3), B, None, 1.0)])
    made = token(directory)
    for uuid in (B, UUID(int=3)):
        with pytest.raises(DirectoryError, match=f"has the UUID {uuid}"):
            directory.node_tokens.admit(made, node(uuid=uuid))
    assert list(directory.snapshot().nodes) == ["n2"]
    directory.node_tokens.admit(made, node())


def test_a_node_that_is_deleted_has_not_joined(directory: Directory) -> None:
    directory.node_tokens.admit(token(directory), node())
    directory.delete_node("n1")
    assert directory.node_tokens.joined("n1") is None
    directory.create_node("n1", URL)
    assert directory.node_tokens.joined("n1") is None


@pytest.mark.parametrize("name", ["N1", "a@b", "a_b.", "-a", ""])
def test_names_are_those_of_hosts(directory: Directory, name: str) -> None:
    with pytest.raises(ConfigError):
        directory.node_tokens.create(name, 60.0)


@pytest.mark.parametrize("text", ["", "pymon_x_y", "pymon-node.0.x", "pymon-node." + "0" * 16 + ".é" + "x" * 42])
def test_what_is_no_token_is_none(text: str) -> None:
    assert parse_token(text) is None


def test_without_an_upgrade_there_are_none(url: str) -> None:
    old.make(url)
    with open_directory(url) as directory:
        with pytest.raises(NotUpgradedError, match="before `pymon directory upgrade`"):
            directory.node_tokens.create("n1", 60.0)
        directory.upgrade()
        directory.node_tokens.admit(token(directory), node())


def test_a_directory_with_the_first_additions_alone_is_upgraded(directory: Directory) -> None:
    directory.create_account("alice")
    with directory._database.writing() as connection:
        for sql in (
            "DROP TABLE node_tokens",
            "ALTER TABLE nodes DROP COLUMN joined",
            "ALTER TABLE nodes DROP COLUMN source",
            "UPDATE additions SET level = 1",
        ):
            connection.execute(sql)
    (off,) = directory.off()
    assert off.endswith("off until `pymon directory upgrade`: nodes that join, lists of nodes")
    assert directory.upgrade()
    assert directory.off() == []
    directory.node_tokens.admit(token(directory), node())
