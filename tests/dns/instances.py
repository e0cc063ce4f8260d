"""Instances for tests, by what matters in DNS."""

from __future__ import annotations

from typing import Any

import msgspec

from pymon.dns.view import Instance
from pymon.inventory_document import Container


def instance(
    uuid: str,
    alias: str,
    account: str | None,
    account_name: str,
    running: bool,
    down: bool,
    addresses: tuple[str, ...],
    services: str,
    hidden: bool = False,
    reverse_ptr: str = "",
) -> Instance:
    """An instance of an account. down: marked as not to be used. hidden: without names but the one in ``.cmon``."""
    container = Container(
        uuid=uuid, id=f"/{uuid}", name=alias, runtime="docker", runtime_id="", image="", start=1.0, owner=account,
        state="running" if running else "stopped", health="unhealthy" if down else "", groups=(), services=services,
        namespace="", pod="", pod_id="", addresses=addresses, cns_disable="true" if hidden else None,
        cns_reverse_ptr=reverse_ptr or None,
    )  # fmt: skip
    return Instance(container, account, account_name)


def changed(instance: Instance, **fields: Any) -> Instance:
    """The same with other fields of its container."""
    return instance._replace(container=msgspec.structs.replace(instance.container, **fields))
