"""``pymon up``: everything on one machine, and where to look."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import uvloop

import pymon
from pymon.agent.access import LiveWebConfig
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.cli.agent import serve_agent
from pymon.log import setup
from pymon.service.serve import stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.config import Listen

_SAY = """\
pymon {version} measures this machine. Stop it with Ctrl-C.

  page                 http://{address}/
  everything           curl http://{address}{path}
  one container        curl http://{address}/v1/UUID/metrics
  which containers     curl http://{address}/v1/containers

Prometheus:

  scrape_configs:
    - job_name: pymon
      metrics_path: {path}
      static_configs:
        - targets: ['{address}']
"""


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT."""
    options = load_agent_options(
        argv,
        os.environ,
        COLLECTORS,
        program="pymon up",
        description="Run everything on this machine and say where to look.",
        version=f"pymon {pymon.__version__}",
    )
    setup(options.log_level, options.log_format)
    uvloop.run(_run(options))
    return 0


async def _run(options: AgentOptions) -> None:
    live = LiveWebConfig(options.web_config_file) if options.web_config_file else None
    await serve_agent(options, live, stop_on_signals(), _say)


def _say(options: AgentOptions, addresses: tuple[Listen, ...]) -> None:
    address = addresses[0]
    sys.stdout.write(_SAY.format(version=pymon.__version__, address=address, path=options.telemetry_path))
    sys.stdout.flush()
