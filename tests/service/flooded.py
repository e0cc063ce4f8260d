"""A server process for `test_flood`: takes the file of its certificate, if any, and says its port."""

from __future__ import annotations

import ssl
import sys

import uvloop

from pymon.config import Address, Listen
from pymon.service.ending import stop_on_signals
from pymon.service.serve import serve
from pymon.service.server import Server
from tests.service.running import ok


class Files:
    """A context of one file."""

    def __init__(self, file: str) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(file)

    async def refresh(self) -> None:
        pass

    def admits(self, tls: ssl.SSLObject) -> bool:
        return True


def say(addresses: tuple[Listen, ...]) -> None:
    assert isinstance(addresses[0], Address)
    sys.stdout.write(f"{addresses[0].port}\n")
    sys.stdout.flush()


async def main() -> None:
    server = Server(ok, lambda _: None, Files(sys.argv[1]) if len(sys.argv) > 1 else None)
    where = [Address("127.0.0.1", 0)]
    await serve(server, where, stop=stop_on_signals(), stopping=lambda: None, grace_seconds=1, started=say)


if __name__ == "__main__":
    uvloop.run(main())
