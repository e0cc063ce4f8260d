"""What tests of the client of one agent share."""

from __future__ import annotations

import contextlib
import hashlib
import ssl

import pytest
import trustme

from pymon.proxy.upstream import Upstream, UpstreamError
from pymon.service.http1 import Response

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
TWO = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\ntwo"


@contextlib.contextmanager
def using(url: str, *arguments, **keywords):
    upstream = Upstream(url, *arguments, **keywords)
    try:
        yield upstream
    finally:
        upstream.close()


async def get(upstream: Upstream, path: str = "/", *, seconds: float = 10.0, **keywords) -> Response:
    return await upstream.get(path, timeout_seconds=seconds, **keywords)


async def failure(upstream: Upstream, path: str = "/", *, seconds: float = 10.0, **keywords) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await get(upstream, path, seconds=seconds, **keywords)
    assert "\n" not in str(caught.value)
    return caught.value


def told(error: UpstreamError) -> tuple[int, str]:
    return error.status, error.reason


class TLS:
    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.certificate = self.authority.issue_cert("agent.example")
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate.configure_cert(self.server)
        self.client = self.trusting(self.authority)
        der = ssl.PEM_cert_to_DER_cert(self.certificate.cert_chain_pems[0].bytes().decode())
        self.fingerprint = hashlib.sha256(der).hexdigest()

    @staticmethod
    def trusting(authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        return context
