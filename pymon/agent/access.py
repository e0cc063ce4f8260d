"""Access to the agent by its web configuration file, which is read again when it changes."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import math
import ssl
import threading
from typing import TYPE_CHECKING, NamedTuple

from pymon.agent.handle_thread import HandleThread
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

LOOK_SECONDS = 1.0
"""How long a request or a handshake waits until the files were looked at. Nobody waits for files that hang longer."""

_log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """What the files contain. seen: their fingerprint. crl_problem: why the last revocation list is used again."""

    watched: tuple[Path, ...]
    seen: Fingerprint
    config: WebConfig
    context: ssl.SSLContext | None
    crl: bytes | None
    crl_problem: ConfigError | None
    ends: dict[str, float]


class _Files:
    """Reads a web configuration file and the files that it names. After the constructor, for one thread alone.

    The constructor raises ConfigError if a file is not valid.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._watched: tuple[Path, ...] = (file,)
        self._seen: Fingerprint = ()
        self._crl: bytes | None = None
        self.first = self._load()
        self._crl = self.first.crl

    def changed(self) -> _Read | ConfigError | None:
        """Return what the files contain, or why they cannot be used, if one has changed since the last call, else None.

        Without a change it costs a stat of each file.
        """
        if fingerprint(self._watched) == self._seen:
            return None
        try:
            found = self._load()
            if (found.config.tls is None) is not (self.first.config.tls is None):
                raise ConfigError(f"{self._file}: tls_server_config: cannot come or go while serving, start again")  # noqa: TRY301
        except ConfigError as error:
            return error
        self._crl = found.crl
        return found

    def _load(self) -> _Read:
        """Read all files. The fingerprint is taken before they are read, so a later change is noticed next time."""
        self._seen = fingerprint(self._watched)
        config = load_web_config(self._file)
        tls = config.tls
        watched = (self._file, *(tls.files if tls else ()))
        if watched != self._watched:
            self._watched, self._seen = watched, fingerprint(watched)
        crl, problem = self._read_crl(tls) if tls else (None, None)
        context = make_context(tls, self._file, crl) if tls else None
        ends = self._find_ends(tls, crl) if tls else {}
        return _Read(watched, self._seen, config, context, crl, problem, ends)

    def _read_crl(self, tls: TLSConfig) -> tuple[bytes | None, ConfigError | None]:
        try:
            return read_crl(tls, self._file, dt.datetime.now(dt.UTC)), None
        except ConfigError as error:
            if self._crl is None:
                raise
            return self._crl, error

    def _find_ends(self, tls: TLSConfig, crl: bytes | None) -> dict[str, float]:
        ends = {"server": first_end(read_pem(tls.cert, str(self._file)))}
        if tls.client_ca is not None:
            ends["client_ca"] = first_end(read_pem(tls.client_ca, str(self._file)))
        if crl is not None:
            ends["client_crl"] = crl_end(crl)
        return ends


class LiveWebConfig:
    """A web configuration file and the files it names. `refresh` reads them again when one of them has changed.

    The constructor reads them, and raises ConfigError if a file is not valid. If one becomes invalid later, `error` is
    set until it is valid again, each new error is logged, and the last valid configuration stays in use. A revocation
    list that becomes invalid does not delay changes of the other files. Files are read on a thread. Not thread-safe.

    config: the last valid configuration. header_block: its header lines, with line ends. context: its TLS context, None
    without TLS. reloads: what became of reading the files again. ends: when what they contain expires, in seconds since
    the epoch, by use.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._files = _Files(file)
        self._thread: HandleThread | None = None
        self._closed = False
        self._hanging = False
        self._next: asyncio.Future[_Read | ConfigError | None] | None = None
        self._begun = threading.Event()
        self.error: ConfigError | None = None
        self._web, self._revoked = self.reloads = (Reload("web_config"), Reload("client_crl"))
        self._use(self._files.first)

    def _use(self, found: _Read) -> None:
        self.config, self.context, self.ends = found.config, found.context, found.ends
        self.header_block = found.config.header_block
        if found.crl_problem is not None:
            self._revoked.failed("list of revoked certificates", found.crl_problem, changed=True)
        elif found.config.tls is not None:
            self._revoked.worked()
        self._web.worked()

    async def refresh(self) -> None:
        """Look at the files, and use what they contain if one has changed. Waits for at most `LOOK_SECONDS`.

        If they are not valid, or not read in time, set `error` or log that, and keep the last valid values.
        """
        if self._closed:
            return
        if self._thread is None:
            self._thread = HandleThread("pymon-web-config")
        if self._thread.busy_seconds > LOOK_SECONDS:
            self._hangs()
            return
        look = self._next
        if look is None or self._begun.is_set():
            # Files that change after this call was made are seen: the thread has not begun to look.
            begun = self._begun = threading.Event()
            look = self._next = self._thread.call(lambda: self._look(begun))
            look.add_done_callback(self._take)
        await asyncio.wait((look,), timeout=LOOK_SECONDS)
        if not look.done():
            self._hangs()

    def _look(self, begun: threading.Event) -> _Read | ConfigError | None:
        """Look at the files, on the thread. begun: is set first: whoever comes from then on needs another look."""
        begun.set()
        return self._files.changed()

    def _take(self, look: asyncio.Future[_Read | ConfigError | None]) -> None:
        failure = look.exception()
        found = look.result() if failure is None else ConfigError(f"{self._file}: internal error: {failure!r}")
        if isinstance(found, ConfigError):
            self.error = found
            self._web.failed("web configuration", found)
        elif found is not None:
            self.error = None
            self._use(found)
            _log.info("web configuration was read again: %s", self._file)
        elif self._hanging and self.error is None:
            self._web.worked()
        self._hanging = False

    def _hangs(self) -> None:
        """Record that the files are not read in time, once."""
        if not self._hanging:
            self._hanging = True
            self._web.failed("web configuration", TimeoutError(f"{self._file}: not read within {LOOK_SECONDS:g} s"))

    def close(self) -> None:
        """Look at the files no more. Does not wait for the thread."""
        self._closed = True
        if self._thread is not None:
            self._thread.end()

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
