"""Credentials that were refused."""

from __future__ import annotations

import pytest

from pymon.proxy.refusals import Refusals, Refused

REVOKED, WRONG = Refused("revoked", "revoked: token x of alice"), Refused("wrong_eku", "wrong_eku: not for clients")


def test_a_refusal_is_remembered_until_the_directory_changes():
    refusals = Refusals()
    assert refusals.find("Bearer x", 1) is None
    refusals.add("Bearer x", 1, REVOKED)
    refusals.add(b"\x30\x01", 1, WRONG)
    assert refusals.find("Bearer x", 1) == REVOKED
    assert refusals.find(b"\x30\x01", 1) == WRONG
    assert refusals.find("Bearer y", 1) is None
    assert refusals.find("Bearer x", 2) is None
    refusals.add("Bearer y", 2, REVOKED)
    assert refusals.find(b"\x30\x01", 2) is None
    assert refusals.find("Bearer x", 1) is None, "what an older directory led to is forgotten"


@pytest.mark.parametrize("reason", ["busy", "not_yet_valid"])
def test_what_may_be_right_a_moment_later_is_not_remembered(reason):
    refusals = Refusals()
    refusals.add("Basic x", 1, Refused(reason, reason))
    assert refusals.find("Basic x", 1) is None


def test_the_oldest_goes_first_and_no_credential_is_kept():
    refusals = Refusals(bound=2)
    for text in ("Basic a", "Basic b", "Basic \udcff"):
        refusals.add(text, 1, WRONG)
    assert [refusals.find(text, 1) for text in ("Basic a", "Basic b", "Basic \udcff")] == [
        None,
        WRONG,
        WRONG,
    ]
    assert not any(b"Basic" in name for name in refusals._reasons)
