"""Who may be answered: the web configuration file kept fresh, passwords, and the rate limit."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import math
import os
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bcrypt

from pymon.agent.web_config import RateLimit, WebConfig, load_web_config, make_context
from pymon.config import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

_log = logging.getLogger(__name__)

_Fingerprint = tuple[tuple[int, ...] | int, ...]


def _fingerprint(files: tuple[Path, ...]) -> _Fingerprint:
    """What changes when one of the files does."""
    prints: list[tuple[int, ...] | int] = []
    for file in files:
        try:
            stat = os.stat(file)  # noqa: PTH116  # on the path of each request
        except OSError as error:
            prints.append(error.errno or 0)
        else:
            prints.append((stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev))
    return tuple(prints)


class LiveWebConfig:
    """A web configuration file and the files it names, read again when one of them changes.

    The constructor raises ConfigError. Later a bad file shows in `error` until it is good again, and one line is
    logged each time. Not thread-safe.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._watched: tuple[Path, ...] = (file,)
        self._seen: _Fingerprint = ()
        self.config = WebConfig()
        self.header_block = b""
        self.context: ssl.SSLContext | None = None
        self.error: ConfigError | None = None
        self._load()
        self._startup = self.config

    def _load(self) -> None:
        """Read everything. The fingerprint is older than the bytes, so a change while reading is seen next time."""
        self._seen = _fingerprint(self._watched)
        config = load_web_config(self._file)
        watched = (self._file, *(config.tls.files if config.tls else ()))
        if watched != self._watched:
            self._watched, self._seen = watched, _fingerprint(watched)
        self.context = make_context(config.tls, self._file) if config.tls else None
        self.config, self.header_block = config, config.header_block

    def refresh(self) -> None:
        """Look whether a file changed, and read them if so: a stat for each file. The last good values stay."""
        if _fingerprint(self._watched) == self._seen:
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


class TokenBucket:
    """A rate limit for everyone together."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._at = clock()

    def take(self) -> int | None:
        """Take a token: None, or when there is none the whole seconds until there is."""
        now = self._clock()
        interval = self._limit.interval_seconds
        self._tokens = min(float(self._limit.burst), self._tokens + (now - self._at) / interval)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return max(1, math.ceil((1 - self._tokens) * interval))


class BusyError(Exception):
    """More passwords wait to be checked than may."""


class Passwords:
    """Checks of basic authentication against bcrypt hashes, in a thread of its own, with a memory.

    A result stays known under a keyed hash of user, bcrypt hash and password. An unknown user costs what a known
    one does, and equal checks that come together are one.
    """

    MAX_REMEMBERED = 1024
    MAX_WAITING = 64
    _DUMMY_COST = 10

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, bool] = OrderedDict()
        self._waiting: dict[bytes, asyncio.Future[bool]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")
        self._dummies: dict[int, bytes] = {}

    def close(self) -> None:
        """Let the thread go; checks that wait are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _dummy(self, users: Mapping[str, bytes]) -> bytes:
        """A hash that nobody's password has, of the cost that the users' hashes have."""
        cost = max((int(known[4:6]) for known in users.values()), default=self._DUMMY_COST)
        dummy = self._dummies.get(cost)
        if dummy is None:
            alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
            tail = "".join(secrets.choice(alphabet) for _ in range(30))
            dummy = self._dummies[cost] = f"$2b${cost:02d}$abcdefghijklmnopqrstuu{tail}.".encode("ascii")
        return dummy

    async def check(self, header: str | None, users: Mapping[str, bytes]) -> bool:
        """Whether an Authorization header names one of the users and its password. Raises BusyError."""
        credentials = parse_basic(header)
        if credentials is None:
            return False
        user, password = credentials
        known = users.get(user)
        hashed = known if known is not None else self._dummy(users)
        parts = (user.encode("utf-8", "surrogateescape"), hashed, password)
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        name = digest.digest()
        answer = self._remembered.get(name)
        if answer is None:
            answer = await self._compute(name, hashed, password)
        else:
            self._remembered.move_to_end(name)
        return answer and known is not None

    async def _compute(self, name: bytes, hashed: bytes, password: bytes) -> bool:
        future = self._waiting.get(name)
        if future is None:
            if len(self._waiting) >= self.MAX_WAITING:
                raise BusyError
            future = asyncio.get_running_loop().run_in_executor(self._thread, _matches, password, hashed)
            self._waiting[name] = future
            future.add_done_callback(lambda done: self._remember(name, done))
        # Who goes away must not take the answer from those who wait for the same one.
        return await asyncio.shield(future)

    def _remember(self, name: bytes, done: asyncio.Future[bool]) -> None:
        del self._waiting[name]
        if not done.cancelled() and done.exception() is None:
            self._remembered[name] = done.result()
            while len(self._remembered) > self.MAX_REMEMBERED:
                self._remembered.popitem(last=False)


def parse_basic(header: str | None) -> tuple[str, bytes] | None:
    """User and password of a Basic Authorization header, or None when it is none."""
    scheme, _, text = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip().encode("ascii"), validate=True).partition(b":")
    except (binascii.Error, UnicodeEncodeError):
        return None
    return (user.decode("utf-8", "surrogateescape"), password) if colon else None


def _matches(password: bytes, hashed: bytes) -> bool:
    # bcrypt reads 72 bytes and stops at a NUL; the library refuses more, where htpasswd and Go cut.
    try:
        return bcrypt.checkpw(password[:72], hashed)
    except ValueError:
        return False
