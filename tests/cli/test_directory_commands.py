"""account, token, cert, key, node, quota, claim and directory: what they print, what they write, how they fail."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
from pathlib import Path

import bcrypt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon import cli
from pymon.directory.model import Quota
from tests.cli.commands import Pymon, snapshot

pytestmark = pytest.mark.usefixtures("data_dir")

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here\n"


def test_accounts(pymon: Pymon, data_dir: Path) -> None:
    uuid = pymon("account", "create", "alice").strip()
    operator = "0f6d2f6e-8a50-4c39-9d3a-0f4c1d2e3b4a"
    assert pymon("account", "create", "--operator", "root", "--uuid", operator.upper()) == operator + "\n"
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "directory.db").stat().st_mode) == 0o600
    lines = pymon("account", "list").splitlines()
    assert re.split("  +", lines[0]) == ["NAME", "UUID", "OPERATOR", "CREATED"]
    assert re.split("  +", lines[1])[:3] == ["alice", uuid, "no"]
    assert re.split("  +", lines[2])[:3] == ["root", operator, "yes"]
    listed = json.loads(pymon("account", "list", "--json"))
    assert [(one["name"], one["uuid"], one["operator"]) for one in listed] == [
        ("alice", uuid, False), ("root", operator, True),
    ]  # fmt: skip
    one = json.loads(pymon("account", "show", "--json", uuid))
    assert one == {
        **listed[0], "certificates": 0, "keys": 0, "tokens": 0, "password": False,
        "requests_per_second": 100.0, "burst": 1000, "concurrency": 512,
    }  # fmt: skip
    assert "name                 alice\n" in pymon("account", "show", "ALICE")
    assert pymon("account", "delete", "alice") == ""
    assert list(snapshot(data_dir).accounts_by_name) == ["root"]


@pytest.mark.parametrize("line", [b"sesame\n", b"sesame\r\n", b"sesame", b"sesame\nmore\n"])
def test_passwords(pymon: Pymon, data_dir: Path, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    pymon("account", "create", "a")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
    assert pymon("account", "password", "a") == ""
    (hashed,) = snapshot(data_dir).passwords.values()
    assert bcrypt.checkpw(b"sesame", hashed)
    assert pymon("account", "password", "a", "--remove") == ""
    assert not snapshot(data_dir).passwords


@pytest.mark.parametrize("line", [b"", b"\n", b"x" * 73 + b"\n", b"x" * 100_000, b"\xff\n", b"a\0\n"])
def test_what_is_no_password(pymon: Pymon, failing, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    pymon("account", "create", "a")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
    status, text = failing("account", "password", "a")
    assert status == 2
    assert text.startswith("password: expected")


def test_tokens(pymon: Pymon) -> None:
    pymon("account", "create", "alice")
    pymon("account", "create", "bob")
    text = pymon("token", "create", "alice", "--label", "grafana", "--expires=30d")
    match = re.fullmatch(r"pymon_([a-z0-9]{12})_([A-Za-z0-9_-]{43})\n", text)
    assert match
    pymon("token", "create", "bob")
    output = pymon("token", "list") + pymon("token", "show", match[1]) + pymon("token", "list", "--json")
    assert match[2] not in output
    (one,) = json.loads(pymon("token", "list", "alice", "--json"))
    assert (one["id"], one["account"], one["label"], one["state"]) == (match[1], "alice", "grafana", "active")
    assert one["expires_at"] - one["created_at"] == pytest.approx(30 * 86400, abs=60)
    pymon("token", "delete", match[1])
    assert json.loads(pymon("token", "show", match[1], "--json"))["state"] == "revoked"
    assert re.split("  +", pymon("token", "list", "alice").splitlines()[1])[2] == "revoked"


def test_keys(pymon: Pymon, tmp_path: Path, data_dir: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text(ED25519)
    pymon("account", "create", "a")
    pymon("account", "create", "b")
    fingerprint = pymon("key", "add", "a", str(file)).strip()
    assert pymon("key", "create", "b", str(file)).strip() == fingerprint
    assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", fingerprint)
    assert [one["account"] for one in json.loads(pymon("key", "list", "--json"))] == ["a", "b"]
    (one,) = json.loads(pymon("key", "list", "b", "--json"))
    assert (one["type"], one["comment"], one["state"]) == ("ssh-ed25519", "me@here", "active")
    colons = ":".join(one["md5"][i : i + 2] for i in range(0, 32, 2))
    assert [k["account"] for k in json.loads(pymon("key", "show", f"MD5:{colons}", "--json"))] == ["a", "b"]
    assert fingerprint in pymon("key", "show", fingerprint)
    pymon("key", "delete", colons)
    revoked = [key.revoked_at for keys in snapshot(data_dir).keys.values() for key in keys]
    assert len(revoked) == 2
    assert None not in revoked


def test_a_file_that_holds_no_key_is_named(pymon: Pymon, failing, tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    pymon("account", "create", "a")
    for text, expected in (
        (f'from="10.0.0.1" {ED25519}', "expected a key of ssh-rsa, "),
        ("-----BEGIN PRIVATE KEY-----", "expected a public key, got a private one"),
        ("", "expected one line of an OpenSSH public key"),
    ):
        file.write_text(text)
        status, said = failing("key", "add", "a", str(file))
        assert status == 2
        assert said.startswith(f"{file}: {expected}")


def test_nodes(pymon: Pymon) -> None:
    pymon("account", "create", "a")
    assert pymon("node", "create", "n1", "http://10.0.0.1:9164") == ""
    pymon(
        "node", "create", "n2", "https://n2:9164", "--tls-server-name", "n2.x", "--tls-fingerprint", "AA:" * 31 + "AA"
    )
    lines = pymon("node", "list").splitlines()
    assert [re.split("  +", line) for line in lines] == [
        ["NAME", "UUID", "OFFERED UUID", "URL", "TLS SERVER NAME", "ACCOUNTS"],
        ["n1", "-", "-", "http://10.0.0.1:9164", "-", "all"],
        ["n2", "-", "-", "https://n2:9164", "n2.x", "all"],
    ]
    assert json.loads(pymon("node", "show", "n2", "--json")) == {
        "name": "n2", "uuid": None, "offered_uuid": None, "url": "https://n2:9164", "tls_server_name": "n2.x",
        "tls_fingerprint": "aa" * 32, "accounts": None,
    }  # fmt: skip
    pymon("node", "delete", "n1")
    assert [node["name"] for node in json.loads(pymon("node", "list", "--json"))] == ["n2"]


def test_quotas(pymon: Pymon, data_dir: Path) -> None:
    pymon("account", "create", "a")
    pymon("quota", "set", "a", "--requests-per-second", "2.5")
    pymon("quota", "create", "a", "--burst=7")
    assert json.loads(pymon("quota", "show", "a", "--json")) == {
        "account": "a", "requests_per_second": 2.5, "burst": 7, "concurrency": 512,
    }  # fmt: skip
    assert re.split("  +", pymon("quota", "list").splitlines()[1]) == ["a", "2.5", "7", "512"]
    pymon("quota", "delete", "a")
    assert snapshot(data_dir).accounts_by_name["a"].quota == Quota()


# --- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["account"], "account: expected one of create, list, show, delete, password, got nothing"),
        (["key", "ad"], "key: expected one of add, create, list, show, delete, got 'ad', did you mean add?"),
        (["account", "create"], "expected pymon account create NAME, got 0 arguments"),
        (["account", "create", "a", "b"], "expected pymon account create NAME, got 2 arguments"),
        (["account", "list", "a"], "expected pymon account list, got 1 arguments"),
        (["token", "list", "a", "b"], "expected pymon token list [ACCOUNT], got 2 arguments"),
        (["cert", "server"], "expected pymon cert server NAME [NAME ...], got 0 arguments"),
        (["account", "list", "--jsn"], "--jsn: unknown flag, did you mean --json"),
        (["account", "create", "a", "--uuid"], "--uuid: expected one argument"),
        (["account", "create", "a", "--uuid", "x"], "--uuid: expected a UUID such as"),
        (["account", "create", "a/b"], "account: expected a name of 1 to 63 letters"),
        (["account", "create", "--", "-x"], "account: expected a name of 1 to 63 letters"),
        (["token", "create", "a", "--expires", "soon"], "--expires: expected a duration such as"),
        (["token", "create", "a", "--expires", "0"], "--expires: expected a duration above zero"),
        (["token", "create", "a", "--expires", "9000y"], "--expires: expected a duration above zero, at most 100y"),
        (["token", "create", "a", "--label", "a\x1bb"], "--label: expected at most 200 printable characters"),
        (["quota", "set", "a"], "expected --requests-per-second, --burst or --concurrency, got none of them"),
        (["quota", "set", "a", "--requests-per-second", "nan"], "--requests-per-second: expected a number"),
        (["node", "create", "n", "n:9164"], "url: expected http://HOST:PORT or https://HOST:PORT, got 'n:9164'"),
        (["cert", "create", "a", "--out", "x", "--days", "0"], "--days: expected 1 to 3650 days, got '0'"),
        (["cert", "create", "a", "--out", "x", "--zone", "a b"], "--zone: expected a domain name"),
        (["cert", "create", "a", "--out", "x", "--proxy", ":1"], "--proxy: expected HOST:PORT, got ':1'"),
        (["cert", "show", "12"], "certificate: expected the SHA-256 fingerprint of a certificate, 64 hex digits"),
        (["account", "list", "--directory", "mysql://x"], "directory: expected a path, sqlite:///PATH or postgresql"),
    ],
)  # fmt: skip
def test_bad_usage_is_exit_code_2(pymon: Pymon, failing, words: list[str], text: str) -> None:
    pymon("account", "create", "a")
    status, said = failing(*words)
    assert status == 2
    assert said.startswith(text)


@pytest.mark.parametrize(
    "words",
    [
        ["account", "show", "b"], ["account", "delete", "b"], ["account", "password", "b", "--remove"],
        ["token", "create", "b"], ["token", "list", "b"], ["token", "show", "x"], ["token", "delete", "x"],
        ["cert", "list", "b"], ["cert", "show", "0" * 64], ["cert", "delete", "0" * 64],
        ["cert", "create", "b", "--out", "/nonexistent/x"], ["key", "list", "b"], ["key", "show", "SHA256:x"],
        ["key", "delete", "x"], ["node", "show", "x"], ["node", "delete", "x"], ["quota", "show", "b"],
        ["quota", "set", "b", "--burst", "1"], ["quota", "delete", "b"],
    ],
)  # fmt: skip
def test_what_is_not_there_is_exit_code_1(pymon: Pymon, failing, words: list[str]) -> None:
    pymon("account", "create", "a")
    status, text = failing(*words)
    assert status == 1
    assert "not found" in text


def test_files_that_are_not_there(pymon: Pymon, failing, tmp_path: Path) -> None:
    pymon("account", "create", "a")
    for words in (["key", "add"], ["cert", "add"]):
        assert failing(*words, "a", str(tmp_path / "no")) == (1, f"{tmp_path}/no: No such file or directory")
        assert failing(*words, "a", str(tmp_path))[0] == 1
    assert failing("cert", "create", "a", "--out", "/proc/x")[0] == 1


@pytest.mark.parametrize("command", ["account", "token", "cert", "key", "node", "quota", "claim"])
def test_without_a_directory_only_account_create_makes_one(failing, data_dir: Path, command: str) -> None:
    assert failing(command, "list") == (
        1, f"{data_dir}/directory.db: no directory there; create one with `pymon account create`",
    )  # fmt: skip
    assert not data_dir.exists()


@pytest.mark.parametrize(
    "command", ["account", "token", "cert", "key", "node", "node token", "quota", "claim", "directory"]
)
def test_help(pymon: Pymon, command: str) -> None:
    text = pymon(*command.split(), "--help")
    assert text.startswith(f"usage: pymon {command} VERB")
    for verb in re.findall(r"^  ([a-z]+)(?! VERB)\b", text, re.MULTILINE):
        with pytest.raises(SystemExit) as caught:
            cli.main([*command.split(), verb, "--help"])
        assert caught.value.code == 0


def test_the_directory_of_a_url(pymon: Pymon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setenv("PYMON_DIRECTORY", f"sqlite://{tmp_path}/mine.db")
    pymon("account", "create", "a")
    assert (tmp_path / "mine.db").exists()
    assert not data_dir.exists()
    assert "a " in pymon("account", "list", "--directory", str(tmp_path / "mine.db"))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/x"}, "/home/x/.local/share/pymon"),
        ({"HOME": "/home/x", "XDG_DATA_HOME": "/data"}, "/data/pymon"),
        ({"HOME": "/home/x", "XDG_DATA_HOME": "data"}, "/home/x/.local/share/pymon"),
    ],
)
def test_the_data_directory_of_a_user(environ: dict[str, str], expected: str) -> None:
    from pymon.data_dir import default_data_dir  # noqa: PLC0415

    assert str(default_data_dir(environ, 1000)) == expected
    assert str(default_data_dir(environ, 0)) == "/var/lib/pymon"


def test_what_a_tenant_chose_does_not_reach_the_terminal(pymon: Pymon, tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text(ED25519.replace("me@here", "\x1b]0;x\x07 \u202e"))
    pymon("account", "create", "a")
    pymon("key", "add", "a", str(file))
    text = pymon("key", "list") + pymon("key", "show", json.loads(pymon("key", "list", "--json"))[0]["fingerprint"])
    assert text.replace("\n", "").isprintable()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from(["account", "token", "cert", "key", "node", "quota", "claim", "directory"]),
    verb=st.sampled_from(["create", "show", "delete", "list", "add", "set", "password"]),
    words=st.lists(
        st.text(max_size=20) | st.sampled_from(["--json", "--out", "--label", "--", "a", "'; --"]), max_size=4
    ),
)
def test_any_words_end_in_one_line(
    capsys, data_dir: Path, tmp_path: Path, command: str, verb: str, words: list[str]
) -> None:
    os.chdir(tmp_path)
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(b"x\n"))
    try:
        status = cli.main([command, verb, *words])
    except SystemExit as stop:
        status = stop.code
    finally:
        sys.stdin = stdin
    out, err = capsys.readouterr()
    assert status in (0, 1, 2)
    assert "internal error" not in err
    assert err.count("\n") == (0 if status == 0 else 1), out


def test_nodes_of_a_list(pymon: Pymon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pymon("account", "create", "a")
    file = tmp_path / "nodes.yml"
    file.write_text("- targets: ['10.0.0.1:9164']\n  labels: {pymon_node: n1}\n- targets: ['n2:1']\n")
    assert pymon("node", "import", str(file)) == "created n1\ncreated n2\n"
    assert pymon("node", "import", str(file)) == ""
    file.write_text("- targets: ['n2:2']\n")
    assert pymon("node", "import", str(file)) == "changed n2\n"
    urls = {node["name"]: node["url"] for node in json.loads(pymon("node", "list", "--json"))}
    assert urls == {"n1": "http://10.0.0.1:9164", "n2": "http://n2:2"}
    file.write_text("- targets: 1\n")
    assert cli.main(["node", "import", str(file)]) == 2
    assert "entry 1: expected targets and labels" in capsys.readouterr().err
