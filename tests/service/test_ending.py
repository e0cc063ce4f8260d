"""The end of a process at signals, whatever hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

PROGRAM = """
import asyncio, sys, threading, time, uvloop
from pymon.service import ending

ending.END_SECONDS = float(sys.argv[2])
loops = {"asyncio": asyncio.run, "uvloop": uvloop.run}

async def main(hang):
    stop = ending.stop_on_signals(drain_seconds=0.1)
    print("ready", flush=True)
    if hang == "loop before":
        time.sleep(1000)
    await stop.wait()
    print("stops", flush=True)
    if hang == "thread":
        await asyncio.to_thread(threading.Event().wait)
    if hang == "loop":
        threading.Event().wait()
    if hang == "loop in a system call":
        time.sleep(1000)

loops[sys.argv[1]](main(sys.argv[3]))
"""

on_each_loop = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


@contextmanager
def running(loop: str, seconds: float, hang: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PROGRAM, loop, str(seconds), hang]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def stopped(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    assert process.stdout
    assert process.stdout.readline() == "stops\n"


@on_each_loop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_hangs(loop: str, number: signal.Signals) -> None:
    with running(loop, 60, "nothing") as process:
        stopped(process, number)
        assert process.wait(30) == 0
        assert process.stderr
        assert process.stderr.read() == ""


@on_each_loop
@pytest.mark.parametrize("hang", ["thread", "loop", "loop in a system call"])
def test_what_hangs_ends_in_time(loop: str, hang: str) -> None:
    with running(loop, 0.6, hang) as process:
        stopped(process, signal.SIGTERM)
        begun = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - begun >= 0.15, "it has its time"
        assert process.stderr
        assert process.stderr.read() == "pymon: ended without what did not end in time\n"


@on_each_loop
def test_a_loop_that_hung_before_ends_in_time(loop: str) -> None:
    with running(loop, 0.6, "loop before") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@on_each_loop
@pytest.mark.parametrize("hang", ["thread", "loop"])
def test_a_second_signal_ends_it_at_once(loop: str, hang: str) -> None:
    with running(loop, 1000, hang) as process:
        stopped(process, signal.SIGTERM)
        process.send_signal(signal.SIGINT)  # at the same time: no second one
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@on_each_loop
def test_a_stderr_that_nobody_reads_keeps_nothing(loop: str) -> None:
    with running(loop, 0.6, "loop") as process:
        assert process.stderr
        # The pipe is full before.
        descriptor = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * 4096)
        os.close(descriptor)
        stopped(process, signal.SIGTERM)
        assert process.wait(30) == 0
