"""Who may be answered: the web configuration file kept fresh."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pymon.agent.web_config import WebConfig, load_web_config, make_context, san_allowed
from pymon.config import ConfigError
from pymon.service.files import Fingerprint, fingerprint

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

_log = logging.getLogger(__name__)


class LiveWebConfig:
    """A web configuration file and the files it names, read again when one of them changes.

    The constructor raises ConfigError. Later a bad file shows in `error` until it is good again, and one line is
    logged each time. Not thread-safe.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._watched: tuple[Path, ...] = (file,)
        self._seen: Fingerprint = ()
        self.config = WebConfig()
        self.header_block = b""
        self.context: ssl.SSLContext | None = None
        self.error: ConfigError | None = None
        self._load()
        self._startup = self.config

    def _load(self) -> None:
        """Read everything. The fingerprint is older than the bytes, so a change while reading is seen next time."""
        self._seen = fingerprint(self._watched)
        config = load_web_config(self._file)
        watched = (self._file, *(config.tls.files if config.tls else ()))
        if watched != self._watched:
            self._watched, self._seen = watched, fingerprint(watched)
        self.context = make_context(config.tls, self._file) if config.tls else None
        self.config, self.header_block = config, config.header_block

    def refresh(self) -> None:
        """Look whether a file changed, and read them if so: a stat for each file. The last good values stay."""
        if fingerprint(self._watched) == self._seen:
            return
        config, context = self.config, self.context
        try:
            self._load()
            if (self.config.tls is None) is not (self._startup.tls is None):
                raise ConfigError(f"{self._file}: tls_server_config: cannot come or go while serving, start again")  # noqa: TRY301
        except ConfigError as error:
            self.config, self.context, self.header_block = config, context, config.header_block
            if str(error) != str(self.error):
                _log.error("web configuration is not usable, requests get 500: %s", error)
            self.error = error
        else:
            self.error = None
            _log.info("web configuration was read again: %s", self._file)

    def admits(self, tls: ssl.SSLObject) -> bool:
        """Whether the certificate of a connection has a name that is allowed."""
        allowed = self.config.tls.client_allowed_sans if self.config.tls else None
        return not allowed or san_allowed(tls.getpeercert(), allowed)
