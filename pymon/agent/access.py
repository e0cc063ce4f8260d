"""Access to the agent by its web configuration file, which is read again when it changes."""

from __future__ import annotations

import datetime as dt
import logging
import math
import ssl
from typing import TYPE_CHECKING

from pymon.agent.web_config import (
    WebConfig,
    crl_end,
    load_web_config,
    make_context,
    read_crl,
    read_pem,
    san_allowed,
)
from pymon.config import ConfigError
from pymon.service.files import Fingerprint, fingerprint
from pymon.service.reload import Reload, first_end

if TYPE_CHECKING:
    from pathlib import Path

    from pymon.agent.web_config import TLSConfig

_log = logging.getLogger(__name__)


class LiveWebConfig:
    """A web configuration file and the files it names. `refresh` reads them again when one of them has changed.

    The constructor raises ConfigError if a file is not valid. If one becomes invalid later, `error` is set until it is
    valid again, each new error is logged, and the last valid configuration stays in use. A revocation list that becomes
    invalid does not delay changes of the other files. Not thread-safe.

    config: the last valid configuration. header_block: its header lines, with line ends. context: its TLS context, None
    without TLS. reloads: what became of reading the files again. ends: when what they contain expires, in seconds since
    the epoch, by use.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._watched: tuple[Path, ...] = (file,)
        self._seen: Fingerprint = ()
        self.config = WebConfig()
        self.header_block = b""
        self.context: ssl.SSLContext | None = None
        self.error: ConfigError | None = None
        self.ends: dict[str, float] = {}
        self._crl: bytes | None = None
        self._web, self._revoked = self.reloads = (Reload("web_config"), Reload("client_crl"))
        self._load()
        self._web.worked()
        self._startup = self.config

    def _load(self) -> None:
        """Read all files. The fingerprint is taken before they are read, so a later change is noticed next time."""
        self._seen = fingerprint(self._watched)
        config = load_web_config(self._file)
        watched = (self._file, *(config.tls.files if config.tls else ()))
        if watched != self._watched:
            self._watched, self._seen = watched, fingerprint(watched)
        crl = self._read_crl(config.tls) if config.tls else None
        self.context = make_context(config.tls, self._file, crl) if config.tls else None
        self.config, self.header_block, self._crl = config, config.header_block, crl
        self.ends = self._find_ends(config.tls, crl) if config.tls else {}

    def _read_crl(self, tls: TLSConfig) -> bytes | None:
        try:
            crl = read_crl(tls, self._file, dt.datetime.now(dt.UTC))
        except ConfigError as error:
            if self._crl is None:
                raise
            self._revoked.failed("list of revoked certificates", error, changed=True)
            return self._crl
        self._revoked.worked()
        return crl

    def _find_ends(self, tls: TLSConfig, crl: bytes | None) -> dict[str, float]:
        ends = {"server": first_end(read_pem(tls.cert, str(self._file)))}
        if tls.client_ca is not None:
            ends["client_ca"] = first_end(read_pem(tls.client_ca, str(self._file)))
        if crl is not None:
            ends["client_crl"] = crl_end(crl)
        return ends

    def refresh(self) -> None:
        """Read the files again if one has changed. Costs a stat of each file.

        If they are not valid, set `error` and keep the last valid values.
        """
        if fingerprint(self._watched) == self._seen:
            return
        config, context, crl, ends = self.config, self.context, self._crl, self.ends
        try:
            self._load()
            if (self.config.tls is None) is not (self._startup.tls is None):
                raise ConfigError(f"{self._file}: tls_server_config: cannot come or go while serving, start again")  # noqa: TRY301
        except ConfigError as error:
            self.config, self.context, self.header_block = config, context, config.header_block
            self._crl, self.ends = crl, ends
            self.error = error
            self._web.failed("web configuration", error)
        else:
            self.error = None
            self._web.worked()
            _log.info("web configuration was read again: %s", self._file)

    def admits(self, tls: ssl.SSLObject) -> bool:
        """Return whether the client's certificate has an allowed name, or no names are configured."""
        allowed = self.config.tls.client_allowed_sans if self.config.tls else None
        return not allowed or san_allowed(tls.getpeercert(), allowed)

    def still_admits(self, tls: ssl.SSLObject, ends_at: float, now: float) -> bool:
        """Return whether an admitted connection may send another request.

        Returns False if clients are verified, and a file has changed since the handshake or the certificate has
        expired. The client then has to connect again. ends_at: the result of the function `ends_at`. now: seconds since
        the epoch.
        """
        if self.context is None or self.context.verify_mode == ssl.CERT_NONE:
            return True
        return tls.context is self.context and now < ends_at


def ends_at(tls: ssl.SSLObject) -> float:
    """Return when the client's certificate expires, in seconds since the epoch, or infinity without a certificate."""
    end = (tls.getpeercert() or {}).get("notAfter")
    return float(ssl.cert_time_to_seconds(end)) if isinstance(end, str) else math.inf
