"""``pymon check-config FILE``: validate a configuration file without starting anything."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import agent_errors
from pymon.agent.options import option_table as agent_table
from pymon.agent.web_config import KEYS, load_web_config, make_context, read_crl, web_config_errors
from pymon.cli import proxy, up
from pymon.config import ConfigError, Settings, file_values, parse_yaml, read_file
from pymon.dns.options import dns_errors
from pymon.dns.options import typed as dns_typed
from pymon.front.names import name_errors
from pymon.proxy.options import proxy_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pymon.config import Option

_HELP = """\
usage: pymon check-config FILE [FILE ...]

Say whether configuration files can be used, without starting anything. A file is one of an agent, of a proxy, of
`pymon up`, or a web configuration (--web.config.file); its keys tell which. What it names is read too: web
configurations with their certificates, TSIG keys. Every error is a line; the exit code is 2 when there is one.
"""

ARGUMENTS = "FILE [FILE ...]"


def option_table() -> tuple[Option, ...]:
    """Return the options of the command: none."""
    return ()


def run(argv: Sequence[str]) -> int:
    """Print a line for each valid file and each error. Return 0 without errors, else 2."""
    if "--help" in argv or "-h" in argv:
        sys.stdout.write(_HELP)
        return 0
    if not argv or any(word.startswith("-") for word in argv):
        raise ConfigError(f"check-config: expected {ARGUMENTS}")
    status = 0
    for name in argv:
        errors = check(Path(name))
        for error in errors:
            print(f"pymon: {error}", file=sys.stderr)
            status = 2
        if not errors:
            print(f"{name}: ok")
    return status


def check(file: Path) -> list[str]:
    """Return the errors in a file, one line each; an empty list if it is valid."""
    try:
        document = parse_yaml(read_file(file), file)
    except ConfigError as error:
        return [str(error)]
    if {key.partition(".")[0] for key in document} & set(KEYS):
        return list(_web_errors(file))
    checked = [(reader, file_values(reader.table, document, file)) for reader in _readers()]
    unknown = [found.unknown(reader.table) for reader, found in checked]
    errors = [
        _errors(reader, file, *found)
        for (reader, found), number in zip(checked, unknown, strict=True)
        if number == min(unknown)
    ]
    # Several commands can know the file's keys equally well. The file is valid if one of them accepts it.
    return min(errors, key=bool)


class _Reader(NamedTuple):
    """A command that reads configuration files. table: its options. errors: yields the errors in its settings."""

    table: Sequence[Option]
    errors: Callable[[Settings], Iterator[str]]


def _readers() -> tuple[_Reader, ...]:
    return (
        _Reader(agent_table(COLLECTORS), _agent_errors),
        _Reader(proxy.option_table(), _proxy_errors),
        _Reader(up.option_table(), up.settings_errors),
    )


def _errors(reader: _Reader, file: Path, values: Mapping[str, Any], errors: Mapping[str, str]) -> list[str]:
    """Return the errors of single keys, and the errors between settings whose keys are valid."""
    defaults = {option.name: option.default for option in reader.table}
    settings = Settings(defaults | dict(values), dict.fromkeys(values, str(file)))
    fitting = (error for error in reader.errors(settings) if error.partition(":")[0] not in errors)
    return [*errors.values(), *fitting]


def _agent_errors(settings: Settings) -> Iterator[str]:
    yield from agent_errors(settings)
    web: Path | None = settings["web.config.file"]
    if web is not None:
        yield from _web_errors(web)


def _proxy_errors(settings: Settings) -> Iterator[str]:
    yield from proxy_errors(settings)
    errors = list(dns_errors(settings))
    yield from errors
    if not errors:
        yield from name_errors(dns_typed(settings), settings["zone"], settings["web.listen-address"])


def _web_errors(file: Path) -> Iterator[str]:
    try:
        errors = web_config_errors(read_file(file), file)
        if errors:
            yield from errors
            return
        config = load_web_config(file)
        if config.tls:
            make_context(config.tls, file, read_crl(config.tls, file, dt.datetime.now(dt.UTC)))
    except ConfigError as error:
        yield str(error)
