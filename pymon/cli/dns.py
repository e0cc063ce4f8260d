"""``pymon dns``: the zones as they should be, from the directory and the proxy's copies, and whether servers have them.

No proxy needs to run. The options are those of ``pymon proxy``, in its file and variables too.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import dns.tsig

from pymon._native.responder import Zones
from pymon.cli.dns_check import AnswerError, differences, excess
from pymon.cli.names import check_zone, view
from pymon.cli.verbs import Call, Verb, run_verb
from pymon.config import INT, STR, ConfigError, Option, shown
from pymon.directory.data_dir import DIRECTORY_FILE
from pymon.directory.directory import open_directory
from pymon.directory.live import LiveDirectory
from pymon.directory.model import Snapshot, UnavailableError
from pymon.directory.presence import Addresses, present
from pymon.dns.options import DnsOptions, Primary, Secondary, dns_options, parse_secondary, typed
from pymon.dns.records import Records
from pymon.dns.zone import Zone
from pymon.proxy.build import DIRECTORY_COPY, INVENTORY_FOLDER
from pymon.proxy.fleet import Fleet
from pymon.proxy.inventory import restore
from pymon.proxy.inventory_store import InventoryStore
from pymon.proxy.options import option_table

_SERVER = "ADDRESS or ADDRESS:PORT, and the name of a key after a space if need be"
_VERBS_OWN = {"data-dir", "directory"}


def run(argv: Sequence[str]) -> int:
    """Run a verb."""
    return run_verb("dns", VERBS, argv)


def _show(call: Call) -> int:
    records = _records(call)
    origins = records.origins
    if call.arguments:
        wanted = call.arguments[0].lower()
        origins = tuple(origin for origin in origins if origin in (wanted, f"{wanted}."))
        if not origins:
            raise ConfigError(f"expected a zone, {' or '.join(records.origins)}, got {shown(call.arguments[0])}")
    for problem in records.problems():
        _say(f"{problem.uuid}: {problem.text}".removeprefix(": "))
    for line in _master_file(records, origins):
        print(line)
    return 0


def _check(call: Call) -> int:
    options = typed(call.settings)
    servers = [(server, _key(server, options)) for server in map(parse_server, call.settings["server"])]
    if not servers:
        raise ConfigError(f"expected --server {_SERVER}")
    records = _records(call)
    names = _sample(records, call.settings["sample"])
    primaries = {primary.address for primary in options.primaries}
    status = 0
    for server, key in servers:
        address = server.address
        try:
            for line in differences(address, records, names, registered=address in primaries):
                status = 1
                print(line)
        except AnswerError as error:
            status = 1
            print(f"{address} does not answer: {error}")
            continue
        for origin in records.origins:
            try:
                for line in excess(address, key, origin, records, options.register_owner):
                    status = 1
                    print(line)
            except AnswerError as error:
                if server.key is not None:
                    status = 1
                _say(f"{address} gives no transfer of {origin}, so names in excess are not seen: {error}")
    return status


def parse_server(text: str) -> Secondary:
    """The address of a server, with port 53 where it has none, and a key. ValueError says what was expected."""
    try:
        return parse_secondary(text)
    except ValueError:
        raise ValueError(_SERVER) from None


def _key(server: Secondary, options: DnsOptions) -> dns.tsig.Key | None:
    """What transfers from a server are signed with: the key that it is named with, there or in the configuration."""
    known: list[Primary | Secondary] = [server, *options.primaries, *options.secondaries]
    name = next((one.key for one in known if one.address == server.address and one.key is not None), None)
    if name is None:
        return None
    key = (options.keys or {}).get(name)
    if key is None:
        raise ConfigError(f"--server: expected a key of dns.tsig-key-file, got {name}")
    return key


def _check_server(text: str) -> None:
    parse_server(text)


def _check_sample(value: int) -> None:
    if value < 0:
        raise ValueError("0 or more")


def _master_file(records: Records, origins: Sequence[str]) -> Iterator[str]:
    natives = Zones()
    for origin in origins:
        zone = Zone(natives, origin, clock=time.time)
        for problem in zone.replace(records.content(origin)):
            _say(problem)
        yield from zone.text()
        zone.close()


def _sample(records: Records, count: int) -> list[str]:
    """So many names of all zones, those that are not a container's among them in any case; 0 is all."""
    names = [name for origin in records.origins for name in records.content(origin)]
    if not count or len(names) <= count:
        return names
    first = [name for name in (*records.origins, f"cmon.{records.zone}") if records.get(name)]
    rest = sorted(set(names).difference(first))
    return [*first, *random.sample(rest, max(0, count - len(first)))]  # nothing is guarded by it


# --- what should be there ------------------------------------------------------------------------


class _Known(NamedTuple):
    """accounts: the directory or its copy. proxies: addresses by name."""

    accounts: Snapshot
    proxies: dict[str, Addresses]


def _records(call: Call) -> Records:
    logging.basicConfig(format="pymon: %(message)s")
    options = typed(call.settings)
    check_zone(options, call.settings["zone"])
    known = _known(call, options)
    fleet = _fleet(known.accounts, call.data_dir)
    places = [place for uuid in fleet.follow() if (place := fleet.last(uuid)) is not None]
    nodes = [node.uuid for node in fleet.nodes()]
    return Records(view(places, nodes, known.accounts, known.proxies, call.settings["zone"], options))


def _known(call: Call, options: DnsOptions) -> _Known:
    url: str = call.settings["directory"] or str(call.data_dir / DIRECTORY_FILE)
    live = LiveDirectory(url, call.data_dir / DIRECTORY_COPY, lambda _: None)
    accounts = live.peek()
    proxies: dict[str, Addresses] = {}
    if live.error:
        _say(f"from the copy of the directory: {live.error}")
    else:
        try:
            with open_directory(url, read_only=True) as directory:
                proxies = present(directory)
        except UnavailableError as error:
            _say(f"proxies are not known: {error}")
    return _Known(accounts, proxies or ({"": options.proxy_addresses} if options.proxy_addresses else {}))


def _fleet(accounts: Snapshot, data_dir: Path) -> Fleet:
    """What a proxy would know that begins now and hears of no node."""
    fleet, now = Fleet(), time.time()
    fleet.resolve_owners(accounts)
    store = InventoryStore(data_dir / INVENTORY_FOLDER)
    for name, node in accounts.nodes.items():
        copy = store.load(name)
        if copy is not None:
            restore(fleet, name, copy, accounts.nodes, accounts, now)
        if node.uuid is not None:
            fleet.expect(name, node.uuid)
    return fleet


def _say(text: str) -> None:
    print(f"pymon: {text}", file=sys.stderr)


_OPTIONS = (*(option for option in option_table() if option.name not in _VERBS_OWN), *dns_options())

VERBS = (
    Verb("show", "[ZONE]", "print all zones, or one, as a master file", _show, _OPTIONS),
    Verb("check", "", "print how what servers have differs from what they should have", _check, (
        Option("server", STR, (), f"Server to ask, {_SERVER}: transfers are signed with it, and show names in excess.",
               repeatable=True, check=_check_server),
        Option("sample", INT, 1000, "Names to ask for, chosen at random. 0: all.", check=_check_sample),
        *_OPTIONS,
    )),
)  # fmt: skip
