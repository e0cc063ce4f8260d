"""``pymon dns``: show the expected DNS zones, and compare them with the answers of DNS servers.

The expected zones are computed from the directory and from the proxy's copies in the data directory, so the proxy need
not run. The options are those of ``pymon proxy``; they are read from its configuration file and variables too.
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
from pymon.front.names import check_zone, view
from pymon.proxy.build import DIRECTORY_COPY, HOLDERS_COPY, INVENTORY_FOLDER
from pymon.proxy.claims import MAX_CONTAINERS
from pymon.proxy.fleet import Fleet
from pymon.proxy.holders import read_copy
from pymon.proxy.inventory_copy import restore
from pymon.proxy.inventory_store import InventoryStore
from pymon.proxy.options import option_table

_SERVER = "ADDRESS or ADDRESS:PORT, and the name of a key after a space if need be"
_VERBS_OWN = {"data-dir", "directory"}


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
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
                _say(f"{address} does not transfer {origin}, so names that should not exist are not found: {error}")
    return status


def parse_server(text: str) -> Secondary:
    """Parse the address of a server, with port 53 by default, and the name of a key.

    Raises ValueError, whose message says what was expected.
    """
    try:
        return parse_secondary(text)
    except ValueError:
        raise ValueError(_SERVER) from None


def _key(server: Secondary, options: DnsOptions) -> dns.tsig.Key | None:
    """Return the TSIG key for transfers from a server, or None.

    The key is the one named in `server`, or else the one that the configuration names for this address. Raises
    ConfigError if the key file does not have it.
    """
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
    """Return `count` names of all zones, chosen at random; all names if `count` is 0.

    The names of the zones and of the proxy are always included.
    """
    names = [name for origin in records.origins for name in records.content(origin)]
    if not count or len(names) <= count:
        return names
    first = [name for name in (*records.origins, f"cmon.{records.zone}") if records.get(name)]
    rest = sorted(set(names).difference(first))
    return [*first, *random.sample(rest, max(0, count - len(first)))]  # not for security


# --- the expected records ------------------------------------------------------------------------


class _Known(NamedTuple):
    """The state that the zones are computed from.

    accounts: snapshot of the directory, or of its copy if the directory is not available.
    proxies: addresses of the proxies, by name.
    """

    accounts: Snapshot
    proxies: dict[str, Addresses]


def _records(call: Call) -> Records:
    logging.basicConfig(format="pymon: %(message)s")
    options = typed(call.settings)
    check_zone(options, call.settings["zone"])
    known = _known(call, options)
    fleet = _fleet(known.accounts, call.data_dir, _url(call))
    places = [place for uuid in fleet.follow() if (place := fleet.last(uuid)) is not None]
    nodes = [node.uuid for node in fleet.nodes()]
    return Records(view(places, nodes, known.accounts, known.proxies, call.settings["zone"], options))


def _url(call: Call) -> str:
    return call.settings["directory"] or str(call.data_dir / DIRECTORY_FILE)


def _known(call: Call, options: DnsOptions) -> _Known:
    url = _url(call)
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


def _fleet(accounts: Snapshot, data_dir: Path, url: str) -> Fleet:
    """Return the fleet that a proxy would know if it started now and no node answered."""
    fleet, now = Fleet(), time.time()
    fleet.resolve_owners(accounts)
    fleet.learn(read_copy(data_dir / HOLDERS_COPY, url)[0], (), now)
    store = InventoryStore(data_dir / INVENTORY_FOLDER)
    for name, node in accounts.nodes.items():
        copy = store.load(name, MAX_CONTAINERS)
        if copy is not None:
            restore(fleet, name, copy, accounts, now)
        if node.uuid is not None:
            fleet.expect(name, node.uuid)
    return fleet


def _say(text: str) -> None:
    print(f"pymon: {text}", file=sys.stderr)


_OPTIONS = (*(option for option in option_table() if option.name not in _VERBS_OWN), *dns_options())

VERBS = (
    Verb("show", "[ZONE]", "print all zones, or one, as a master file", _show, _OPTIONS),
    Verb("check", "", "print how what servers have differs from what they should have", _check, (
        Option("server", STR, (), f"Server to ask, {_SERVER}: transfers are signed with it, and show names that should "
               "not exist.", repeatable=True, check=_check_server),
        Option("sample", INT, 1000, "Names to ask for, chosen at random. 0: all.", check=_check_sample),
        *_OPTIONS,
    )),
)  # fmt: skip
