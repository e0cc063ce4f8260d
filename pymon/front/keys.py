"""Reads the file of the TSIG keys again when it changes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pymon.config import ConfigError
from pymon.service.files import fingerprint
from pymon.service.reload import FileThread, Reload

if TYPE_CHECKING:
    from pymon.dns.tsig import LiveKeys
    from pymon.proxy.build import Proxy

_log = logging.getLogger(__name__)


def follow_keys(proxy: Proxy, keys: LiveKeys) -> FileThread:
    """Return a thread that reads the keys again. What became of it is among the proxy's reloads."""
    reload = Reload("dns_keys")
    reload.worked()
    proxy.reloads.append(reload)
    seen = fingerprint((keys.path,))

    def look() -> None:
        nonlocal seen
        found = fingerprint((keys.path,))
        if found == seen:
            return
        # Taken before the file is read, so that a change during the read is seen next time.
        seen = found
        try:
            keys.refresh()
        except ConfigError as error:
            reload.failed("file of the TSIG keys", error)
        else:
            reload.worked()
            _log.info("TSIG keys were read again: %s", keys.path)

    return FileThread("TSIG keys", look)
