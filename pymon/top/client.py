"""Asks an agent or a proxy for the summary. What goes wrong is told in one line."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import ssl
import stat
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn, Self

import aiohttp
from cryptography import x509

from pymon.top.document import MAX_BYTES
from pymon.top.text import shown

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_SECONDS = 10.0
"""The longest time that an answer may take."""

UNAUTHORIZED_SECONDS = 5.0
"""The least pause after a 401."""

MAX_PAUSE_SECONDS = 300.0
"""The longest pause that a server may ask for with Retry-After."""

_PATH = "/v1/summary"
_MAX_TOKEN_BYTES = 1024
_MAX_REASON_BYTES = 300
_BLOCK_BYTES = 1 << 16


class AskError(Exception):
    """A request without an answer that is of use. The text is one line. pause: seconds before the next, at least."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(shown(" ".join(text.split())))
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask, and with what. url: scheme, host and port."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class Client:
    """Asks again and again on one connection. Files are read again after a failure, and the token each time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def summary(self) -> bytes:
        """Return the body of an answer, not yet decoded. Raises AskError."""
        target = self._target
        try:
            headers = {"Accept-Encoding": "identity"}
            if target.token_file is not None:
                token = await asyncio.to_thread(_token, target.token_file)
                headers["Authorization"] = f"Bearer {token}"
            if self._session is None:
                self._session = await self._opened()
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._asked(self._session, headers)
        except BaseException as error:
            await self._close()
            if isinstance(error, AskError):
                raise
            if isinstance(error, TimeoutError):
                raise AskError(f"no answer from {target.url} within {ANSWER_SECONDS:.0f} s") from None
            if isinstance(error, OSError | aiohttp.ClientError | ValueError):
                await self._failed(error)
            raise

    async def _opened(self) -> aiohttp.ClientSession:
        context = await asyncio.to_thread(_context, self._target)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, ssl=context),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def _asked(self, session: aiohttp.ClientSession, headers: dict[str, str]) -> bytes:
        async with session.get(self._target.url + _PATH, headers=headers, allow_redirects=False) as answer:
            if answer.status != HTTPStatus.OK:
                await self._refused(answer)
            found = bytearray()
            async for block in answer.content.iter_chunked(_BLOCK_BYTES):
                found += block
                if len(found) > MAX_BYTES:
                    raise AskError(f"the answer of {self._target.url} has more than {MAX_BYTES >> 20} MiB")
            return bytes(found)

    async def _refused(self, answer: aiohttp.ClientResponse) -> NoReturn:
        """Raise the error of an answer with another status than 200."""
        reason = (await answer.content.read(_MAX_REASON_BYTES)).decode("utf-8", "replace").partition("\n")[0]
        text = f"{self._target.url} answers {answer.status}: {reason or answer.reason}"
        if answer.status == HTTPStatus.UNAUTHORIZED:
            text += _credential(self._target) + await asyncio.to_thread(_expired, self._target)
        elif answer.status == HTTPStatus.NOT_FOUND:
            text += " (an agent or proxy of an earlier version has no summary)"
        if "X-Request-Id" in answer.headers:
            text += f" (request {answer.headers['X-Request-Id'][:32]})"
        # Failures are limited by address, and others may have this one too.
        pause = UNAUTHORIZED_SECONDS if answer.status == HTTPStatus.UNAUTHORIZED else 0.0
        with contextlib.suppress(ValueError):
            pause = min(MAX_PAUSE_SECONDS, max(pause, float(answer.headers.get("Retry-After", ""))))
        raise AskError(text, pause)

    async def _failed(self, error: Exception) -> NoReturn:
        """Raise an AskError of what a connection or a file raised."""
        url = self._target.url
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            inner = error.certificate_error
            why = inner.verify_message if isinstance(inner, ssl.SSLCertVerificationError) else inner
            raise AskError(f"the certificate of {url} is not trusted: {why} (--ca-file names its authority)")
        if isinstance(error, aiohttp.ClientConnectorError):
            inner = error.os_error
            if isinstance(inner, ssl.SSLError):  # its number is none of the system
                raise AskError(f"no TLS with {url}: {inner.reason or inner} (http:// if it is an agent without TLS)")
            why = os.strerror(inner.errno) if inner.errno and inner.errno > 0 else inner.strerror or inner
            raise AskError(f"no connection to {url}: {why}{await asyncio.to_thread(_expired, self._target)}")
        if isinstance(error, aiohttp.ClientError | ssl.SSLError | ConnectionError):
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            more = await asyncio.to_thread(_expired, self._target)
            raise AskError(f"the connection to {url} ended: {why}{more}")
        if isinstance(error, OSError) and error.filename is not None:
            raise AskError(f"{error.filename}: {error.strerror}")
        raise AskError(f"no answer from {url}: {error}")

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _credential(target: Target) -> str:
    if target.token_file is not None:
        return f" (the token in {target.token_file} has expired, was revoked, or is another proxy's)"
    if target.cert_file is not None:
        return ""
    return " (expected --token-file, or --cert-file and --key-file)"


def _expired(target: Target) -> str:
    """Return what to say of a client certificate that is no longer valid, "" for another one and for none."""
    if target.cert_file is None:
        return ""
    try:
        certificate = x509.load_pem_x509_certificate(target.cert_file.read_bytes())
    except (OSError, ValueError):
        return ""
    end = certificate.not_valid_after_utc
    return f" (the certificate {target.cert_file} expired on {end:%Y-%m-%d})" if end < dt.datetime.now(dt.UTC) else ""


def _token(file: Path) -> str:
    """Return the token of a file. Raises AskError, OSError."""
    # Without O_NONBLOCK, a named pipe would be waited for.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AskError(f"{file}: expected a regular file")
    with os.fdopen(descriptor, "rb") as stream:
        text = stream.read(_MAX_TOKEN_BYTES + 1).strip()
    if not text or len(text) > _MAX_TOKEN_BYTES or not all(0x21 <= byte <= 0x7E for byte in text):  # noqa: PLR2004
        raise AskError(f"{file}: expected a token, on one line")
    return text.decode("ascii")


def _context(target: Target) -> ssl.SSLContext:
    """Return the TLS settings. Raises AskError."""
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except OSError as error:  # as ssl.SSLError is
        raise AskError(f"{target.ca_file}: no certificates of authorities: {error.strerror}") from None
    if target.cert_file is not None:
        try:
            # Without a password function, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(target.cert_file, target.key_file, password=lambda: "")
        except OSError as error:
            raise AskError(f"{target.cert_file}: no certificate with its key: {error.strerror}") from None
    return context
