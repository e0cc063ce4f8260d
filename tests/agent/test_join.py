"""Joining, as far as it needs no proxy: what is refused before anything is sent. e2e/test_join.py has the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from pymon.agent.collectors import COLLECTORS
from pymon.agent.join import Joining
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.config import ConfigError

TOKEN = f"pymon-node.{'0' * 16}.{'x' * 43}"


def options(*argv: str) -> AgentOptions:
    return load_agent_options(["--join=https://127.0.0.1:1", *argv], {}, COLLECTORS)


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["--join=http://proxy:9163"], "expected https://HOST:PORT"),
        (["--join=https://proxy"], "expected https://HOST:PORT"),
        (["--web.config.file=x"], "web.config.file: expected none with --join"),
    ],
)
def test_flags_that_are_wrong(argv: list[str], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        options(*argv)


def test_flags_that_need_join() -> None:
    with pytest.raises(ConfigError, match=r"join\.name: expected with --join"):
        load_agent_options(["--join.name=n1"], {}, COLLECTORS)


def obtained(tmp_path: Path, token: str | None, node: bytes | None = None) -> None:
    flags = [f"--data-dir={tmp_path}"]
    if token is not None:
        (tmp_path / "token").write_text(token)
        flags.append(f"--join.token-file={tmp_path / 'token'}")
    if node is not None:
        (tmp_path / "join").mkdir()
        (tmp_path / "join/node.pem").write_bytes(node)

    async def run() -> None:
        await Joining(options(*flags), UUID(int=1)).obtain(asyncio.Event())

    asyncio.run(run())


@pytest.mark.parametrize(
    ("token", "node", "error"),
    [
        (None, None, r"join\.token-file: expected one"),
        ("hello", None, "expected a token of"),
        ("x" * 2000, None, "expected a token of"),
        (TOKEN, None, r"join\.ca-file: expected one"),
        (TOKEN, b"damaged", "expected a key and its certificate in PEM"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, token: str | None, node: bytes | None, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        obtained(tmp_path, token, node)


@pytest.mark.parametrize(
    ("listen", "local", "url"),
    [
        (":9164", "10.0.0.5", "https://10.0.0.5:9164"),
        ("[::]:9164", "2001:db8::1", "https://[2001:db8::1]:9164"),
        ("10.0.0.7:9164", "10.0.0.5", "https://10.0.0.7:9164"),
        ("127.0.0.1:9164", "127.0.0.1", "https://127.0.0.1:9164"),
    ],
)
def test_the_url_that_is_registered(listen: str, local: str, url: str) -> None:
    assert Joining(options(f"--web.listen-address={listen}"), UUID(int=1))._node_url(local) == url


@pytest.mark.parametrize(
    ("listen", "error"),
    [("127.0.0.1:9164", "expected an address that proxies reach"), (":0", "expected a port other than 0")],
)
def test_addresses_that_proxies_cannot_reach(listen: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Joining(options(f"--web.listen-address={listen}"), UUID(int=1))._node_url("10.0.0.5")


def test_without_its_file_a_renewal_is_one_line(tmp_path: Path) -> None:
    joining = Joining(options(f"--data-dir={tmp_path}"), UUID(int=1))
    with pytest.raises(ConfigError, match=r"node\.pem: cannot be read"):
        asyncio.run(joining._renew())
