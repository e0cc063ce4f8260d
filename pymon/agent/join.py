"""A node that joins by itself: the agent gets a certificate from a proxy, serves with it, and renews it.

The proxy is verified by TLS. The first request shows a token, the later ones a signature by the key of the current
certificate. Each certificate has a new key, which never leaves the node.

The folder ``join`` in the data directory holds the key with its certificate in one file, so that both are replaced at
once, the machines' authority, and the web configuration with which the agent serves.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import ipaddress
import logging
import os
import random
import re
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pymon.config import ConfigError, shown
from pymon.data_dir import default_data_dir
from pymon.service.http1 import ResponseError, ResponseReader
from pymon.whole_file import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from uuid import UUID

    from pymon.agent.options import AgentOptions
    from pymon.service.http1 import Response

FOLDER = "join"
NODE_FILE, AUTHORITY_FILE, WEB_FILE = "node.pem", "ca-cert.pem", "web.yml"
"""Names of the files in the folder: the key and its certificate, the machines' authority, the web configuration."""

ANSWER_SECONDS = 15.0
RETRY_SECONDS = (1.0, 60.0)
"""The first and the longest pause after a request that failed. The pause doubles each time."""

LOOK_SECONDS = 3600.0
"""How often a running agent looks whether its certificate has to be renewed."""

_RENEW_PART = 2 / 3
"""A certificate is renewed after this part of its time."""

_MAX_TOKEN_BYTES = 1024
_MAX_ANSWER_BYTES = 65536
_RENEWAL = b"pymon node renewal\n"
_FINGERPRINT = re.compile(r"[!-~]+\.([0-9a-f]{64})")
_WEB = """# Written by pymon agent --join.
tls_server_config:
  cert_file: {node}
  key_file: {node}
  client_ca_file: {authority}
  client_auth_type: RequireAndVerifyClientCert
"""

_log = logging.getLogger("pymon.agent")


class _AgainError(Exception):
    """A request that failed and may succeed later. The text is one line."""


