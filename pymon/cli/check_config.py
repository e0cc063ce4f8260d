"""``pymon check-config FILE``: validate the file of an agent or a proxy, or a web configuration, without starting."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import check_agent_file
from pymon.agent.options import option_table as agent_options
from pymon.agent.web_config import KEYS, load_web_config, make_context
from pymon.cli.names import check_names
from pymon.config import ConfigError, parse_yaml, read_file
from pymon.dns.options import dns_options
from pymon.dns.options import typed as dns_typed
from pymon.proxy.options import check_proxy_file
from pymon.proxy.options import option_table as proxy_options

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROXY_KEYS = {option.name.partition(".")[0] for option in (*proxy_options(), *dns_options())} - {
    option.name.partition(".")[0] for option in agent_options(COLLECTORS)
}
"""First parts of the keys that only a proxy has."""

_USAGE = "usage: pymon check-config FILE [FILE ...]"


def check(file: Path) -> None:
    """Raise ConfigError unless the file can be used. What it holds decides whose it is."""
    keys = {key.partition(".")[0] for key in parse_yaml(read_file(file), file)}
    if keys & set(KEYS):
        config = load_web_config(file)
        if config.tls:
            make_context(config.tls, file)
        return
    if keys & _PROXY_KEYS:
        settings = check_proxy_file(file, dns_options())
        check_names(dns_typed(settings), settings["zone"], settings["web.listen-address"])
        return
    web = check_agent_file(file, COLLECTORS)
    if web is not None:
        check(web)


def run(argv: Sequence[str]) -> int:
    """A line for each file; 0 when all are good, else 2."""
    if "--help" in argv or "-h" in argv:
        print(_USAGE)
        return 0
    if not argv or any(word.startswith("-") for word in argv):
        raise ConfigError("check-config: expected FILE [FILE ...]")
    status = 0
    for name in argv:
        try:
            check(Path(name))
        except ConfigError as error:
            print(f"pymon: {error}", file=sys.stderr)
            status = 2
        else:
            print(f"{name}: ok")
    return status
