"""What of a container goes into DNS."""

from __future__ import annotations

import msgspec

from pymon import services
from pymon.dns.addresses import published
from pymon.dns.names import absolute, label
from pymon.dns.view import Instance
from pymon.services import NONE, Services


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An instance as it is in DNS. account: its UUID, "" when only the ``.cmon`` name of the instance is there.

    alias: a label, "" without one. addresses: as they are published. services: those it takes part in now.
    pointer: what its PTR records say, "" where that is a name of its own.
    """

    uuid: str
    running: bool
    account: str = ""
    account_name: str = ""
    alias: str = ""
    addresses: tuple[str, ...] = ()
    services: Services = NONE
    pointer: str = ""


def made(instance: Instance) -> tuple[Entry, tuple[str, ...]]:
    """The entry of an instance, and why something of it is not there as asked for."""
    uuid, alias, account, account_name, running, down, given, asked_services, hidden, pointer = instance
    if account is None or not given or hidden:
        return Entry(uuid, running), ()
    addresses, problems = published(given)
    asked = services.parse(asked_services)
    if asked.problems:
        problems += asked.problems
    if alias == uuid:
        alias = ""
    elif alias:
        try:
            alias = label(alias)
        except ValueError as error:
            alias, problems = "", (*problems, f"alias {error}")
    if pointer:
        try:
            pointer = absolute(pointer)
        except ValueError as error:
            pointer, problems = "", (*problems, f"reverse_ptr: {error}")
    if not addresses:
        return Entry(uuid, running), problems
    part = asked if running and not down else NONE
    return Entry(uuid, running, account, account_name, alias, addresses, part, pointer), problems
