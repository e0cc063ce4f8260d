"""Fixtures of the proxy's tests."""

from __future__ import annotations

import pytest

from pymon.proxy import inventory, inventory_store
from tests.proxy.aggregated import scraped
from tests.proxy.certs import SSH_KINDS, SSHPair, Workshop
from tests.proxy.upstream import TLS


@pytest.fixture(scope="module")
def tls() -> TLS:
    return TLS()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def pairs(workshop: Workshop) -> dict[str, SSHPair]:
    return {kind: workshop.ssh(kind) for kind in SSH_KINDS}


@pytest.fixture(scope="module")
def pair(pairs: dict[str, SSHPair]) -> SSHPair:
    return pairs["ecdsa-256"]


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return scraped(tmp_path_factory)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inventories are polled and stored often."""
    monkeypatch.setattr(inventory, "RETRY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(inventory, "PACE_SECONDS", 0.02)
    monkeypatch.setattr(inventory_store, "SAVE_SECONDS", 0.02)
