"""What the directory does, the same in SQLite and in PostgreSQL."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon.config import ConfigError
from pymon.directory.authority import Authority
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DirectoryError, Node, Quota, UnavailableError, VersionError
from tests.directory.test_sshkey import ED25519

HOSTILE = [
    "'; DROP TABLE accounts; --", "x' OR '1'='1", 'x" OR 1=1', "%", "_", "a\r\nSet-Cookie: x", "../../etc/passwd",
    "a\0b", "\ud800", "?", "%s", "{bytes}", "", " ", "ä", "x" * 100_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.load_or_create(tmp_path_factory.mktemp("ca") / "authority")


def issue(authority: Authority, name: str) -> bytes:
    return x509.load_pem_x509_certificate(authority.issue_client(name, 30)[0]).public_bytes(Encoding.DER)


def test_an_empty_directory(directory: Directory) -> None:
    snapshot = directory.snapshot()
    assert snapshot.accounts == snapshot.nodes == snapshot.tokens == {}
    assert snapshot.authority is None
    assert snapshot.generation == directory.generation()


def test_everything_comes_back(directory: Directory, url: str, authority: Authority) -> None:
    alice = directory.create_account("Alice")
    bob = directory.create_account("bob", operator=True, uuid=uuid4())
    directory.set_password("alice", "sécret")
    text = directory.create_token("alice", "läbel", 2e9)
    key = directory.add_key("ALICE", ED25519 + " comment")
    directory.set_authority(authority.der)
    der = issue(authority, "Alice")
    certificate = directory.add_certificate("Alice", der, issued=True, label="x")
    uuid = uuid4()
    directory.create_node("n1", "https://n1:9164/", uuid=uuid, tls_server_name="n1.x", tls_fingerprint="AB" * 32)
    directory.create_node("n0", "http://[::1]:9164")
    directory.set_quota("bob", requests_per_second=0, burst=5)
    with open_directory(url, read_only=True) as other:
        snapshot = other.snapshot()
    assert snapshot == directory.snapshot()
    assert list(snapshot.accounts_by_name) == ["Alice", "bob"]
    assert snapshot.accounts[alice.uuid] == alice
    assert snapshot.accounts[bob.uuid].operator
    assert snapshot.accounts[bob.uuid].quota == Quota(0.0, 5, 512)
    assert bcrypt.checkpw("sécret".encode(), snapshot.passwords[alice.uuid])
    match = re.fullmatch(r"pymon_([a-z0-9]{12})_([A-Za-z0-9_-]{43})", text)
    assert match
    token = snapshot.tokens[match[1]]
    assert (token.account, token.label, token.expires_at) == (alice.uuid, "läbel", 2e9)
    assert token.sha256 == hashlib.sha256(match[2].encode()).digest()
    assert snapshot.keys == {alice.uuid: (key,)}
    assert snapshot.certificates == {hashlib.sha256(der).hexdigest(): certificate}
    assert certificate.issued
    assert snapshot.authority == authority.der
    assert list(snapshot.nodes.values()) == [
        Node("n0", None, "http://[::1]:9164"),
        Node("n1", uuid, "https://n1:9164", "n1.x", "ab" * 32),
    ]


def test_secrets_are_not_kept(directory: Directory) -> None:
    directory.create_account("a")
    secret = directory.create_token("a").split("_", 2)[2]
    directory.set_password("a", "correct horse")
    text = repr(directory.rows())
    assert secret not in text
    assert "correct horse" not in text


def test_each_change_is_another_generation(directory: Directory, authority: Authority) -> None:
    directory.create_account("a")
    token = directory.create_token("a").split("_")[1]
    der = issue(authority, "a")
    fingerprint = directory.add_certificate("a", der, issued=False).fingerprint
    key = directory.add_key("a", ED25519).fingerprint
    directory.create_node("n", "http://n:1")
    seen = {directory.generation()}
    changes = [
        lambda: directory.set_password("a", "x"),
        lambda: directory.set_password("a", None),
        lambda: directory.set_quota("a", burst=2),
        lambda: directory.delete_quota("a"),
        lambda: directory.revoke_token(token),
        lambda: directory.revoke_key(key),
        lambda: directory.revoke_certificate(fingerprint),
        lambda: directory.set_authority(der),
        lambda: directory.delete_node("n"),
        lambda: directory.delete_account("a"),
    ]
    for number, change in enumerate(changes, 2):
        change()
        seen.add(directory.generation())
        assert len(seen) == number


def test_a_change_that_fails_changes_nothing(directory: Directory) -> None:
    directory.create_account("a")
    before = directory.snapshot()
    for name, uuid in (("A", None), ("b", next(iter(before.accounts)))):
        with pytest.raises(DirectoryError, match=f"account {name}: an account with this name or UUID exists already"):
            directory.create_account(name, uuid=uuid)
    for name in ("nobody", str(uuid4())):
        with pytest.raises(DirectoryError, match="not found"):
            directory.create_token(name)
    with pytest.raises(ConfigError, match="quota: expected a burst from 1"):
        directory.set_quota("a", burst=0)
    assert directory.snapshot() == before


def test_an_account_is_found_by_its_uuid(directory: Directory) -> None:
    account = directory.create_account("a")
    directory.set_password(str(account.uuid).upper(), "x")
    assert list(directory.snapshot().passwords) == [account.uuid]


def test_a_deleted_account_takes_its_credentials_with_it(directory: Directory, authority: Authority) -> None:
    for name in ("a", "b"):
        directory.create_account(name)
        directory.create_token(name)
        directory.add_key(name, ED25519)
        directory.set_password(name, "x")
        directory.set_quota(name, burst=1)
        directory.add_certificate(name, issue(authority, name), issued=True)
    directory.delete_account("a")
    snapshot = directory.snapshot()
    b = snapshot.accounts_by_name["b"].uuid
    assert set(snapshot.accounts) == set(snapshot.keys) == set(snapshot.passwords) == {b}
    assert {token.account for token in snapshot.tokens.values()} == {b}
    assert {certificate.account for certificate in snapshot.certificates.values()} == {b}
    assert len(directory.rows()["quotas"]) == 1
    again = directory.create_account("a")
    snapshot = directory.snapshot()
    assert again.uuid not in snapshot.keys
    assert snapshot.accounts[again.uuid].quota == Quota()


def test_revoked_stays_listed_and_can_be_registered_again(directory: Directory, authority: Authority) -> None:
    directory.create_account("a")
    directory.create_account("b")
    der = issue(authority, "a")
    key = directory.add_key("a", ED25519)
    certificate = directory.add_certificate("a", der, issued=True)
    with pytest.raises(DirectoryError, match="a has it already"):
        directory.add_key("a", ED25519)
    with pytest.raises(DirectoryError, match="a has it already"):
        directory.add_certificate("a", der, issued=False)
    with pytest.raises(DirectoryError, match="another account has it already"):
        directory.add_certificate("b", der, issued=False)
    directory.add_key("b", ED25519)
    directory.revoke_key(key.fingerprint)
    directory.revoke_certificate(certificate.fingerprint)
    snapshot = directory.snapshot()
    revoked = [one.revoked_at for keys in snapshot.keys.values() for one in keys]
    assert len(revoked) == 2
    assert None not in revoked
    at = snapshot.certificates[certificate.fingerprint].revoked_at
    assert at
    directory.revoke_certificate(certificate.fingerprint)
    assert directory.snapshot().certificates[certificate.fingerprint].revoked_at == at
    with pytest.raises(DirectoryError, match="another account has it already"):
        directory.add_certificate("b", der, issued=False)
    directory.add_key("a", ED25519)
    assert directory.add_certificate("a", der, issued=False).issued
    snapshot = directory.snapshot()
    assert snapshot.certificates[certificate.fingerprint].revoked_at is None
    assert [key.revoked_at for key in snapshot.keys[certificate.account]] == [None]


def test_a_quota_keeps_what_is_not_given(directory: Directory) -> None:
    account = directory.create_account("a").uuid
    directory.set_quota("a", requests_per_second=5.5)
    assert (
        directory.set_quota("a", concurrency=3) == Quota(5.5, 1000, 3) == directory.snapshot().accounts[account].quota
    )
    assert directory.rows()["quotas"] == [(str(account), 5.5, None, 3)]
    directory.delete_quota("a")
    assert directory.snapshot().accounts[account].quota == Quota()


def test_nodes_are_one_of_a_name_and_of_a_uuid(directory: Directory) -> None:
    uuid = uuid4()
    directory.create_node("n", "http://n:1", uuid=uuid)
    for name, other in (("n", None), ("m", uuid)):
        with pytest.raises(DirectoryError, match=f"node {name}: a node with this name or UUID exists already"):
            directory.create_node(name, "http://n:1", uuid=other)
    with pytest.raises(ConfigError, match="expected https://HOST:PORT for a node with a TLS identity"):
        directory.create_node("m", "http://n:1", tls_server_name="x")


def test_another_authority_comes_when_nothing_of_the_old_one_is_in_force(
    directory: Directory, authority: Authority, tmp_path: Path
) -> None:
    other = Authority.load_or_create(tmp_path / "other")
    directory.create_account("a")
    directory.set_authority(authority.der)
    certificate = directory.add_certificate("a", issue(authority, "a"), issued=True)
    with pytest.raises(DirectoryError, match=f"another one .{hashlib.sha256(authority.der).hexdigest()}. issued 1"):
        directory.set_authority(other.der)
    directory.revoke_certificate(certificate.fingerprint)
    directory.set_authority(other.der)
    assert directory.snapshot().authority == other.der


@pytest.mark.parametrize("password", ["", "x" * 73, "a\0b", "a\nb", "\ud800"])
def test_passwords_that_bcrypt_would_cut(directory: Directory, password: str) -> None:
    directory.create_account("a")
    with pytest.raises(ConfigError, match="password: expected"):
        directory.set_password("a", password)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_values_and_never_more(directory: Directory, text: str) -> None:
    directory.create_account("a")
    before = directory.snapshot()
    for create in (
        lambda: directory.create_account(text),
        lambda: directory.create_node(text, "http://n:1"),
        lambda: directory.create_node("n", text),
        lambda: directory.create_node("n", "https://n:1", tls_server_name=text or "/"),
        lambda: directory.create_node("n", "https://n:1", tls_fingerprint=text or "/"),
        lambda: directory.add_key("a", text),
        lambda: directory.revoke_certificate(text),
        lambda: directory.add_certificate("a", text.encode("utf-8", "replace"), issued=False),
    ):
        with pytest.raises(ConfigError, match="expected") as caught:
            create()
        assert str(caught.value).isascii()
        assert len(str(caught.value)) < 300
    for find in (directory.delete_account, directory.delete_node, directory.revoke_token, directory.revoke_key,
                 directory.create_token, directory.delete_quota):  # fmt: skip
        with pytest.raises(DirectoryError, match="not found") as missing:
            find(text)
        assert str(missing.value).isprintable()
        assert len(str(missing.value)) < 300
    assert directory.snapshot() == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}\Z") | st.text(), label=st.text() | st.sampled_from(HOSTILE)
)
def test_any_text_is_refused_or_comes_back_as_it_was(directory: Directory, name: str, label: str) -> None:
    try:
        directory.create_account(name)
    except ConfigError:
        return
    except DirectoryError:
        assert name.lower() in {known.lower() for known in directory.snapshot().accounts_by_name}
        return
    assert directory.snapshot().accounts_by_name[name].name == name
    try:
        token = directory.create_token(name, label).split("_")[1]
    except ConfigError:
        assert not label.isprintable() or len(label) > 200
    else:
        assert directory.snapshot().tokens[token].label == label
    directory.delete_account(name)


WRITER = """
import sys
from pymon.directory.directory import open_directory
with open_directory(sys.argv[1], create=True) as directory:
    for number in range(15):
        directory.create_account(f"{sys.argv[2]}-{number}")
        directory.set_quota(f"{sys.argv[2]}-{number}", burst=number + 1)
