"""Fixtures of the proxy's tests."""

from __future__ import annotations

import pytest

from tests.proxy.upstream import TLS


@pytest.fixture(scope="module")
def tls() -> TLS:
    return TLS()
