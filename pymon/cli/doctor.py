"""``pymon doctor``: report what pymon can measure on this machine, and where each container metric comes from."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pymon
from pymon.agent.accelerators import missing_accelerators
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_with_agent_options
from pymon.agent.options import option_table as agent_table
from pymon.agent.source import source_of
from pymon.config import ConfigError, Settings
from pymon.data_dir import default_data_dir
from pymon.directory.data_dir import AUTHORITY_FOLDER, DIRECTORY_FILE, MACHINES_FOLDER
from pymon.proxy.options import option_table as proxy_table
from pymon.sources.node import CMON_COLLECTORS, NODE_COLLECTORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pymon.config import Option

WIDTH = 2 + max(len(f"collector {item.name}") for item in (*NODE_COLLECTORS, *CMON_COLLECTORS))
"""Of the headings: those of collectors are the longest."""

_CERTIFICATE_FILES = ("tls.cert-file", "upstream.tls-ca-file", "upstream.tls-cert-file")
_PROXY_OPTIONS = tuple(option for option in proxy_table() if option.name in (*_CERTIFICATE_FILES, "directory"))
"""Options of the proxy that name the directory and certificates.

They may be outside the data directory and the agent's web configuration file.
"""


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return *_PROXY_OPTIONS, *agent_table(COLLECTORS)


def run(argv: Sequence[str]) -> int:
    """Print the report. Return 0. Raises ConfigError if this machine cannot be measured."""
    settings, options = load_with_agent_options(
        _PROXY_OPTIONS,
        argv,
        os.environ,
        COLLECTORS,
        program="pymon doctor",
        description="Show what this machine offers, where each metric comes from, what is wrong in the directory, and "
        "which certificates to replace.",
        version=f"pymon {pymon.__version__}",
    )
    proxy = list(_proxy(settings))
    # Each of these modules imports what only its own platform has.
    if source_of(options) == "kstat":
        from pymon.cli import doctor_zones as doctor  # noqa: PLC0415
    else:
        from pymon.cli import doctor_cgroups as doctor  # type: ignore[no-redef]  # noqa: PLC0415
    # Collect all lines before printing one, so that an error is printed without a partial report.
    machine = [*_program(), *doctor.machine(options), *proxy]
    _write(machine, doctor.metrics(options))
    return 0


def _program() -> Iterator[tuple[str, str]]:
    yield "pymon", pymon.__version__
    yield "kernel", f"{platform.system()} {platform.release()} {platform.machine()}"
    for text in missing_accelerators():
        yield "accelerators", text


def _proxy(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the lines about the directory and certificates.

    The modules that check them are slow to import, and are only imported if there is something to check.
    """
    try:
        data_dir: Path = settings["data-dir"] or default_data_dir(os.environ, os.geteuid())
    except ConfigError as error:
        yield "data directory", f"none ({error})"
        return
    url = settings["directory"]
    if url is None and not _is_there(data_dir / DIRECTORY_FILE):
        yield "directory", f"none in {data_dir}"
    else:
        from pymon.cli import doctor_directory  # noqa: PLC0415

        yield from doctor_directory.report(url or str(data_dir / DIRECTORY_FILE))
    files = (*_CERTIFICATE_FILES, "web.config.file")
    folders = (AUTHORITY_FOLDER, MACHINES_FOLDER)
    if any(settings[name] for name in files) or any(_is_there(data_dir / folder) for folder in folders):
        from pymon.cli import doctor_certificates  # noqa: PLC0415

        yield from doctor_certificates.report(settings, data_dir)


def _is_there(path: Path) -> bool:
    """Return whether a file exists and this user can see it."""
    try:
        return path.exists()
    except OSError:
        return False


def _write(machine: Iterable[tuple[str, str]], metrics: Iterator[str]) -> None:
    for name, text in machine:
        sys.stdout.write(f"{name:<{WIDTH}}{text}\n")
    sys.stdout.write("\n")
    sys.stdout.writelines(metrics)
