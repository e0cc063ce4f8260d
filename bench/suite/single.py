"""One container by its UUID, over and over: requests a second of servers that have one core."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

from bench import nginx
from bench.bpf import filled
from bench.single import BARE, SCRIPT, load, serving
from bench.suite.peers import SBIN, AbsentError
from bench.suite.result import Case
from bench.suite.turns import Field
from bench.world import Cgroups, Client, agent

SECONDS = 2
MOST_ROUNDS = 7

CONSTANT = """
import asyncio, uvloop
from pymon.config import Address
from pymon.service.answer import text_reply
from pymon.service.serve import serve
from pymon.service.server import Server

async def handler(request):
    return text_reply(200, "x" * %d)

async def main():
    server = Server(handler, lambda status: None, None)
    started = lambda addresses: print(addresses[0].port, flush=True)
    await serve(server, [Address("127.0.0.1", 0)], stop=asyncio.Event(), started=started)

uvloop.run(main())
"""


def single(groups: Cgroups, rounds: int, obstacle: str) -> Iterator[Case]:
    """Agents beside servers that know the answer already: ours, nginx and a handler of aiohttp."""
    found = Field()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        size = agents(stack, groups, found, place, obstacle)
        programs = {"pymon's server, constant": CONSTANT % (size - 1), "aiohttp, constant": BARE % size}
        found.runners |= {who: rate(stack.enter_context(serving(what))) for who, what in programs.items()}
        if shutil.which("nginx", path=SBIN):
            front = stack.enter_context(nginx.static(place, {"constant": bytes(size)}, 1, cpu="0"))
            found.runners["nginx, constant"] = rate(front.port, path="/v1/constant/metrics")
        else:
            found.absent["nginx, constant"] = "nginx-light is not installed"
        if shutil.which("wrk") is None:
            for who in list(found.runners):
                found.fails(who, AbsentError("wrk, which makes the load, is not installed"))
        count = len(groups.names)
        title = f"One of {count:,} containers by its UUID"
        yield found.measure(f"single-{count}", title, "requests/s", min(rounds, MOST_ROUNDS), "higher", warm_up=0)


def agents(stack: ExitStack, groups: Cgroups, found: Field, place: Path, obstacle: str) -> int:
    """An agent for each source. Return the bytes of an answer."""
    size = 0
    for who, source in (("pymon files", "cgroupfs"), ("pymon bpf", "bpf")):
        if source == "bpf" and obstacle:
            found.absent[who] = obstacle
            continue
        running = stack.enter_context(agent(groups.parent, f"--source={source}", cpus="0"))
        with closing(Client(running.port)) as client:
            if source == "bpf":
                filled(client)
            inventory = json.loads(bytes(client.get("/v1/containers")))
            paths = [f"/v1/{item['uuid']}/metrics" for item in inventory["containers"] if groups.parent in item["id"]]
            if len(paths) != len(groups.names):
                raise RuntimeError(f"the inventory has {len(paths)} of {len(groups.names)} containers")
            size = len(client.get(paths[0]))
        script = place / f"{source}.lua"
        script.write_text(SCRIPT % ",".join(f'"{path}"' for path in paths))
        found.agreed[who] = f"answers of {size} bytes"
        found.runners[who] = rate(running.port, "-s", str(script))
    return size


def rate(port: int, *flags: str, path: str = "/") -> Callable[[], float]:
    """Requests a second of a server."""
    return lambda: load(f"http://127.0.0.1:{port}{path}", *flags, seconds=SECONDS)