class Joining:
    """The certificate of this node. uuid: of the node. Use one object for one event loop."""

    def __init__(self, options: AgentOptions, uuid: UUID) -> None:
        assert options.join is not None  # noqa: S101  # the caller has looked
        parts = urlsplit(options.join)
        self._options = options
        self._uuid = uuid
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._name = options.join_name or socket.gethostname().lower()
        self._folder = (options.data_dir or default_data_dir(os.environ, os.geteuid())).absolute() / FOLDER
        self._renew_at = dt.datetime.min.replace(tzinfo=dt.UTC)

    @property
    def web_config(self) -> Path:
        """The web configuration file to serve with."""
        return self._folder / WEB_FILE

    async def obtain(self, stop: asyncio.Event) -> bool:
        """Join unless there is a certificate in force. Return False if `stop` is set before that succeeds.

        Repeats while no proxy can sign. Raises ConfigError if a file cannot be used, or a proxy refuses the request.
        """
        if self._in_force():
            return True
        if self._options.join_token_file is None:
            raise ConfigError(
                f"join.token-file: expected one, as {self._folder / NODE_FILE} has no certificate in force"
            )
        token = _read_token(self._options.join_token_file)
        joining = asyncio.create_task(self._repeated(lambda: self._join(token)))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((joining, stopping), return_when=asyncio.FIRST_COMPLETED)
            if joining.done():
                await joining
            return joining.done()
        finally:
            for task in (joining, stopping):
                task.cancel()
            await asyncio.gather(joining, stopping, return_exceptions=True)

    async def keep(self) -> None:
        """Renew the certificate in time, until cancelled."""
        while True:
            if dt.datetime.now(dt.UTC) >= self._renew_at:
                try:
                    await self._repeated(self._renew)
                except ConfigError as error:
                    _log.error("certificate is not renewed: %s", error)
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311  # spreads the renewals

    async def _repeated(self, attempt: Callable[[], object]) -> None:
        """Make attempts until one succeeds. Raises ConfigError."""
        pause, longest = RETRY_SECONDS
        said = ""
        while True:
            try:
                await attempt()  # type: ignore[misc]  # a coroutine function
            except _AgainError as error:
                if str(error) != said:
                    _log.warning(
                        "no certificate yet", extra={"fields": {"proxy": self._options.join, "problem": error}}
                    )
                said = str(error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads the attempts
                pause = min(longest, 2 * pause)
            else:
                return

    # --- the two requests ------------------------------------------------------------------------

    async def _join(self, token: str) -> None:
        match = _FINGERPRINT.fullmatch(token)
        fingerprint = match[1] if match else ""
        context = await self._first_context(fingerprint)
        key = ec.generate_private_key(ec.SECP256R1())
        fields = {
            "Authorization": f"Bearer {token}",
            "Node-Name": self._name,
            "Node-Uuid": str(self._uuid),
            "Certificate-Request": _binary(_request(key)),
        }
        pem = await self._ask("POST", "/v1/join", context, fields)
        await self._store(key, pem, fingerprint)
        _log.info("joined", extra={"fields": {"node": self._name, "proxy": self._options.join}})

    async def _renew(self) -> None:
        try:
            node = await asyncio.to_thread((self._folder / NODE_FILE).read_bytes)
        except OSError as error:
            raise ConfigError(f"{self._folder / NODE_FILE}: cannot be read: {error.strerror}") from None
        key, certificate = _pair(node)
        new = ec.generate_private_key(ec.SECP256R1())
        request = _request(new)
        fields = {
            "Certificate-Request": _binary(request),
            "Node-Certificate": _binary(certificate.public_bytes(Encoding.DER)),
            "Renewal-Signature": _binary(key.sign(_RENEWAL + request, ec.ECDSA(hashes.SHA256()))),
        }
        context = await asyncio.to_thread(_context, self._options.join_ca_file or self._folder / AUTHORITY_FILE)
        await self._store(new, await self._ask("POST", "/v1/renew", context, fields), "")
        _log.info("certificate renewed", extra={"fields": {"node": self._name, "proxy": self._options.join}})

    async def _first_context(self, fingerprint: str) -> ssl.SSLContext:
        """Return the context that verifies the proxy before there is an authority in the folder."""
        if self._options.join_ca_file is not None:
            return _context(self._options.join_ca_file)
        if not fingerprint:
            raise ConfigError("join.ca-file: expected one, as the token has no fingerprint of the machines' authority")
        # What comes over this connection is believed only if it has the fingerprint.
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        for certificate in _certificates(await self._ask("GET", "/v1/join", unverified, {})):
            if _fingerprint(certificate) == fingerprint:
                return ssl.create_default_context(cadata=certificate.public_bytes(Encoding.PEM).decode("ascii"))
        raise ConfigError(f"join: the proxy at {self._options.join} has another authority than the token says")

    async def _ask(self, method: str, path: str, context: ssl.SSLContext, fields: Mapping[str, str]) -> bytes:
        """Return the body of an answer of one of the proxy's addresses: of the first that has one with status 200.

        Raises _AgainError, and ConfigError if the request was refused.
        """
        loop = asyncio.get_running_loop()
        problem = "no address"
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _AgainError(f"{self._host}: {error.strerror}") from None
        for *_, address in found:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    response = await self._exchange(str(address[0]), method, path, context, fields)
            except (OSError, EOFError, ResponseError, TimeoutError) as error:
                problem = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
                problem = problem or "no answer in time"
                continue
            text = response.body[:500].decode("utf-8", "replace").strip()
            if response.status == 200:  # noqa: PLR2004
                return response.body
            if response.status in (429, 500, 502, 503, 504):
                problem = text
                continue
            raise ConfigError(f"join: {self._options.join} refused: {_line(text)}")
        raise _AgainError(_line(problem))

    async def _exchange(
        self, address: str, method: str, path: str, context: ssl.SSLContext, fields: Mapping[str, str]
    ) -> Response:
        reader, writer = await asyncio.open_connection(address, self._port, ssl=context, server_hostname=self._host)
        try:
            given = dict(fields)
            if path == "/v1/join" and method == "POST":
                given["Node-Url"] = self._node_url(writer.get_extra_info("sockname")[0])
            host = f"[{self._host}]" if ":" in self._host else self._host
            lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{self._port}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in given.items()]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
            parser = ResponseReader()
            parser.begin(_MAX_ANSWER_BYTES)
            while True:
                data = await reader.read(_MAX_ANSWER_BYTES)
                if not data:
                    raise EOFError("the connection ended before an answer")
                response = parser.receive(data)
                if response is not None:
                    return response
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                writer.transport.abort()

    def _node_url(self, local: str) -> str:
        """Return the URL to register. local: the address from which the proxy is reached."""
        if self._options.join_node_url is not None:
            return self._options.join_node_url
        listen = self._options.listen_addresses[0]
        if not listen.port:
            raise ConfigError("web.listen-address: expected a port other than 0 with --join")
        host = local if listen.host in ("", "0.0.0.0", "::") else listen.host  # noqa: S104  # compared, not bound
        if _is_loopback(host) and not _is_loopback(local):
            raise ConfigError(
                f"web.listen-address: expected an address that proxies reach with --join, got {listen}; "
                "or say the URL with --join.node-url"
            )
        return f"https://[{host}]:{listen.port}" if ":" in host else f"https://{host}:{listen.port}"

    # --- files -----------------------------------------------------------------------------------

    def _in_force(self) -> bool:
        """Return whether the folder has a certificate that is in force, and note when it has to be renewed."""
        try:
            _, certificate = _pair((self._folder / NODE_FILE).read_bytes())
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ConfigError(f"{self._folder / NODE_FILE}: cannot be read: {error.strerror}") from None
        self._note(certificate)
        return dt.datetime.now(dt.UTC) < certificate.not_valid_after_utc

    def _note(self, certificate: x509.Certificate) -> None:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        self._renew_at = begin + (end - begin) * _RENEW_PART

    async def _store(self, key: ec.EllipticCurvePrivateKey, pem: bytes, fingerprint: str) -> None:
        """Check what a proxy has issued and write the files. Raises _AgainError."""
        certificate, *authorities = _certificates(pem)
        try:
            is_ours = certificate.public_key() == key.public_key()
        except (ValueError, UnsupportedAlgorithm):
            is_ours = False
        if not is_ours or not authorities:
            raise _AgainError("the proxy answered with a certificate for another key, or without its authority")
        if fingerprint and fingerprint not in map(_fingerprint, authorities):
            raise _AgainError("the proxy answered with another authority than the token says")
        try:
            certificate.verify_directly_issued_by(authorities[0])
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise _AgainError("the proxy answered with a certificate that its authority did not sign") from None
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        # The authorities as parsed: nothing else of the answer gets into a file.
        trusted = b"".join(authority.public_bytes(Encoding.PEM) for authority in authorities)
        web = _WEB.format(node=NODE_FILE, authority=AUTHORITY_FILE).encode()
        files = {AUTHORITY_FILE: trusted, WEB_FILE: web, NODE_FILE: private + certificate.public_bytes(Encoding.PEM)}
        await asyncio.to_thread(self._write, files)
        self._note(certificate)

    def _write(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            file = self._folder / name
            try:
                if not file.exists() or file.read_bytes() != data:
                    replace_file(file, data)
            except OSError as error:
                raise ConfigError(f"{file}: cannot be written: {error.strerror}") from None


def _line(text: str) -> str:
    """Return what a proxy said as one line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _read_token(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    text = data.decode("latin-1").strip()
    if len(data) > _MAX_TOKEN_BYTES or not re.fullmatch(r"pymon-node\.[0-9A-Za-z_.-]+", text):
        raise ConfigError(f"{file}: expected a token of `pymon node token create`, got {shown(text[:8])}...")
    return text


def _request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate request for a key, in DER. The proxy decides what is in the certificate."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _binary(data: bytes) -> str:
    return f":{base64.b64encode(data).decode('ascii')}:"


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise _AgainError("the proxy answered with no certificates in PEM") from None


def _pair(data: bytes) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return the key and the certificate in the node's file. Raises ConfigError."""
    try:
        key, certificate = load_pem_private_key(data, None), x509.load_pem_x509_certificate(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{FOLDER}/{NODE_FILE}: expected a key and its certificate in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{FOLDER}/{NODE_FILE}: expected a key and its certificate, got those of two pairs")
    return key, certificate


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _context(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # also ssl.SSLError
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "expected certificates in PEM"
        raise ConfigError(f"{file}: {reason}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