"""


def test_processes_that_write_at_once_lose_nothing(url: str) -> None:
    command = [sys.executable, "-c", WRITER, url]
    names = ["a", "b", "c", "d"]
    processes = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in names]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert "".join(errors) == ""
    with open_directory(url) as directory:
        accounts = directory.snapshot().accounts.values()
    assert {account.name: account.quota.burst for account in accounts} == {
        f"{name}-{number}": number + 1 for name in names for number in range(15)
    }


def test_a_directory_that_is_not_there_is_not_made(url: str) -> None:
    for read_only in (False, True):
        with pytest.raises(UnavailableError, match=r"no directory there; create one with `pymon account create`"):
            open_directory(url, read_only=read_only)


def test_made_twice_is_made_once(directory: Directory, url: str) -> None:
    account = directory.create_account("a")
    with open_directory(url, create=True) as again:
        assert set(again.snapshot().accounts) == {account.uuid}


def test_versions_ahead_and_behind(directory: Directory, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymon.directory import postgres, schema, sqlite  # noqa: PLC0415

    version = schema.VERSION
    directory.create_account("a")
    more = (*schema.MIGRATIONS, "ALTER TABLE nodes ADD COLUMN rack TEXT;CREATE TABLE racks (name TEXT);")
    monkeypatch.setattr(schema, "MIGRATIONS", more)
    for module in (schema, sqlite, postgres):
        monkeypatch.setattr(module, "VERSION", version + 1)
    with pytest.raises(VersionError, match=rf"made by an older pymon \(its schema is version {version}, this one's"):
        open_directory(url, read_only=True)
    for _ in range(2):
        with open_directory(url) as newer:
            assert [account.name for account in newer.snapshot().accounts.values()] == ["a"]
    monkeypatch.undo()
    for read_only in (False, True):
        with pytest.raises(
            VersionError, match=rf"made by a newer pymon \(its schema is .*, this one knows {version}\)"
        ):
            open_directory(url, read_only=read_only)


def test_a_migration_that_fails_leaves_the_version_it_found(
    directory: Directory, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymon.directory import postgres, schema, sqlite  # noqa: PLC0415

    version = schema.VERSION
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE racks (name TEXT);SELECT nonsense;"))
    for module in (schema, sqlite, postgres):
        monkeypatch.setattr(module, "VERSION", version + 1)
    with pytest.raises(DirectoryError, match="nonsense"):
        open_directory(url)
    monkeypatch.undo()
    with open_directory(url) as same:
        same.create_account("a")


@pytest.mark.parametrize(
    "url", ["", "mysql://x/y", "sqlite://rel/path", "sqlite://", "a\0b", "postgresql://[", "redis://a:pw@h"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="directory: expected") as caught:
        open_directory(url)
    assert "pw" not in str(caught.value)


def test_the_uuid_that_was_asked_for(directory: Directory) -> None:
    uuid = UUID("0f6d2f6e-8a50-4c39-9d3a-0f4c1d2e3b4a")
    assert directory.create_account("a", uuid=uuid).uuid == uuid
    assert directory.snapshot().accounts_by_name["a"].uuid == uuid
