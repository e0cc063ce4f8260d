"""Bearer tokens and passwords."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.directory.model import Account, Quota, Snapshot, Token
from pymon.proxy import authn
from pymon.proxy.authn import REASONS, Authenticator, AuthError, Principal
from pymon.service.passwords import Passwords

ALICE = Account(UUID(int=1), "alice", operator=False, created_at=0.0, quota=Quota())
BOB = Account(UUID(int=2), "bob", operator=True, created_at=0.0, quota=Quota())
CAROL = Account(UUID(int=3), "carol", operator=False, created_at=0.0, quota=Quota())
SECRET = "s_-" + "x" * 40


def token(
    id: str, account: Account = ALICE, *, expires_at: float | None = None, revoked_at: float | None = None
) -> Token:
    digest = hashlib.sha256(SECRET.encode()).digest()
    return Token(id, account.uuid, digest, "", 0.0, expires_at, revoked_at)


GOOD, BOBS, ENDS, REVOKED, ORPHAN = (letter * 12 for letter in "gber0")
TOKENS = (
    token(GOOD),
    token(BOBS, BOB),
    token(ENDS, expires_at=100.0),
    token(REVOKED, revoked_at=1.0),
    token(ORPHAN, replace(ALICE, uuid=UUID(int=9))),
)
PASSWORDS = {
    ALICE.uuid: bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)),
    BOB.uuid: bcrypt.hashpw(b"staple", bcrypt.gensalt(5)),
}
DIRECTORY = Snapshot.of(accounts=(ALICE, BOB, CAROL), tokens=TOKENS, passwords=PASSWORDS)


def bearer(id: str, secret: str = SECRET) -> str:
    return f"Bearer pymon_{id}_{secret}"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class World:
    """An authenticator whose clock and directory are what the test says."""

    def __init__(self) -> None:
        self.now = 50.0
        self.directory = DIRECTORY
        self.authenticator = Authenticator(lambda: self.directory, clock=lambda: self.now)

    async def reason(self, header: str) -> str:
        with pytest.raises(AuthError) as caught:
            await self.authenticator.authorization(header)
        assert caught.value.reason in REASONS
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert self.authenticator.known_authorization(header) is None
        return caught.value.reason


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.authenticator.close()


@pytest.mark.parametrize(
    ("header", "account", "method", "ends"),
    [
        (bearer(GOOD), ALICE, "token", math.inf),
        (bearer(GOOD).replace("Bearer ", "bearer   "), ALICE, "token", math.inf),
        (bearer(BOBS), BOB, "token", math.inf),
        (bearer(ENDS), ALICE, "token", 100.0),
        (basic("alice", f"pymon_{GOOD}_{SECRET}"), ALICE, "token", math.inf),
        (basic("alice", "correct horse"), ALICE, "password", math.inf),
        (basic("bob", "staple"), BOB, "password", math.inf),
    ],
)
async def test_a_right_credential_is_its_account(header, account, method, ends, world):
    assert world.authenticator.known_authorization(header) is None
    principal = await world.authenticator.authorization(header)
    assert principal == Principal(account.uuid, account.name, account.operator, method, ends)
    assert world.authenticator.known_authorization(header) is principal
    assert await world.authenticator.authorization(header) is principal


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no_credential"),
        (" ", "no_credential"),
        ("Bearer", "malformed"),
        ("Bearer x", "malformed"),
        (bearer(GOOD) + "x", "malformed"),
        (bearer(GOOD.upper()), "malformed"),
        ("Digest username=alice", "malformed"),
        ("Basic", "malformed"),
        ("Basic YWxpY2U=", "malformed"),
        ("Basic \u00e4\ud800", "malformed"),
        (f"Basic {'=' * 5000}", "malformed"),
        (bearer("a" * 12), "unknown_token"),
        (bearer(GOOD, "y" * 43), "unknown_token"),
        (bearer(REVOKED, "y" * 43), "unknown_token"),
        (bearer(REVOKED), "revoked"),
        (bearer(ORPHAN), "unknown_account"),
        (basic("bob", f"pymon_{GOOD}_{SECRET}"), "unknown_account"),
        (basic("Alice", f"pymon_{GOOD}_{SECRET}"), "unknown_account"),
        (basic("alice", f"pymon_{GOOD}_{'y' * 43}"), "unknown_token"),
        (basic("alice", "Correct horse"), "wrong_password"),
        (basic("alice", ""), "wrong_password"),
        (basic("alice", "staple"), "wrong_password"),
        (basic("carol", "staple"), "wrong_password"),
        (basic("dave", "staple"), "unknown_account"),
        (basic("", "staple"), "unknown_account"),
        (basic("alice\r\nx\0", "staple"), "unknown_account"),
    ],
)
async def test_a_wrong_credential_has_a_reason(header, reason, world):
    assert await world.reason(header) == reason


async def test_a_token_ends(world):
    header = bearer(ENDS)
    assert (await world.authenticator.authorization(header)).expires_at == 100.0
    world.now = 100.0
    assert await world.reason(header) == "expired"


@pytest.mark.parametrize(
    ("header", "change", "reason"),
    [
        (bearer(GOOD), lambda was: replace(was, generation=2, tokens={}), "unknown_token"),
        (bearer(GOOD), lambda was: replace(was, tokens={GOOD: token(GOOD, revoked_at=2.0)}), "revoked"),
        (bearer(GOOD), lambda was: replace(was, accounts={}), "unknown_account"),
        (basic("alice", "correct horse"), lambda was: replace(was, passwords={}), "wrong_password"),
        (basic("alice", "correct horse"), lambda was: replace(was, accounts_by_name={}), "unknown_account"),
    ],
)
async def test_a_change_of_the_directory_is_in_force_at_once(header, change, reason, world):
    assert await world.authenticator.authorization(header)
    world.directory = change(world.directory)
    assert world.authenticator.known_authorization(header) is None
    assert await world.reason(header) == reason


async def test_a_password_that_changes_while_it_is_checked_is_wrong(world, monkeypatch):
    real = Passwords.check

    async def check(self, header, users):
        answer = await real(self, header, users)
        world.directory = replace(world.directory, passwords={ALICE.uuid: bcrypt.hashpw(b"new", bcrypt.gensalt(4))})
        return answer

    monkeypatch.setattr(Passwords, "check", check)
    assert await world.reason(basic("alice", "correct horse")) == "wrong_password"


async def test_nobodys_password_costs_what_somebodys_does(world, monkeypatch):
    hashes: list[bytes] = []
    monkeypatch.setattr("pymon.service.passwords._matches", lambda _, hashed: hashes.append(hashed) or False)
    for user in ("bob", "carol", "dave", ""):
        await world.reason(basic(user, "x"))
    assert [hashed[:7] for hashed in hashes] == [b"$2b$05$"] * 4


async def test_too_many_passwords_at_a_time_are_refused(world, monkeypatch):
    monkeypatch.setattr(Passwords, "MAX_WAITING", 2)
    asked = [world.authenticator.authorization(basic("alice", f"wrong {i}")) for i in range(4)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(answer.reason for answer in answers) == ["busy", "busy", "wrong_password", "wrong_password"]


async def test_memory_is_bounded_and_keeps_no_secret(world, monkeypatch):
    monkeypatch.setattr(authn, "MAX_REMEMBERED", 2)
    headers = [bearer(GOOD), bearer(BOBS), bearer(ENDS)]
    for header in headers:
        await world.authenticator.authorization(header)
    assert [world.authenticator.known_authorization(header) is not None for header in headers] == [False, True, True]
    assert all(len(name) == 16 for name in world.authenticator._headers)


def headers() -> st.SearchStrategy[str]:
    texts = st.text(max_size=80)
    encoded = st.binary(max_size=80).map(lambda raw: base64.b64encode(raw).decode())
    near = st.text("abg0_-x", max_size=60).map(lambda text: f"pymon_{GOOD}_{text}")
    return st.builds(
        "{} {}".format, st.sampled_from(("Bearer", "Basic", "basic", "", "Negotiate")), texts | encoded | near
    )


@settings(max_examples=300, deadline=None, database=None)
@given(headers())
def test_any_header_is_refused_with_a_reason(header):
    world = World()
    try:
        asyncio.run(world.reason(header))
    finally:
        world.authenticator.close()
