"""NOTIFY: secondaries are told, told again until they answer, and not told more than it takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
import uvloop

from pymon.dns import notify
from tests.dns.serving import KEY, OPTIONS, ORIGIN, OTHER_KEY, REVERSE, SIGNED, instance, secondary, serving, until


class Listener(asyncio.DatagramProtocol):
    """A secondary that keeps what it is told. ignore: messages it gives no answer to."""

    def __init__(self, *, ignore: int = 0, rcode: int = dns.rcode.NOERROR, keys=None, answer_keys=None) -> None:
        self.told: list[dns.message.Message] = []
        self.ignore = ignore
        self.rcode = rcode
        self.refuses = ""
        self.keys = keys
        self.forge = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr) -> None:
        message = dns.message.from_wire(data, keyring=self.keys)
        self.told.append(message)
        if self.ignore:
            self.ignore -= 1
            return
        answer = dns.message.make_response(message)
        answer.set_rcode(dns.rcode.REFUSED if message.question[0].name.to_text() == self.refuses else self.rcode)
        if self.forge:
            self.transport.sendto(b"noise", addr)
            answer.id ^= 1
        self.transport.sendto(answer.to_wire(), addr)

    def serials(self, origin: str = ORIGIN) -> list[int]:
        return [m.answer[0][0].serial for m in self.told if m.question[0].name.to_text() == origin]


@contextlib.asynccontextmanager
async def told(options=OPTIONS, *, key=None, **keywords):
    listener = Listener(**keywords)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: listener, local_addr=("127.0.0.1", 0)
    )
    try:
        async with serving(replace(options, secondaries=(secondary(listener.port, key),))) as served:
            yield served, listener
    finally:
        transport.close()


def outcomes(served) -> Counter:
    family = next(family for family in served.server.families() if family.name == "pymon_dns_notifies")
    return Counter({labels[0]: count for labels, count in family.read().items()})


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_secondaries_are_told_at_start_and_of_each_change(runner):
    async def check() -> None:
        async with told() as (served, listener):
            await until(lambda: outcomes(served)["acknowledged"] == 2, "not told at start")
            first = listener.told[0]
            assert first.opcode() == dns.opcode.NOTIFY
            assert first.flags & dns.flags.AA
            assert {message.question[0].name.to_text() for message in listener.told} == {ORIGIN, REVERSE}
            served.change(instance(1, last=1))
            await until(lambda: listener.serials()[-1] == served.zone.serial, "not told of the change")
            await until(lambda: outcomes(served)["acknowledged"] == 4, "not acknowledged")

    runner(check())


async def test_many_changes_are_told_once_in_a_while_and_the_last_one_always():
    async with told() as (served, listener):
        for number in range(200):
            served.change(instance(1, last=number % 100))
            await asyncio.sleep(0)
        await until(lambda: listener.serials()[-1:] == [served.zone.serial], "not told of the last")
        assert len(listener.told) < 40


async def test_who_does_not_answer_is_told_again():
    async with told(ignore=2) as (served, listener):
        await until(lambda: outcomes(served)["acknowledged"] == 2, "given up")
        assert len(listener.told) == 4


async def test_who_never_answers_is_given_up(monkeypatch, caplog):
    monkeypatch.setattr(notify, "ANSWER_SECONDS", (0.02, 0.02))
    async with told(ignore=1000) as (served, listener):
        await until(lambda: outcomes(served)["unanswered"] == 2, "not given up")
        assert len(listener.told) == 4
    assert [record.getMessage().endswith(": unanswered") for record in caplog.records] == [True]


async def test_a_refusal_ends_the_tries():
    async with told(rcode=dns.rcode.REFUSED) as (served, listener):
        await until(lambda: outcomes(served)["refused"] == 2, "not taken for an answer")
        assert len(listener.told) == 2


async def test_a_zone_that_is_refused_is_logged_once_whatever_becomes_of_others(caplog):
    async with told() as (served, listener):
        await until(lambda: outcomes(served)["acknowledged"] == 2, "not told at start")
        listener.refuses = REVERSE
        for number in range(1, 4):
            served.change(instance(1, last=number))
            await until(lambda: outcomes(served)["refused"] == number, "not taken for an answer")  # noqa: B023
            await until(lambda: outcomes(served)["acknowledged"] == 2 + number, "not acknowledged")  # noqa: B023
    assert [REVERSE in record.getMessage() for record in caplog.records] == [True]


async def test_what_answers_another_message_is_no_answer(monkeypatch):
    monkeypatch.setattr(notify, "ANSWER_SECONDS", (0.05,))
    async with told(ignore=0) as (served, listener):
        listener.forge = True
        await until(lambda: outcomes(served)["unanswered"] == 2, "taken for an answer")


async def test_notify_is_signed_with_the_secondary_s_key():
    async with told(SIGNED, key=OTHER_KEY.name, keys={OTHER_KEY.name: OTHER_KEY}) as (served, listener):
        await until(lambda: outcomes(served)["acknowledged"] == 2, "not acknowledged")
        assert all(message.keyname == OTHER_KEY.name for message in listener.told)


async def test_an_unsigned_answer_to_a_signed_notify_is_no_answer(monkeypatch):
    monkeypatch.setattr(notify, "ANSWER_SECONDS", (0.05,))
    async with told(SIGNED, key=KEY.name, keys={KEY.name: KEY}) as (served, listener):
        listener.rcode = dns.rcode.NOERROR
        listener.datagram_received = lambda data, addr: listener.transport.sendto(_unsigned_answer(data), addr)
        await until(lambda: outcomes(served)["unanswered"] == 2, "taken for an answer")


def _unsigned_answer(data: bytes) -> bytes:
    message = dns.message.from_wire(data, keyring={KEY.name: KEY})
    answer = dns.message.make_response(message)
    answer.tsig = None
    answer.want_tsig_sign = False
    return answer.to_wire()
