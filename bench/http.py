"""A bare small answer over kept connections: our HTTP server against a raw protocol, and others for comparison.

Each server has core 0, wrk core 1; rounds take turns. `ratio` is the median of the ratios of the rounds to `raw`, a
uvloop protocol that writes a constant for whatever comes.
"""

from __future__ import annotations

import contextlib
from statistics import median

from bench.single import BARE, load, serving

SECONDS = 3
CONNECTIONS = 10
ROUNDS = 5

PROMETHEUS = (
    (
        "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    ),
    "Accept-Encoding: gzip",
    "User-Agent: Prometheus/3.5.0",
    "X-Prometheus-Scrape-Timeout-Seconds: 10",
)
"""What Prometheus sends with a scrape, besides Host."""

_SAY = """print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""

_RAW = (
    """
import asyncio, uvloop
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: text/plain; charset=utf-8\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n"

class Raw(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(ANSWER)

async def main():
    server = await asyncio.get_running_loop().create_server(Raw, "127.0.0.1", 0)
    """
    + _SAY
)

_OURS = """
import asyncio, uvloop
from pymon.config import Address
from pymon.service.answer import text_reply
from pymon.service.serve import serve
from pymon.service.server import Server

async def handler(request):
    return text_reply(200, "ok")

async def main():
    server = Server(handler, lambda status: None, None)
    started = lambda addresses: print(addresses[0].port, flush=True)
    await serve(server, [Address("127.0.0.1", 0)], stop=asyncio.Event(), started=started)

uvloop.run(main())
"""

SERVERS = {"raw": _RAW, "pymon": _OURS, "aiohttp": BARE % 3}


def measure() -> dict[str, object]:
    """Requests a second of each server, and the ratios to the raw one."""
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    with contextlib.ExitStack() as close:
        ports = {name: close.enter_context(serving(program)) for name, program in SERVERS.items()}
        for _ in range(ROUNDS):
            for name, port in ports.items():
                rates[name].append(_load(port))
    return {
        "requests_per_second": {name: sorted(found) for name, found in rates.items()},
        "ratio": {
            name: round(median(one / raw for one, raw in zip(found, rates["raw"], strict=True)), 3)
            for name, found in rates.items()
        },
    }


def _load(port: int) -> float:
    """Requests a second that wrk got through."""
    headers = [part for header in PROMETHEUS for part in ("-H", header)]
    return load(f"http://127.0.0.1:{port}/", *headers, seconds=SECONDS, connections=CONNECTIONS)
