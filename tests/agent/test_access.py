"""The file that is read again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from pathlib import Path

import pytest

from pymon.agent import access
from pymon.agent.access import LiveWebConfig
from pymon.agent.web_config import load_web_config, make_context
from pymon.config import ConfigError
from tests.agent.web_agent import Files


def rewrite(file: Path, text: str) -> None:
    """Replace a file with one whose time differs, however quick the test is."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 10**9, before + 10**9))


async def test_live(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "web.yml"
    file.write_text("http_server_config: {headers: {X-Frame-Options: deny}}\n")
    live = LiveWebConfig(file)
    with caplog.at_level(logging.INFO):
        await live.refresh()
        assert caplog.records == []
        rewrite(file, "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n")
        await live.refresh()
        assert live.header_block == b"X-Frame-Options: sameorigin\r\n"
        caplog.clear()
        rewrite(file, "oops: 1\n")
        for _ in range(3):
            await live.refresh()
        assert "oops: unknown key" in str(live.error)
        assert live.header_block == b"X-Frame-Options: sameorigin\r\n"
        assert len(caplog.records) == 1
        file.unlink()
        await live.refresh()
        assert "cannot be read" in str(live.error)
        file.write_text("")
        await live.refresh()
        assert live.error is None
        assert live.header_block == b""
    live.close()


async def test_files_that_hang_hold_nobody_up_and_are_used_when_they_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOOK_SECONDS", 0.2)
    file = tmp_path / "web.yml"
    file.write_text("http_server_config: {headers: {X-Frame-Options: deny}}\n")
    live = LiveWebConfig(file)
    await live.refresh()
    file.unlink()
    os.mkfifo(file)  # to open it hangs until there is a writer
    loop = asyncio.get_running_loop()
    began = loop.time()
    ticks = asyncio.create_task(_ticks())
    await live.refresh()
    assert loop.time() - began < 30
    ticks.cancel()
    assert await ticks > 5, "the loop ran meanwhile"
    began = loop.time()
    for _ in range(1000):
        await live.refresh()
    assert loop.time() - began < 100 * access.LOOK_SECONDS, "only the first waits"
    assert live.header_block == b"X-Frame-Options: deny\r\n"
    assert live.reloads[0].failures == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"web configuration is not usable, the last good one stays: {file}: not read within 0.2 s"
    ]
    await asyncio.to_thread(file.write_text, "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n")
    async with asyncio.timeout(60):
        while live.header_block != b"X-Frame-Options: sameorigin\r\n":  # noqa: ASYNC110  # it is another thread's
            await asyncio.sleep(0.01)
    assert live.reloads[0].error == ""
    live.close()


async def _ticks() -> int:
    """How often the loop came round, until it is cancelled."""
    count = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.005)
            count += 1
    return count


async def test_whoever_asks_after_a_change_gets_it(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text("")
    live = LiveWebConfig(file)
    for number in range(50):
        others = [asyncio.create_task(live.refresh()) for _ in range(5)]
        await asyncio.sleep(0)
        rewrite(file, f"http_server_config: {{headers: {{Content-Security-Policy: a{number}}}}}\n")
        await live.refresh()
        assert live.header_block == b"Content-Security-Policy: a%d\r\n" % number
        await asyncio.gather(*others)
    live.close()


@pytest.mark.parametrize("key", ["cert_file", "key_file", "client_ca_file"])
def test_endless_files_are_refused(tmp_path: Path, key: str) -> None:
    file = Files(tmp_path).write("  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n")
    text = re.sub(rf"{key}: \S+", f"{key}: /dev/zero", file.read_text())
    assert "/dev/zero" in text
    file.write_text(text)
    tls = load_web_config(file).tls
    assert tls is not None
    with pytest.raises(ConfigError, match=f"{key}: /dev/zero: expected at most 4194304 bytes, got more"):
        make_context(tls, file)


def test_live_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        LiveWebConfig(tmp_path / "none")
