"""The part of a container's description that goes into DNS."""

from __future__ import annotations

import msgspec

from pymon import service_labels
from pymon.dns.addresses import published
from pymon.dns.names import absolute
from pymon.dns.view import Instance
from pymon.dns_label import label
from pymon.service_labels import NONE, Services

_UP = (None, "up")
_SHOWN = (None, "false")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An instance as it is published in DNS.

    account: UUID of the account, "" if only the ``.cmon`` name of the instance is published. alias: a DNS label, "" for
    none. addresses: the published addresses. services: the services that the instance is part of now. pointer: the
    requested target of its PTR records, "" for its own name.
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
    """Return the entry of an instance, and one line for each part of its request that is not published."""
    container, account, account_name = instance
    uuid, alias, pointer = container.uuid, container.name, container.cns_reverse_ptr or ""
    running = container.state != "stopped"
    if account is None or not container.addresses or container.cns_disable not in _SHOWN:
        return Entry(uuid, running), ()
    addresses, problems = published(container.addresses)
    asked = service_labels.parse(container.services)
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
    usable = container.state == "running" and container.health != "unhealthy" and container.cns_status in _UP
    part = asked if usable else NONE
    return Entry(uuid, running, account, account_name, alias, addresses, part, pointer), problems
