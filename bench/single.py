"""One container by its UUID, over and over: requests a second of an agent that has one core."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.world import Client, agent, cgroups

SECONDS = 5
CONNECTIONS = 16
ROUNDS = 3

BARE = """
import asyncio, uvloop
from aiohttp import web

async def answer(request):
    return web.Response(body=bytes(%d))

async def main():
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""

SCRIPT = """
local paths = {%s}
local at = 0
request = function()
  at = at %% #paths + 1
  return wrk.format("GET", paths[at])
end
"""


def measure(count: int = 1000) -> dict[str, object]:
    """Requests a second with keep-alive, each round over all containers in turn, wrk on the other core."""
    with cgroups(count) as groups, agent(groups.parent, cpus="0") as running, tempfile.TemporaryDirectory() as place:
        client = Client(running.port)
        inventory = json.loads(bytes(client.get("/v1/containers")))
        paths = [f"/v1/{item['uuid']}/metrics" for item in inventory["containers"] if groups.parent in item["id"]]
        size = len(client.get(paths[0]))
        script = Path(place) / "paths.lua"
        script.write_text(SCRIPT % ",".join(f'"{path}"' for path in paths))
        rates, bare = [], []
        with serving(BARE % size) as port:
            for _ in range(ROUNDS):
                rates.append(load(f"http://127.0.0.1:{running.port}/", "-s", str(script)))
                bare.append(load(f"http://127.0.0.1:{port}/"))
        return {
            "containers": count,
            "body_bytes": size,
            "requests_per_second": sorted(rates),
            "bare_aiohttp_requests_per_second": sorted(bare),
        }


def load(url: str, *flags: str, seconds: int = SECONDS, connections: int = CONNECTIONS) -> float:
    """Requests a second that wrk got through. RuntimeError if an answer was no success or a socket broke."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *flags, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])


@contextlib.contextmanager
def serving(program: str) -> Iterator[int]:
    """The port of a server on core 0, a Python program that prints it."""
    with subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.terminate()
