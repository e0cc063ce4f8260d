"""The ``pymon`` command: finds the module of a command, and turns what it raises into one line and an exit code.

0 done, 1 failed, 2 bad usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING

import pymon
from pymon.config import ConfigError, nearest
from pymon.directory.model import DirectoryError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("pymon.cli.up", "everything on one machine: agent, proxy, directory, DNS"),
    "agent": ("pymon.cli.agent", "answer scrapes of this node and its containers"),
    "proxy": ("pymon.cli.proxy", "answer tenants' scrapes and discovery from the agents of many nodes"),
    "account": ("pymon.cli.account", "accounts: tenants and operators"),
    "token": ("pymon.cli.token", "bearer tokens of accounts"),
    "cert": ("pymon.cli.cert", "client certificates of accounts, server certificates of proxies and agents"),
    "key": ("pymon.cli.key", "SSH public keys of accounts"),
    "node": ("pymon.cli.node", "the compute nodes whose agents a proxy asks"),
    "quota": ("pymon.cli.quota", "what accounts may ask of a proxy"),
    "dns": ("pymon.cli.dns", "the DNS zones: what is in them, and whether servers answer so"),
    "collect": ("pymon.cli.collect", "write one collection to standard output"),
    "containers": ("pymon.cli.containers", "list the containers of this node"),
    "doctor": ("pymon.cli.doctor", "show what this machine offers, and where each metric comes from"),
    "check-config": ("pymon.cli.check_config", "validate a configuration file without starting"),
}
"""Name of a command: its module, which has ``run(argv) -> int``, and what it does."""

_USAGE = "usage: pymon COMMAND [FLAG ...]"


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [_USAGE, "", *(f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items())]
    return "\n".join([*lines, "", "pymon COMMAND --help shows its flags; pymon --version the version."])


def _dispatch(argv: Sequence[str]) -> int:
    match list(argv):
        case []:
            raise ConfigError(f"expected a command: {', '.join(COMMANDS)}")
        case ["--help" | "-h" | "help", *_]:
            print(_help())
            return 0
        case ["--version", *_]:
            print(f"pymon {pymon.__version__}")
            return 0
        case [name, *rest]:
            if name not in COMMANDS:
                raise ConfigError(f"{ascii(name)[1:-1]}: unknown command{nearest(name, COMMANDS)}")
            status: int = importlib.import_module(COMMANDS[name][0]).run(rest)
            return status
    raise AssertionError


def _wants_traceback(argv: Sequence[str]) -> bool:
    words = " ".join(argv)
    return "--log.level=debug" in words or "--log.level debug" in words or os.environ.get("PYMON_LOG_LEVEL") == "debug"


def _say(text: str) -> None:
    print("pymon: " + " ".join(text.split()), file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (of the process by default); the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    failed: Exception
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status  # noqa: TRY300  # a failing flush is one of the errors
    except ConfigError as error:
        _say(str(error))
        return 2
    except DirectoryError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone, as head does. The interpreter flushes once more at exit; give it somewhere to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None))
        failed = error
    except Exception as error:  # noqa: BLE001  # the last place to make it one line
        _say(f"internal error: {type(error).__name__}: {error}")
        failed = error
    if _wants_traceback(words):
        traceback.print_exception(failed)
    return 1
