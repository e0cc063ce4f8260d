"""`python -m bench [SUITE ...]`: run benchmarks and print what was measured. Needs root for its cgroups."""

from __future__ import annotations

import json
import sys

from bench import dns, proxy, render, scrape, single, zones

SUITES = {
    "scrape1000": lambda: scrape.measure(1000),
    "scrape5000": lambda: scrape.measure(5000),
    "single": single.measure,
    "render": render.measure,
    "proxy": proxy.measure,
    "dns": dns.measure,
    "zones": zones.measure,
}


def main() -> None:
    """Run the named suites, or all."""
    for name in sys.argv[1:] or SUITES:
        print(json.dumps({"suite": name, **SUITES[name]()}, indent=1, default=str), flush=True)


main()
