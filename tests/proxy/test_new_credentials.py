"""A credential is good as soon as its account was made, although a proxy looks at the directory once in a while."""

from __future__ import annotations

import asyncio
import base64
import math
import ssl
import threading
import time

import pytest

from pymon.proxy import last_look
from pymon.proxy.last_look import LastLook
from pymon.proxy.tenants import FAILED_AUTHENTICATIONS_BURST
from pymon.service import passwords
from tests.proxy.agents import on_each_loop, until
from tests.proxy.running import Site, on_uvloop, running

ALICE, TOKEN = "192.0.2.1", b"token"


@on_uvloop
async def test_who_was_made_a_moment_ago_is_never_refused(tmp_path):
    site = Site(tmp_path)
    async with running(site) as proxy:
        for number in range(5):
            tenant = site.account(f"tenant-{number}")
            async with proxy.client(tenant, certificate=number % 2 == 0) as client:
                assert (await client.ask("/v1/discover")).status == 200
        site.directory.set_password("tenant-0", "secret")
        header = "Authorization: Basic " + base64.b64encode(b"tenant-0:secret").decode()
        assert (await proxy.ask("/v1/discover", None, header)).status == 200


@on_uvloop
async def test_many_that_were_made_a_moment_ago_are_no_failures_of_their_address(tmp_path):
    site = Site(tmp_path)
    async with running(site) as proxy:
        tenants = [site.account(f"tenant-{number}") for number in range(2 * FAILED_AUTHENTICATIONS_BURST)]
        for tenant in tenants:
            assert (await proxy.ask("/v1/discover", tenant)).status == 200
        for number in range(FAILED_AUTHENTICATIONS_BURST):  # one at a time: each is new when it is used
            tenant = site.account(f"other-{number}")
            assert (await proxy.ask("/v1/discover", tenant)).status == 200
        assert not proxy.proxy.tenants.addresses.blocked("127.0.0.1", time.monotonic())


@on_uvloop
async def test_who_was_refused_before_is_good_from_the_moment_on_at_which_it_is_registered(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    der = ssl.PEM_cert_to_DER_cert(alice.cert.read_text())
    site.directory.delete_account("alice")
    async with running(site) as proxy:
        for _ in range(5):
            async with proxy.client(alice, certificate=True) as client:
                assert (await client.ask("/v1/discover")).status == 401
            site.directory.create_account("alice")
            site.directory.add_certificate("alice", der, issued=True)
            async with proxy.client(alice, certificate=True) as client:
                assert (await client.ask("/v1/discover")).status == 200
            site.directory.delete_account("alice")
            await until(lambda: not proxy.proxy.live.snapshot.accounts)


@on_uvloop
async def test_many_that_are_wrong_are_refused_and_the_new_one_among_them_is_not(tmp_path):
    site = Site(tmp_path)
    async with running(site) as proxy:

        async def wrong(number: int) -> int:
            header = f"Authorization: Bearer pymon_{'a' * 12}_{number % 3:043}"
            return (await proxy.ask("/v1/discover", None, header)).status

        strangers = [asyncio.create_task(wrong(number)) for number in range(60)]
        tenant = site.account("tenant")
        assert (await proxy.ask("/v1/discover", tenant)).status == 200
        assert set(await asyncio.gather(*strangers)) == {401}


@on_uvloop
async def test_refused_credentials_cause_few_looks_at_the_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("pymon.proxy.build.HASTY_PER_SECOND", 1e-9)
    monkeypatch.setattr("pymon.proxy.build.HASTY_BURST", 3)
    site = Site(tmp_path)
    async with running(site) as proxy:
        hastened = []
        real = proxy.proxy.live.hasten
        monkeypatch.setattr(proxy.proxy.live, "hasten", lambda: (hastened.append(1), real()))
        for number in range(10):
            header = f"Authorization: Bearer pymon_{'a' * 12}_{number % 2:043}"
            assert (await proxy.ask("/v1/discover", None, header)).status == 401
        assert len(hastened) == 3
        # Beyond that, the next regular look is waited for.
        tenant = site.account("tenant")
        assert (await proxy.ask("/v1/discover", tenant)).status == 200
        assert len(hastened) == 3


@on_each_loop
async def test_a_look_that_began_before_is_not_enough_and_all_that_wait_share_the_next():
    asked = []
    look = LastLook(lambda: asked.append(1))
    look.seen(time.monotonic())
    waiting = [asyncio.create_task(look.again(ALICE, TOKEN)) for _ in range(5)]
    await until(lambda: asked)
    look.seen(time.monotonic() - 0.5)  # it began before they came
    await until(lambda: len(asked) == 2)
    assert not any(one.done() for one in waiting)
    look.seen(time.monotonic())
    await asyncio.gather(*waiting)
    assert len(asked) == 2


@on_each_loop
async def test_nobody_waits_for_a_directory_that_is_away_or_behind_too_many(monkeypatch):
    asked = []
    look = LastLook(lambda: asked.append(1))
    await look.again(ALICE, TOKEN)  # it was never seen
    look.seen(time.monotonic() - last_look.WAIT_SECONDS - 1)
    await look.again(ALICE, TOKEN)
    assert not asked
    monkeypatch.setattr(last_look, "MAX_WAITING", 3)
    look.seen(time.monotonic())
    waiting = [asyncio.create_task(look.again(ALICE, TOKEN)) for _ in range(3)]
    await until(lambda: asked)
    await look.again(ALICE, TOKEN)
    waiting.pop().cancel()  # whose client has gone leaves its place to another
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(look.again(ALICE, TOKEN)))
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    look.seen(math.inf)
    await asyncio.gather(*waiting)
    assert asked == [1]


