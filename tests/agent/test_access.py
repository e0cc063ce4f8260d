"""The file that is read again."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pymon.agent.access import LiveWebConfig
from pymon.config import ConfigError


def rewrite(file: Path, text: str) -> None:
    """Replace a file with one whose time differs, however quick the test is."""
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 10**9, before + 10**9))


def test_live(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "web.yml"
    file.write_text("http_server_config: {headers: {X-Frame-Options: deny}}\n")
    live = LiveWebConfig(file)
    with caplog.at_level(logging.INFO):
        live.refresh()
        assert caplog.records == []
        rewrite(file, "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n")
        live.refresh()
        assert live.header_block == b"X-Frame-Options: sameorigin\r\n"
        caplog.clear()
        rewrite(file, "oops: 1\n")
        for _ in range(3):
            live.refresh()
        assert "oops: unknown key" in str(live.error)
        assert live.header_block == b"X-Frame-Options: sameorigin\r\n"
        assert len(caplog.records) == 1
        file.unlink()
        live.refresh()
        assert "cannot be read" in str(live.error)
        file.write_text("")
        live.refresh()
        assert live.error is None
        assert live.header_block == b""


def test_live_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        LiveWebConfig(tmp_path / "none")
