"""The ``pymon`` command: runs the module of a subcommand, and turns exceptions into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys

import pymon

# Modules that only a subcommand or an error needs are imported there, so that `pymon --help` starts quickly enough for
# shell completion.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("pymon.cli.up", "everything on one machine: agent, proxy, directory, DNS"),
    "agent": ("pymon.cli.agent", "answer scrapes of this node and its containers"),
    "app-fetcher": ("pymon.cli.app_fetcher", "fetch the metrics of applications for an agent"),
    "proxy": ("pymon.cli.proxy", "answer tenants' scrapes and discovery from the agents of many nodes"),
    "account": ("pymon.cli.account", "accounts: tenants and operators"),
    "token": ("pymon.cli.token", "bearer tokens of accounts"),
    "cert": ("pymon.cli.cert", "client certificates of accounts, server certificates of proxies and agents"),
    "key": ("pymon.cli.key", "SSH public keys of accounts"),
    "node": ("pymon.cli.node", "the compute nodes whose agents a proxy asks"),
    "claim": ("pymon.cli.claim", "which node holds the UUID of a container that cannot be recomputed"),
    "directory": ("pymon.cli.directory", "the directory itself"),
    "quota": ("pymon.cli.quota", "what accounts may ask of the proxies"),
    "dns": ("pymon.cli.dns", "the DNS zones: what is in them, and whether servers answer so"),
    "explain": ("pymon.cli.explain_request", "why a proxy refused a request, from the id in its answer"),
    "collect": ("pymon.cli.collect", "write one collection to standard output"),
    "containers": ("pymon.cli.containers", "list the containers of this node"),
    "top": ("pymon.cli.top", "show the containers of a node or an account live, or once with their rates"),
    "doctor": ("pymon.cli.doctor", "show what this machine offers, and where each metric comes from"),
    "completion": ("pymon.cli.completion", "print the script with which a shell completes pymon's words"),
    "check-config": ("pymon.cli.check_config", "validate a configuration file without starting"),
}
"""Subcommands by name: the module, which has ``run(argv) -> int``, and the help text."""

_USAGE = "usage: pymon COMMAND [FLAG ...]"


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [_USAGE, "", *(f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items())]
    return "\n".join([*lines, "", "pymon COMMAND --help shows its flags; pymon --version the version."])


def _dispatch(argv: Sequence[str]) -> int:
    match list(argv):
        case []:
            from pymon.config import ConfigError  # noqa: PLC0415

            raise ConfigError(f"expected a command: {', '.join(COMMANDS)}")
        case ["--help" | "-h" | "help", *_]:
            print(_help())
            return 0
        case ["--version", *_]:
            print(f"pymon {pymon.__version__}")
            return 0
        case [name, *rest]:
            if name not in COMMANDS:
                from pymon.config import ConfigError, nearest  # noqa: PLC0415

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
    """Run a command line, by default that of the process. Return the exit code; exceptions are reported, not raised."""
    words = sys.argv[1:] if argv is None else list(argv)
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from pymon.cli.standard_streams import open_standard_streams  # noqa: PLC0415

        open_standard_streams()
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status  # noqa: TRY300  # flush errors are handled below
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()  # the reader has closed the pipe, as `head` does
        return 0
    except Exception as error:  # noqa: BLE001  # the last resort against a traceback
        status = _failed(error, words)
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        return status


def _discard_output() -> None:
    """Drop what standard output has not taken: the interpreter writes it again at its end, which must not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _missing(module: str) -> str:
    if module.startswith("pymon._native"):
        return f"{module} is not built here: proxy, DNS and control groups are for Linux, an agent for illumos, too"
    return f"{module} is not installed: pymon[agent] has what an agent needs, pymon[proxy] what a proxy needs"


def _failed(error: Exception, words: Sequence[str]) -> int:
    """Report an exception in one line. Return the exit code."""
    from pymon.config import ConfigError  # noqa: PLC0415
    from pymon.directory.model import DirectoryError  # noqa: PLC0415

    if isinstance(error, ConfigError | DirectoryError):
        _say(str(error))
        return 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, ModuleNotFoundError) and error.name:
        _say(_missing(error.name))
    elif isinstance(error, OSError):
        if error.errno == errno.EBADF and error.filename is None:
            error.filename = "standard output"
        _say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part is not None))
    else:
        _say(f"internal error: {type(error).__name__}: {error}")
    if _wants_traceback(words):
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    return 1
