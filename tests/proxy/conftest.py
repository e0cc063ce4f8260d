"""Fixtures of the proxy's tests."""

from __future__ import annotations

import pytest

from tests.proxy.aggregated import scraped
from tests.proxy.upstream import TLS


@pytest.fixture(scope="module")
def tls() -> TLS:
    return TLS()


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    return scraped(tmp_path_factory)
