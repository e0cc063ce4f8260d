"""Passwords of basic authentication. They are checked without blocking the event loop."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from collections.abc import Mapping


class BusyError(Exception):
    """Too many passwords are waiting to be checked."""


class Passwords:
    """Checks basic authentication against bcrypt hashes in a thread of its own, and caches the results.

    The key of the cache is a keyed hash of user, bcrypt hash and password. A check of an unknown user takes as long as
    one of a known user, so that the time does not reveal user names. Equal checks at the same time are done once.
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
        """Stop the thread. Checks that are still waiting are cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _dummy(self, users: Mapping[str, bytes]) -> bytes:
        """Return a hash that matches no password, with the highest cost of the users' hashes."""
        cost = max((int(known[4:6]) for known in users.values()), default=self._DUMMY_COST)
        dummy = self._dummies.get(cost)
        if dummy is None:
            alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
            tail = "".join(secrets.choice(alphabet) for _ in range(30))
            dummy = self._dummies[cost] = f"$2b${cost:02d}$abcdefghijklmnopqrstuu{tail}.".encode("ascii")
        return dummy

    async def check(self, header: str | None, users: Mapping[str, bytes]) -> bool:
        """Return whether an Authorization header has the name and the password of a user. Raises BusyError.

        users: name -> bcrypt hash.
        """
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
        # Shielded, because other callers may wait for the same result when one of them is cancelled.
        return await asyncio.shield(future)

    def _remember(self, name: bytes, done: asyncio.Future[bool]) -> None:
        del self._waiting[name]
        if not done.cancelled() and done.exception() is None:
            self._remembered[name] = done.result()
            while len(self._remembered) > self.MAX_REMEMBERED:
                self._remembered.popitem(last=False)


def parse_basic(header: str | None) -> tuple[str, bytes] | None:
    """Return user and password of a Basic Authorization header, None if it is absent or not valid."""
    scheme, _, text = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip().encode("ascii"), validate=True).partition(b":")
    except (binascii.Error, UnicodeEncodeError):
        return None
    return (user.decode("utf-8", "surrogateescape"), password) if colon else None


def _matches(password: bytes, hashed: bytes) -> bool:
    # bcrypt uses at most 72 bytes, up to a NUL. The library refuses other passwords; htpasswd and Go truncate them.
    try:
        return bcrypt.checkpw(password[:72], hashed)
    except ValueError:
        return False
