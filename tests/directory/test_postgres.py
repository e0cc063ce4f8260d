"""What only PostgreSQL does: roles, a server that goes away, other schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from pymon.config import ConfigError
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import DamagedError, Holder, Node, UnavailableError
from pymon.directory.node_lists import Entry
from pymon.directory.node_tokens import parse_token
from pymon.directory.postgres import PostgresDatabase
from pymon.directory.url import identity, postgres_label
from tests.directory import old
from tests.directory.server import Server


@pytest.fixture
def administrator(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def test_the_label_has_no_secret() -> None:
    url = "postgresql://me:pass%40word@db.x:5432/pymon?host=/run&password=other&sslmode=require"
    assert postgres_label(url) == identity(url) == "postgresql://db.x:5432/pymon?host=/run"


@pytest.mark.parametrize(
    "url", ["postgresql://h/db?nonsense=1", "postgresql://u:secret@h:x:y/db?z", "postgres://[::1/db"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="expected postgresql://USER@HOST:PORT/DATABASE, got another URL"):
        PostgresDatabase(url)


def test_no_server() -> None:
    with pytest.raises(UnavailableError, match=r"^postgresql://127.0.0.1:1/x: .*[Cc]onnection") as caught:
        open_directory("postgresql://u:sesame@127.0.0.1:1/x", create=True)
    assert "\n" not in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_reader_needs_only_to_read(postgres: Server, postgres_url: str, administrator: psycopg.Connection) -> None:
    with open_directory(postgres_url, create=True) as directory:
        directory.create_account("alice")
    administrator.execute("DROP ROLE IF EXISTS reader")
    administrator.execute("CREATE ROLE reader LOGIN")
    administrator.execute("GRANT USAGE ON SCHEMA pymon TO reader")
    administrator.execute("GRANT SELECT ON ALL TABLES IN SCHEMA pymon TO reader")
    try:
        with open_directory(postgres.url(user="reader"), read_only=True) as directory:
            assert list(directory.snapshot().accounts_by_name) == ["alice"]
            with pytest.raises(UnavailableError, match="permission denied for table generation"):
                directory.create_account("b")
    finally:
        administrator.execute("DROP OWNED BY reader")
        administrator.execute("DROP ROLE reader")


GRANTS = re.findall(r"^GRANT .*;$", (Path(__file__).parents[2] / "docs/proxy.md").read_text(), re.MULTILINE)


@pytest.fixture
def role(administrator: psycopg.Connection) -> Iterator[str]:
    administrator.execute("DROP ROLE IF EXISTS proxy")
    administrator.execute("CREATE ROLE proxy LOGIN")
    yield "proxy"
    administrator.execute("DROP OWNED BY proxy")
    administrator.execute("DROP ROLE proxy")


def use(directory: Directory) -> None:
    """All that a proxy does."""
    directory.snapshot()
    assert directory.acquire_lease("dns", "me", 5) == "me"
    directory.release_lease("dns", "me")
    assert directory.renew_leases({"proxy me": "[]"}, 5.0, ("proxy ",), 20.0) == {"proxy me": "[]"}
    assert directory.pin_node("n1", UUID(int=1)) == UUID(int=1)
    directory.offer_node("n1", UUID(int=2))
    claim = Holder(UUID(int=3), UUID(int=1), None, 1.0)
    (held,) = directory.hold([claim])
    passed = directory.pass_on(held, Holder(UUID(int=3), UUID(int=4), None, 1.0))
    assert passed
    directory.forget_holders(UUID(int=4), [UUID(int=3)])
    directory.hold([claim])
    directory.release_claim(UUID(int=3))


def test_the_documented_rights_are_enough_and_each_is_needed(
    postgres: Server, postgres_url: str, administrator: psycopg.Connection, role: str
) -> None:
    with open_directory(postgres_url, create=True) as directory:
        directory.create_node("n1", "http://n1:9164")
    assert len(GRANTS) == 8
    for grant in GRANTS:
        administrator.execute(grant.encode())
    with open_directory(postgres.url(user=role)) as directory:
        assert directory.off() == []
        use(directory)
        for change in (
            lambda: directory.create_account("x"),
            lambda: directory.set_node("n1", url="http://n2:9164"),
            lambda: directory.delete_node("n1"),
            lambda: directory.upgrade() or directory.create_node("n2", "http://n2:9164"),
        ):
            with pytest.raises(UnavailableError, match="permission denied"):
                change()
    for left_out in GRANTS[2:]:
        administrator.execute("REVOKE ALL ON ALL TABLES IN SCHEMA pymon FROM proxy")
        for grant in GRANTS:
            if grant != left_out:
                administrator.execute(grant.encode())
        with open_directory(postgres.url(user=role)) as directory:
            (line,) = directory.off()
            assert re.search(r"cannot be written: .* \(no right to [A-Z]+ [a-z_]+", line), left_out


def test_the_documented_rights_of_a_proxy_that_admits_nodes(
    postgres: Server, postgres_url: str, administrator: psycopg.Connection, role: str
) -> None:
    with open_directory(postgres_url, create=True) as directory:
        tokens = [parse_token(directory.node_tokens.create(name, 60.0)) for name in ("n1", "n1")]
    own = re.findall(r"^GRANT .*;$", (Path(__file__).parents[2] / "docs/nodes.md").read_text(), re.MULTILINE)
    assert len(own) == 2
    for grant in GRANTS:
        administrator.execute(grant.encode())
    node = Node("n1", UUID(int=1), "https://n1:9164", "n1.node.pymon.invalid")
    with open_directory(postgres.url(user=role)) as directory:
        for grant in own:
            with pytest.raises(UnavailableError, match="permission denied"):
                directory.node_tokens.admit(tokens[0], node)
            administrator.execute(grant.encode())
        for token in tokens:
            directory.node_tokens.admit(token, node)
        administrator.execute("GRANT INSERT, UPDATE, DELETE ON pymon.nodes TO proxy")
        for names in (("n2", "n3"), ("n2",)):
            directory.node_lists.follow([Entry(Node(name, None, f"http://{name}:1")) for name in names], "file x")
        assert sorted(directory.snapshot().nodes) == ["n1", "n2"]


def test_with_a_role_that_only_reads_it_says_what_is_off(
    postgres: Server, postgres_url: str, administrator: psycopg.Connection, role: str
) -> None:
    with open_directory(postgres_url, create=True) as directory:
        directory.create_node("n1", "http://n1:9164")
    for grant in GRANTS[:2]:
        administrator.execute(grant.encode())
    with open_directory(postgres.url(user=role), read_only=True) as directory:
        line = (
            f"{directory.label}: cannot be written: leases, UUIDs of nodes, holders of UUIDs (no right to UPDATE"
            " generation, INSERT leases, DELETE leases, UPDATE nodes, UPDATE holder_version, INSERT holders,"
            " UPDATE holders, DELETE holders, INSERT holder_releases, DELETE holder_releases)"
        )
        assert directory.off() == [line]
        assert directory.holders() == (1, [], [])
        for write in (
            lambda: directory.pin_node("n1", UUID(int=1)),
            lambda: directory.hold([Holder(UUID(int=3), UUID(int=1), None, 1.0)]),
        ):
            with pytest.raises(UnavailableError, match="permission denied for table generation"):
                write()


def test_who_read_before_an_upgrade_reads_after_it(
    postgres: Server, postgres_url: str, administrator: psycopg.Connection, role: str
) -> None:
    old.make(postgres_url)
    for grant in GRANTS[:2]:
        administrator.execute(grant.encode())
    with open_directory(postgres.url(user=role), read_only=True) as reader:
        off, denied = reader.off()
        assert "until `pymon directory upgrade`" in off
        assert "cannot be written: leases, UUIDs of nodes, holders of UUIDs (no right to" in denied
        with open_directory(postgres_url) as directory:
            directory.upgrade()
            directory.create_node("n1", "http://n1:9164", accounts=[])
        assert reader.snapshot().nodes["n1"].accounts == frozenset()
        assert reader.holders() == (1, [], [])
        with pytest.raises(UnavailableError, match="permission denied"):
            reader.pin_node("n1", UUID(int=1))


def test_a_connection_that_broke_is_made_anew(postgres_url: str, administrator: psycopg.Connection) -> None:
    with open_directory(postgres_url, create=True) as directory:
        directory.create_account("alice")
        administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pymon'")
        with pytest.raises(UnavailableError, match="terminating connection"):
            directory.generation()
        assert list(directory.snapshot().accounts_by_name) == ["alice"]
        directory.create_account("b")


def test_tables_of_others_are_left_alone(postgres_url: str, administrator: psycopg.Connection) -> None:
    administrator.execute("CREATE TABLE public.accounts (x INTEGER)")
    try:
        with open_directory(postgres_url, create=True) as directory:
            directory.create_account("alice")
        assert administrator.execute("SELECT count(*) FROM public.accounts").fetchone() == (0,)
    finally:
        administrator.execute("DROP TABLE public.accounts")


@pytest.mark.parametrize(
    "text", ["DROP TABLE pymon.nodes", "DELETE FROM pymon.generation", "DELETE FROM pymon.schema_version",
             "UPDATE pymon.accounts SET uuid = 'x'", "ALTER TABLE pymon.tokens DROP COLUMN label"]
)  # fmt: skip
def test_a_schema_that_is_none_of_ours(postgres_url: str, administrator: psycopg.Connection, text: str) -> None:
    with open_directory(postgres_url, create=True) as directory:
        directory.create_account("alice")
    administrator.execute(text.encode())
    with pytest.raises(DamagedError), open_directory(postgres_url, read_only=True) as directory:
        directory.snapshot()
