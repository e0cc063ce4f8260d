"""node set and accept, claim, directory upgrade: what they print, what they write, how they fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from pymon import cli
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import Holder, Node
from tests.directory import old

X, N1, N2 = UUID(int=1), UUID(int=11), UUID(int=12)

Pymon = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path))
    return str(tmp_path / "directory.db")


@pytest.fixture
def pymon(capsys: pytest.CaptureFixture[str]) -> Pymon:
    """Run a command line; its exit code and what it prints."""

    def run(*words: str) -> tuple[int, str, str]:
        return cli.main(words), *capsys.readouterr()

    return run


@pytest.fixture
def directory(file: str) -> Iterator[Directory]:
    with open_directory(file, create=True) as opened:
        opened.create_account("a")
        opened.create_account("b")
        yield opened


def node(directory: Directory, name: str = "n1") -> Node:
    return directory.snapshot().nodes[name]


def test_a_node_is_limited_to_accounts(pymon: Pymon, directory: Directory) -> None:
    a, b = (directory.snapshot().accounts_by_name[name].uuid for name in "ab")
    assert pymon("node", "create", "n1", "http://n1:9164", "--uuid", str(N1), "--accounts", "a,B") == (0, "", "")
    assert node(directory).accounts == {a, b}
    assert node(directory).uuid == N1
    assert re.split("  +", pymon("node", "list")[1].splitlines()[1])[-1] == "a,b"
    assert json.loads(pymon("node", "show", "n1", "--json")[1])["accounts"] == ["a", "b"]
    assert pymon("node", "set", "n1", "--accounts", str(b)) == (0, "", "")
    assert node(directory).accounts == {b}
    pymon("account", "delete", "b")
    assert json.loads(pymon("node", "show", "n1", "--json")[1])["accounts"] == [str(b)]
    assert pymon("node", "set", "n1", "--accounts", "") == (0, "", "")
    assert node(directory).accounts == frozenset()
    assert re.search("^accounts +none$", pymon("node", "show", "n1")[1], re.MULTILINE)
    assert pymon("node", "set", "n1", "--accounts", "all", "--url", "http://n2:9164") == (0, "", "")
    assert (node(directory).accounts, node(directory).url) == (None, "http://n2:9164")
    assert re.search("^accounts +all$", pymon("node", "show", "n1")[1], re.MULTILINE)


def test_what_node_set_refuses(pymon: Pymon, directory: Directory) -> None:
    directory.create_node("n1", "http://n1:9164")
    assert pymon("node", "set", "n1") == (
        2, "", "pymon: expected --accounts, --url, --tls-server-name or --tls-fingerprint, got none of them\n",
    )  # fmt: skip
    for words, said in (
        (("n1", "--accounts", "a,nobody"), "account 'nobody': not found"),
        (("n2", "--accounts", "a"), "node 'n2': not found"),
    ):
        assert pymon("node", "set", *words) == (1, "", f"pymon: {said}\n")
    assert node(directory).accounts is None


def test_a_node_with_another_uuid_is_accepted(pymon: Pymon, directory: Directory) -> None:
    directory.create_node("n1", "http://n1:9164", uuid=N1)
    assert pymon("node", "accept", "n1") == (
        1, "", "pymon: node n1: its agent reported no other UUID; give one with --uuid\n",
    )  # fmt: skip
    assert pymon("node", "accept", "n2") == (1, "", "pymon: node 'n2': not found\n")
    directory.offer_node("n1", N2)
    assert re.split("  +", pymon("node", "list")[1].splitlines()[1])[1:3] == [str(N1), str(N2)]
    assert pymon("node", "accept", "n1") == (0, f"{N2}\n", "")
    assert node(directory).uuid == N2
    assert pymon("node", "accept", "n1", "--uuid", str(N1)) == (0, f"{N1}\n", "")
    assert node(directory).uuid == N1


def test_claims_are_listed_and_released(pymon: Pymon, directory: Directory) -> None:
    a = directory.snapshot().accounts_by_name["a"].uuid
    directory.create_node("n1", "http://n1:9164", uuid=N1)
    assert pymon("claim", "list") == (0, "UUID  NODE  ACCOUNT  STARTED  CHANGED\n", "")
    directory.hold([Holder(X, N1, a, 1e9), Holder(N2, N2, None, 1e9)])
    lines = [re.split("  +", line) for line in pymon("claim", "list")[1].splitlines()[1:]]
    assert [line[:4] for line in lines] == [
        [str(X), "n1", "a", "2001-09-09T01:46:40Z"],
        [str(N2), str(N2), "-", "2001-09-09T01:46:40Z"],
    ]
    (first, _) = json.loads(pymon("claim", "list", "--json")[1])
    assert first.pop("changed_at") > 1e9
    assert first == {"uuid": str(X), "node": "n1", "account": "a", "started_at": 1e9}
    assert pymon("claim", "release", str(X)) == (0, "", "")
    assert [holder.uuid for holder in directory.holders()[1]] == [N2]
    assert pymon("claim", "release", str(X)) == (1, "", f"pymon: claim {X}: nobody holds it\n")
    status, out, said = pymon("claim", "release", "x")
    assert (status, out) == (2, "")
    assert said.startswith("pymon: expected a UUID such as")


def test_an_older_directory_is_upgraded_when_asked(pymon: Pymon, file: str) -> None:
    old.make(file)
    program = old.OldProgram(file)
    for name, at in (("a_b", 1.0), ("a-b", 2.0)):
        program.run(old.INSERT_ACCOUNT, (str(UUID(int=int(at))), name, name, 0, at))
    program.close()
    assert pymon("account", "list")[0] == 0
    assert pymon("node", "create", "n1", "http://n1:9164") == (0, "", "")
    assert pymon("node", "list")[0] == 0
    for words in (("claim", "list"), ("claim", "release", str(X)), ("node", "set", "n1", "--accounts", "a_b")):
        status, out, said = pymon(*words)
        assert (status, out) == (1, "")
        assert said.endswith("before `pymon directory upgrade`\n")
        assert said.count("\n") == 1
    conflict = "account a_b: is a-b in DNS, which the account a-b has\n"
    assert pymon("directory", "upgrade") == (0, f"upgraded\n{conflict}", "")
    assert pymon("directory", "upgrade") == (0, f"nothing to upgrade\n{conflict}", "")
    assert pymon("claim", "list")[0] == 0


def test_there_is_nothing_to_upgrade_where_there_is_no_directory(pymon: Pymon, file: str) -> None:
    status, _, said = pymon("directory", "upgrade")
    assert (status, said) == (1, f"pymon: {file}: no directory there; create one with `pymon account create`\n")
    assert not Path(file).exists()
