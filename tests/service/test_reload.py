"""What becomes of files that are read again, and the thread that looks at them."""

from __future__ import annotations

import logging
import math
import threading

import pytest
import trustme

from pymon.service import reload as module
from pymon.service.reload import FileThread, Reload, first_end


def test_each_failure_counts_and_a_new_one_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    reload = Reload("server")
    assert (reload.worked_at, reload.ends_at) == (0.0, math.inf)
    reload.worked(5.0)
    worked_at = reload.worked_at
    for text in ("a: no", "a: no", "a: nothing"):
        reload.failed("certificate", ValueError(text))
    assert (reload.failures, reload.error, reload.worked_at, reload.ends_at) == (3, "a: nothing", worked_at, 5.0)
    assert [record.getMessage() for record in caplog.records] == [
        "certificate is not usable, the last good one stays: a: no",
        "certificate is not usable, the last good one stays: a: nothing",
    ]
    reload.worked()
    assert (reload.failures, reload.error, reload.ends_at) == (3, "", math.inf)


def test_the_first_end_counts_and_what_is_no_certificate_has_none() -> None:
    ca = trustme.CA()
    pem = ca.cert_pem.bytes()
    issued = ca.issue_cert("a.example").cert_chain_pems[0].bytes()
    assert first_end(pem + issued) == min(first_end(pem), first_end(issued)) < math.inf
    for nothing in (b"", b"x", pem[: len(pem) // 2]):
        assert first_end(nothing) == math.inf


def test_the_thread_looks_again_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    looks, seen = iter(range(3)), threading.Event()

    def look() -> None:
        if next(looks) == 2:
            seen.set()
        raise ValueError("oh")

    thread = FileThread("certificates", look)
    with caplog.at_level(logging.CRITICAL):
        thread.start()
        assert seen.wait(20)
        thread.stop()
