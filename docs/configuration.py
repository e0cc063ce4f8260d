"""Writes docs/configuration.md: ``python docs/configuration.py > docs/configuration.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pymon.cli.agent import option_table as agent_options
from pymon.cli.up import option_table as up_options
from pymon.config import BOOL, Option
from pymon.dns.options import dns_options
from pymon.proxy.options import option_table as proxy_options

_HEAD = """\
# Configuration

Generated from the tables of options by `make docs`; change those, not this page.

An option is a flag, a key of the YAML file that `--config.file` names, and an environment variable. Flags win over
variables, and variables over the file. `web.listen-address` is `--web.listen-address`, `web: {listen-address: ...}` and
`PYMON_WEB_LISTEN_ADDRESS`. A repeatable option is a list in the file, and its values are separated by commas in the
variable. A switch, here `on` or `off`, is reversed by `--no-`. Unknown keys are errors. `pymon check-config FILE`
prints every error of a file without starting anything.

`--web.config.file` names a file in the format of the Prometheus exporters; `deploy/agent-web.yml` is one.
"""


def configuration_page() -> str:
    """Return the page as Markdown."""
    agent, proxy, dns = agent_options(), proxy_options(), dns_options()
    known = {option.name for option in (*agent, *proxy, *dns)}
    rest = tuple(option for option in up_options() if option.name not in known)
    return "\n".join(
        (
            _HEAD,
            *_section("Agent", "`pymon agent`, and `pymon up`.", agent),
            *_section("Proxy", "`pymon proxy`, and `pymon up`.", proxy),
            *_section("DNS", "`pymon proxy`, and `pymon up`.", dns),
            *_section("`pymon up`", "Besides those of agent, proxy and DNS.", rest),
        )
    )


def _section(title: str, of: str, options: tuple[Option, ...]) -> Iterator[str]:
    yield f"## {title}\n\n{of}\n\n| option | value | default | meaning |\n|---|---|---|---|"
    for option in options:
        value = " ".join(f"`{choice}`" for choice in option.choices) if option.choices else option.kind.metavar
        if option.kind is BOOL:
            value = "switch"
        more = (" Repeatable." if option.repeatable else "") + (" In the file only." if option.file_only else "")
        yield f"| `{option.name}` | {value} | {_default(option)} | {_cell(option.help + more)} |"
    yield ""


def _default(option: Option) -> str:
    if option.kind is BOOL:
        return "on" if option.default else "off"
    if option.default in (None, (), ""):
        return ""
    values = option.default if option.repeatable else (option.default,)
    return " ".join(f"`{value}`" for value in values)


def _cell(text: str) -> str:
    """Return text for a cell: without what Markdown takes for markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    sys.stdout.write(configuration_page())
