"""Where the fetcher listens."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pymon.apps.fetcher import listening, may_ask


def test_the_socket_is_for_the_owner_and_the_group_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for _ in range(2):
        with listening(path) as listener, socket.socket(socket.AF_UNIX) as client:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            client.connect(str(path))
            connection, _ = listener.accept()
            with connection:
                assert may_ask(connection)
        assert not path.exists()


def test_one_that_was_left_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listening(path):
        pass
    path.write_text("mine")
    with pytest.raises(FileExistsError), listening(path):
        pass
    assert path.read_text() == "mine"


@pytest.mark.root
@pytest.mark.parametrize("name", ["missing/socket", "x" * 200])
def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "pymon", "app-fetcher", f"--socket={tmp_path / name}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"pymon: {tmp_path / name}: ")
