"""The directory in both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pymon.directory.directory import Directory, open_directory
from tests.directory.server import Server, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    yield postgres.url()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("SET client_min_messages TO warning")
        connection.execute("DROP SCHEMA IF EXISTS pymon CASCADE")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "directory.db")
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def directory(url: str) -> Iterator[Directory]:
    with open_directory(url, create=True) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A directory in SQLite with the account alice."""
    path = tmp_path / "directory.db"
    with open_directory(str(path), create=True) as directory:
        directory.create_account("alice")
    return path
