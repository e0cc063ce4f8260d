"""When tokens and certificates of accounts expire, as the proxy's metrics say it."""

from __future__ import annotations

import time
from uuid import UUID

from pymon.directory.model import Account, Certificate, Quota, Snapshot, Token
from pymon.proxy.credential_ends import SOON_SECONDS, CredentialEnds
from tests.proxy.running import Site, on_uvloop, running

DAY = 86400.0
NAME = "pymon_proxy_credential_expiry_timestamp_seconds"


class Clock:
    now = 1000 * DAY

    def __call__(self) -> float:
        return self.now


def token(name: str, account: int, ends: float | None, *, revoked: float | None = None) -> Token:
    return Token(name, UUID(int=account), name.encode(), "", 0.0, ends, revoked)


def certificate(name: str, account: int, ends: float, *, revoked: float | None = None) -> Certificate:
    return Certificate(name, UUID(int=account), "", True, 0.0, ends, 0.0, revoked)


def test_the_next_of_each_account_and_kind_counts() -> None:
    clock = Clock()
    now = clock.now
    accounts = [Account(UUID(int=n), name, False, 0.0, Quota()) for n, name in ((1, "alice"), (2, "bob"))]
    snapshot = Snapshot.of(
        1,
        accounts=accounts,
        tokens=[
            token("a", 1, now + 3 * DAY), token("b", 1, now + 2 * DAY), token("c", 1, now - 1), token("d", 2, None),
            token("e", 2, now + DAY, revoked=1.0), token("f", 3, now + DAY),
        ],
        certificates=[
            certificate("a", 1, now + DAY, revoked=1.0), certificate("b", 2, now + SOON_SECONDS + DAY),
        ],
    )  # fmt: skip
    found = CredentialEnds(lambda: snapshot, clock)
    assert found.values() == {("alice", "token"): now + 2 * DAY}
    assert found.values() is found.values(), "looked for once"
    clock.now += 1.5 * DAY
    assert found.values() == {("alice", "token"): now + 2 * DAY, ("bob", "certificate"): now + SOON_SECONDS + DAY}
    clock.now = now + 2 * DAY
    assert found.values()[("alice", "token")] == now + 3 * DAY
    snapshot = Snapshot.of(2, accounts=accounts)
    assert found.values() == {}


@on_uvloop
async def test_a_proxy_says_when_a_token_and_a_certificate_expire(tmp_path) -> None:
    site = Site(tmp_path)
    site.account("alice")  # with a certificate of 30 days
    site.directory.create_token("alice", expires_at=time.time() + 2 * DAY)
    async with running(site) as proxy:
        assert 1.9 < (await proxy.metric(NAME, account="alice", kind="token") - time.time()) / DAY < 2
        assert 29.9 < (await proxy.metric(NAME, account="alice", kind="certificate") - time.time()) / DAY < 30
