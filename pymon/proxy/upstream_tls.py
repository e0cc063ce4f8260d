"""TLS to the agents: verification of agents, and the client certificate of the proxy.

The client certificate is that of ``--upstream.tls-cert-file``. Without this option, a proxy that has the key of the
machines' authority in its data directory issues a certificate for itself. It is valid for 24 hours and is renewed after
two thirds of that time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from pymon.config import ConfigError, read_file
from pymon.directory.authority import CERTIFICATE_FILE, KEY_FILE, PROXY_LIFETIME
from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.directory.machines import Machines
from pymon.directory.model import DirectoryError
from pymon.service.files import Fingerprint, fingerprint
from pymon.service.key_pair import load_pair
from pymon.service.reload import Reload, first_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pymon.proxy.options import ProxyOptions

_log = logging.getLogger(__name__)

_Value = TypeVar("_Value")

RETRY_SECONDS = 60.0
"""Time until the next attempt after a certificate could not be read or issued."""

_RENEW_SECONDS = PROXY_LIFETIME.total_seconds() * 2 / 3
_MAX_BYTES = 4 << 20
"""Largest file with certificates. The authorities of a system have 0.2 MiB."""

_NAME_CHARACTERS = 52
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9.-]")


class _Identity(NamedTuple):
    """A client certificate and its key, in PEM. They may be one text."""

    certificate: bytes
    key: bytes


class _Part(Generic[_Value]):
    """A value made of files. `refresh` makes it again if a file changed or `due_at` has come.

    make: returns the value, when it ends and when it is due to be made again, in seconds since the epoch.
    """

    def __init__(
        self,
        use: str,
        what: str,
        files: Sequence[Path],
        make: Callable[[float], tuple[_Value, float, float]],
        value: _Value,
    ) -> None:
        self.value = value
        self.reload = Reload(use)
        self._what = what
        self._files = files
        self._make = make
        self._seen: Fingerprint = ()
        self._due_at = math.inf

    def refresh(self, now: float) -> bool:
        """Return whether there is a new value. An error is logged, and the value stays."""
        if fingerprint(self._files) == self._seen and now < self._due_at:
            return False
        try:
            self.load(now)
        except (ConfigError, DirectoryError, OSError) as error:
            self.failed(error, now)
            return False
        return True

    def load(self, now: float) -> None:
        """Make the value. Raises ConfigError, DirectoryError or OSError."""
        # Taken before the files are read, so that a change during the read is seen next time.
        self._seen = fingerprint(self._files)
        self.value, ends_at, self._due_at = self._make(now)
        self.reload.worked(ends_at)

    def failed(self, error: Exception, now: float) -> None:
        """Log an error of `load`, and try again after `RETRY_SECONDS`."""
        self._due_at = now + RETRY_SECONDS
        self.reload.failed(self._what, error)


class UpstreamTLS:
    """The two contexts for TLS to agents, rebuilt when a file changes or the certificate must be renewed.

    context: for agents whose certificate an authority signed. pinned: for agents whose certificate is checked by its
    fingerprint. reloads: what became of reading the files again.

    The constructor raises ConfigError for bad files in the options. Later errors are logged, and the last good
    authorities and certificate stay. Not thread-safe. now: seconds since the epoch.
    """

    context: ssl.SSLContext
    pinned: ssl.SSLContext

    def __init__(self, options: ProxyOptions, now: float) -> None:
        self._options = options
        self._machines = options.data_dir / MACHINES_FOLDER
        self._machines_end = math.inf
        default = ssl.get_default_verify_paths()
        trusted = (options.upstream_ca, *(() if options.upstream_ca else (default.cafile, default.capath)))
        self._trust = _Part[bytes | None](
            "upstream_ca", "file of the agents' authorities", _paths(trusted), self._authorities, None
        )
        given = (options.upstream_cert, options.upstream_key)
        authority = (self._machines / KEY_FILE, self._machines / CERTIFICATE_FILE)
        self._identity = _Part[_Identity | None](
            "upstream", "certificate for agents", _paths((*given, *authority)), self._own, None
        )
        self.reloads = (self._trust.reload, self._identity.reload)
        self._trust.load(now)
        try:
            self._identity.load(now)
        except (DirectoryError, OSError) as error:
            # Agents that require no client certificate can still be reached.
            self._identity.failed(error, now)
        self._put()

    @property
    def ends_at(self) -> float:
        """When the client certificate expires, in seconds since the epoch; infinite without one."""
        return self._identity.reload.ends_at

    def ends(self) -> dict[str, float]:
        """Return when what is used here expires, by use, in seconds since the epoch; infinite where it does not."""
        return {one.use: one.ends_at for one in self.reloads} | {"machines_authority": self._machines_end}

    def refresh(self, now: float) -> bool:
        """Rebuild the contexts if a file changed or a renewal is due. Return whether there are new contexts."""
        new = [part.reload.use for part in (self._trust, self._identity) if part.refresh(now)]
        if not new:
            return False
        self._put()
        _log.info("certificates for TLS to agents were read or issued again: %s", ", ".join(new))
        return True

    def _put(self) -> None:
        self.context = _context(self._trust.value, self._identity.value)
        self.pinned = _context(None, self._identity.value, pinned=True)

    def _authorities(self, now: float) -> tuple[bytes | None, float, float]:  # noqa: ARG002
        pem = _read_authorities(self._options.upstream_ca)
        return pem, first_end(pem or b""), math.inf

    def _own(self, now: float) -> tuple[_Identity | None, float, float]:
        if self._options.upstream_cert is not None:
            identity = _read_identity(self._options.upstream_cert, self._options.upstream_key)
            return identity, first_end(identity.certificate), math.inf
        if not (self._machines / KEY_FILE).exists():
            self._machines_end = math.inf
            return None, math.inf, math.inf
        machines = Machines.load(self._machines)
        issued = machines.issue_proxy(own_name())
        self._machines_end = machines.authority.certificate.not_valid_after_utc.timestamp()
        return _Identity(issued, issued), first_end(issued), now + _RENEW_SECONDS


def _paths(names: Iterable[Path | str | None]) -> list[Path]:
    return [Path(name) for name in names if name is not None]


def own_name() -> str:
    """Return the name of this proxy in certificates: the host name, reduced to what `proxy_uri` accepts."""
    name = _NOT_OF_A_NAME.sub("-", socket.gethostname().lower())[:_NAME_CHARACTERS].strip(".-")
    return name or "proxy"


def _read_authorities(file: Path | None) -> bytes | None:
    """Return the authorities in a file, in PEM; None without a file. Raises ConfigError if it cannot be used."""
    if file is None:
        return None
    pem = read_file(file, _MAX_BYTES)
    try:
        _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem)
    except ssl.SSLError as error:
        raise ConfigError(f"{file}: expected certificates in PEM: {error.reason or 'no PEM'}") from None
    return pem


def _read_identity(cert: Path, key: Path | None) -> _Identity:
    """Return the certificate and the key of two files, which may be one. Raises ConfigError if they cannot be used."""
    key = key or cert
    certificate = read_file(cert, _MAX_BYTES)
    identity = _Identity(certificate, certificate if key == cert else read_file(key, _MAX_BYTES))
    try:
        _show(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), identity)
    except ValueError as error:
        raise ConfigError(f"{cert}: expected a certificate and its key in {key} in PEM: {error}") from None
    return identity


def _context(authorities: bytes | None, identity: _Identity | None, *, pinned: bool = False) -> ssl.SSLContext:
    """Return a context that trusts these authorities, the system's for None. pinned: the caller verifies the agent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authorities is None:
        context.load_default_certs()
    else:
        _trust(context, authorities)
    if identity is not None:
        _show(context, identity)
    return context


def _trust(context: ssl.SSLContext, authorities: bytes) -> None:
    with _in_memory(authorities) as file:
        context.load_verify_locations(cafile=file)


def _show(context: ssl.SSLContext, identity: _Identity) -> None:
    with _in_memory(identity.certificate) as certificate, _in_memory(identity.key) as key:
        load_pair(context, certificate, key)


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """Return the name of a file with these bytes that is on no disk, because OpenSSL takes files only."""
    with open(os.memfd_create("pymon-pem"), "wb") as stream:  # noqa: PTH123  # a descriptor
        stream.write(data)
        stream.flush()
        yield f"/proc/self/fd/{stream.fileno()}"
