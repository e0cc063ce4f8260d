"""The access log's thread and file, without a proxy."""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
import time
from pathlib import Path

import pytest

from pymon.config import ConfigError
from pymon.proxy import access_log
from pymon.proxy.access_log import AccessLog, Line, check


def line(number: int, **changes: object) -> Line:
    fields = {
        "at": 1_700_000_000.25, "request": f"{number:016x}", "account": "alice", "route": "container", "code": 200,
        "seconds": 0.0123456789, "bytes": 7, "node": "n1", "source": "127.0.0.1", **changes,
    }  # fmt: skip
    return Line(**fields)


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_line_has_the_fields_in_the_form_of_the_log(tmp_path):
    for form in ("logfmt", "json"):
        log = AccessLog(tmp_path / form, form)
        log.put(line(1))
        log.put(line(2, node="", account="", source="", code=401))
        log.close()
    first, second = (tmp_path / "logfmt").read_text().splitlines()
    assert first == (
        "time=2023-11-14T22:13:20.250Z request=0000000000000001 account=alice route=container code=200 "
        "seconds=0.012346 bytes=7 node=n1 source=127.0.0.1"
    )
    assert 'account=""' in second
    assert json.loads((tmp_path / "json").read_text().splitlines()[0]) == {
        "time": "2023-11-14T22:13:20.250Z", "request": "0000000000000001", "account": "alice", "route": "container",
        "code": 200, "seconds": 0.012346, "bytes": 7, "node": "n1", "source": "127.0.0.1",
    }  # fmt: skip
    assert (tmp_path / "json").stat().st_mode & 0o777 == 0o640


def test_a_line_is_bounded_and_stays_one_line(tmp_path):
    log = AccessLog(tmp_path / "log", "json")
    log.put(line(1, node="\n\u202e" * 100_000, source='"' * 100_000))
    log.close()
    written = (tmp_path / "log").read_bytes()
    assert written.count(b"\n") == 1
    assert len(written) < select.PIPE_BUF
    json.loads(written)


@pytest.mark.parametrize("made", [True, False])
def test_a_renamed_file_is_opened_again_and_no_line_is_lost(tmp_path, made):
    file = tmp_path / "log"
    log = AccessLog(file, "logfmt")
    log.put(line(1))
    until(lambda: file.exists() and file.read_text())
    file.rename(tmp_path / "log.1")
    if made:
        file.touch()
    log.put(line(2))
    log.close()
    assert "0000000000000001" in (tmp_path / "log.1").read_text()
    assert "0000000000000002" in file.read_text()


def test_a_hung_file_delays_nobody_and_what_is_dropped_is_counted(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    check(fifo)
    log = AccessLog(fifo, "logfmt", queued=1000)
    try:
        for number in range(20_000):
            log.put(line(number))
            if log.lost["queue"] > 100:
                break
            if number % 500 == 0:
                time.sleep(access_log.BATCH_SECONDS / 5)  # the thread takes some and hangs
        assert log.lost["queue"] > 100
        assert any(thread.name == "access log" for thread in threading.enumerate())
    finally:
        whole = b""
        while any(thread.name == "access log" for thread in threading.enumerate()):
            with_data, _, _ = select.select([reader], [], [], 0.01)
            with contextlib.suppress(BlockingIOError):  # select(2) saw the end of one writer, and there is another
                whole += os.read(reader, 1 << 16) if with_data else b""
            log.close() if not with_data else None
        os.close(reader)
    assert all(text.endswith(b"source=127.0.0.1") for text in whole.splitlines()), "whole lines"


def test_a_full_disk_is_counted_and_said_once(caplog):
    log = AccessLog(Path("/dev/full"), "logfmt")
    for number in range(200):
        log.put(line(number))
    log.close()
    assert log.lost == {"queue": 0, "write": 200}
    assert [record.getMessage() for record in caplog.records] == [
        "access log /dev/full cannot be written: No space left on device"
    ]


def test_a_place_that_cannot_be_written_is_an_error_at_the_start(tmp_path):
    check(Path("-"))
    check(tmp_path / "new")
    for path in (tmp_path, tmp_path / "none" / "log", Path("/dev/null/x")):
        with pytest.raises(ConfigError, match=r"access-log: .* cannot be written: "):
            check(path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError):
        check(fifo)  # and does not wait for a reader
