"""The numbers that stand for accounts in the kernel."""

from __future__ import annotations

from pymon._native.bpf import lib
from pymon.sources.latency import account_number


def test_accounts_are_told_apart_whatever_their_names() -> None:
    names = ("plumless", "buckeroo", "", "\x00", "a" * 4096)  # the first two have the same CRC
    numbers = {account_number(name) for name in names}
    assert len(numbers) == len(names)
    assert lib.PM_LATENCY_NOBODY not in numbers
    assert account_number(None) == lib.PM_LATENCY_NOBODY
