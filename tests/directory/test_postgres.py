"""What only PostgreSQL does: roles, a server that goes away, other schemas."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pymon.config import ConfigError
from pymon.directory.directory import open_directory
from pymon.directory.model import DamagedError, UnavailableError
from pymon.directory.postgres import PostgresDatabase
from pymon.directory.url import identity, postgres_label
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
