"""One container by its UUID, over and over: requests a second of an agent that has one core."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from bench.world import Client, agent, cgroups

SECONDS = 5
CONNECTIONS = 16
ROUNDS = 3

_SCRIPT = """
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
        script.write_text(_SCRIPT % ",".join(f'"{path}"' for path in paths))
        rates = []
        for _ in range(ROUNDS):
            said = subprocess.run(
                ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", script,
                 f"http://127.0.0.1:{running.port}/"],
                check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            if "Non-2xx" in said:
                raise RuntimeError(said)
            rates.append(float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]))
        return {"containers": count, "body_bytes": size, "requests_per_second": sorted(rates)}
