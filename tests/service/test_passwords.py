"""Passwords: right ones, wrong ones, many at a time."""

from __future__ import annotations

import asyncio
import base64

import bcrypt
import pytest
import uvloop

from pymon.service import passwords as module
from pymon.service.passwords import BusyError, Passwords, parse_basic

USERS = {"alice": bcrypt.hashpw(b"secret", bcrypt.gensalt(4))}


def basic(user: str, password: bytes) -> str:
    return "Basic " + base64.b64encode(user.encode() + b":" + password).decode()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    calls: list[bytes] = []
    real = module._matches

    def matches(password: bytes, hashed: bytes) -> bool:
        calls.append(hashed)
        return real(password, hashed)

    monkeypatch.setattr(module, "_matches", matches)
    return calls


def check(*headers: str | None, users: dict[str, bytes] | None = None) -> list[bool]:
    async def main() -> list[bool]:
        passwords = Passwords()
        try:
            return list(await asyncio.gather(*(passwords.check(h, USERS if users is None else users) for h in headers)))
        finally:
            passwords.close()

    return uvloop.run(main())


def test_right_and_wrong(counted: list[bytes]) -> None:
    headers = [basic("alice", b"secret"), basic("alice", b"Secret"), basic("alice", b""), basic("bob", b"secret"), None]
    assert check(*headers) == [True, False, False, False, False]


def test_equal_checks_are_one(counted: list[bytes]) -> None:
    assert check(*[basic("alice", b"secret")] * 20) == [True] * 20
    assert len(counted) == 1


def test_results_are_remembered(counted: list[bytes]) -> None:
    async def main() -> None:
        passwords = Passwords()
        for _ in range(3):
            assert await passwords.check(basic("alice", b"secret"), USERS)
            assert not await passwords.check(basic("alice", b"wrong"), USERS)
        assert len(counted) == 2
        changed = {"alice": bcrypt.hashpw(b"new", bcrypt.gensalt(4))}
        assert not await passwords.check(basic("alice", b"secret"), changed)
        assert not await passwords.check(basic("alice", b"secret"), {"bob": changed["alice"]})
        passwords.close()

    uvloop.run(main())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, counted: list[bytes]) -> None:
    monkeypatch.setattr(Passwords, "MAX_REMEMBERED", 3)

    async def main() -> None:
        passwords = Passwords()
        for number in range(6):
            await passwords.check(basic("alice", b"%d" % number), USERS)
        assert len(passwords._remembered) == 3
        passwords.close()

    uvloop.run(main())


def test_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passwords, "MAX_WAITING", 2)
    with pytest.raises(BusyError):
        check(*(basic("alice", b"%d" % number) for number in range(3)))


def test_unknown_user_costs_the_same(counted: list[bytes]) -> None:
    assert check(basic("bob", b"x")) == [False]
    assert len(counted) == 1
    assert counted[0][:7] == b"$2b$04$"
    assert len(counted[0]) == 60
    bcrypt.checkpw(b"x", counted[0])


def test_who_leaves_takes_nothing_along() -> None:
    async def main() -> None:
        passwords = Passwords()
        first = asyncio.ensure_future(passwords.check(basic("alice", b"secret"), USERS))
        second = asyncio.ensure_future(passwords.check(basic("alice", b"secret"), USERS))
        await asyncio.sleep(0)
        first.cancel()
        assert await second
        passwords.close()

    uvloop.run(main())


def test_long_passwords_and_nul() -> None:
    users = {"a": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))}
    assert check(basic("a", b"x" * 100), basic("a", b"x\0"), users=users) == [True, False]


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic ", "Basic !!", "Basic YQ==", "Bearer YTpi", "Basic é", "Basic YTpi YTpi"]
)
def test_no_credentials(header: str | None) -> None:
    assert parse_basic(header) is None


def test_parse_basic() -> None:
    assert parse_basic("bAsIc YTpiOmM=") == ("a", b"b:c")
    assert parse_basic(basic("é", b"\xff")) == ("é", b"\xff")