@on_each_loop
async def test_one_who_repeats_a_refused_credential_leaves_places_to_other_sources_and_credentials(monkeypatch):
    monkeypatch.setattr(last_look, "MAX_WAITING", 8)
    look = LastLook(lambda: None)
    look.seen(time.monotonic())

    async def waiting(source: str, credential: bytes, count: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(look.again(source, credential)) for _ in range(count)]
        await asyncio.sleep(0)
        return tasks

    def still(tasks: list[asyncio.Task[None]]) -> int:
        return sum(not task.done() for task in tasks)

    stranger = await waiting("192.0.2.66", b"refused", 20)
    await asyncio.sleep(0)
    assert still(stranger) == 8
    neighbour = await waiting("192.0.2.66", b"new", 1)  # behind the same address
    others = await waiting("2001:db8::1", b"new", 2)
    same_network = await waiting("2001:db8::2", b"other", 1)
    assert [still(tasks) for tasks in (neighbour, others, same_network)] == [1, 2, 1]
    for source, credential, count in (("192.0.2.66", b"refused", 20), ("192.0.2.66", b"another", 3)):
        stranger += await waiting(source, credential, count)
    await asyncio.sleep(0)
    assert [still(tasks) for tasks in (neighbour, others, same_network)] == [1, 2, 1]
    assert still(stranger) == 4
    look.seen(math.inf)
    await asyncio.gather(*stranger, *neighbour, *others, *same_network)


@on_each_loop
async def test_whoever_comes_from_another_address_gets_a_place_however_many_addresses_wait(monkeypatch):
    monkeypatch.setattr(last_look, "MAX_WAITING", 3)
    look = LastLook(lambda: None)
    look.seen(time.monotonic())
    waiting = [asyncio.create_task(look.again(f"192.0.2.{number}", TOKEN)) for number in range(5)]
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting] == [True, True, False, False, False]
    look.seen(math.inf)
    await asyncio.gather(*waiting)


@on_uvloop
async def test_a_stranger_with_one_refused_token_does_not_keep_out_who_was_made_a_moment_ago(tmp_path, monkeypatch):
    monkeypatch.setattr(last_look, "MAX_WAITING", 4)
    site = Site(tmp_path)
    async with running(site) as proxy:
        monkeypatch.setattr(proxy.proxy, "hasten", lambda: None)
        header = f"Authorization: Bearer pymon_{'a' * 12}_{0:043}"

        async def repeat(until_done: asyncio.Event) -> set[int]:
            found = set()
            while not until_done.is_set():
                found.add((await proxy.ask("/v1/discover", None, header)).status)
            return found

        over = asyncio.Event()
        strangers = [asyncio.create_task(repeat(over)) for _ in range(12)]
        for number in range(5):
            tenant = site.account(f"tenant-{number}")
            assert (await proxy.ask("/v1/discover", tenant)).status == 200
        over.set()
        assert set().union(*await asyncio.gather(*strangers)) == {401}


@on_each_loop
async def test_a_wait_has_an_end(monkeypatch):
    monkeypatch.setattr(last_look, "WAIT_SECONDS", 0.05)
    look = LastLook(lambda: None)
    look.seen(time.monotonic())
    await look.again(ALICE, TOKEN)


@on_uvloop
async def test_a_source_that_guesses_passwords_leaves_places_to_others(tmp_path, monkeypatch):
    site = Site(tmp_path)
    site.account("alice")
    site.directory.set_password("alice", "secret")
    monkeypatch.setattr("pymon.proxy.tenants.FAILED_AUTHENTICATIONS_PER_SECOND", 1e-9)
    held = threading.Event()
    real = passwords._matches
    monkeypatch.setattr(passwords, "_matches", lambda *guess: held.wait(60) and real(*guess))

    def basic(password: str) -> str:
        return "Authorization: Basic " + base64.b64encode(f"alice:{password}".encode()).decode()

    async with running(site) as proxy:
        waiting = proxy.proxy.tenants.authenticator._passwords._waiting

        async def guess(password: str, source: str) -> int:
            async with proxy.client(None, basic(password), source=source) as client:
                return (await client.ask("/v1/discover")).status

        count = passwords.Passwords.MAX_WAITING + 6
        guesses = [asyncio.create_task(guess(f"{number}", "127.0.0.1")) for number in range(count)]
        async with asyncio.timeout(60):
            while sum(task.done() for task in guesses) + len(waiting) < count:  # noqa: ASYNC110  # they have no event
                await asyncio.sleep(0.01)
        assert len(waiting) == FAILED_AUTHENTICATIONS_BURST
        same = [asyncio.create_task(guess("secret", "127.0.0.2")) for _ in range(2 * FAILED_AUTHENTICATIONS_BURST)]
        await until(lambda: len(waiting) > FAILED_AUTHENTICATIONS_BURST)
        held.set()
        assert set(await asyncio.gather(*same)) == {200}
        assert set(await asyncio.gather(*guesses)) == {401, 429}
        assert not proxy.proxy.tenants.addresses.blocked("127.0.0.2", time.monotonic())


@pytest.mark.parametrize("reason", ["malformed", "busy"])
@on_uvloop
async def test_what_no_directory_can_make_good_does_not_wait(tmp_path, monkeypatch, reason):
    site = Site(tmp_path)
    async with running(site) as proxy:
        asked = []
        monkeypatch.setattr(proxy.proxy.tenants.look, "again", asked.append)  # it would fail
        monkeypatch.setattr("pymon.service.passwords.Passwords.MAX_WAITING", 0)
        header = "Authorization: " + {"malformed": "Bearer x", "busy": "Basic YTpi"}[reason]
        status = {"malformed": 401, "busy": 503}[reason]
        assert (await proxy.ask("/v1/discover", None, header)).status == status
        assert (await proxy.ask("/v1/discover")).status == 401
        assert not asked
