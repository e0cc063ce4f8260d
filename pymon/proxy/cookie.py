"""The cookie in which a browser keeps a token after a login (RFC 6265).

It holds the token itself, so that every proxy accepts it and a revoked token ends at once. Scripts cannot read it, and
other sites' requests do not carry it.
"""

from __future__ import annotations

import re

COOKIE = "__Host-pymon"
"""The prefix makes browsers keep it only from HTTPS, for this host alone and the whole of it."""

MAX_AGE_SECONDS = 3600.0

_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
END_COOKIE = f"Set-Cookie: {COOKIE}=; Max-Age=0; {_ATTRIBUTES}\r\n".encode()
"""The header line that ends a login."""

_VALUE = re.compile(r"[A-Za-z0-9._~+/=-]{1,256}")


def set_cookie(authorization: str, expires_at: float, now: float) -> bytes:
    """Return the header line that keeps the token of an Authorization header, b"" without a token in it.

    expires_at, now: when the token expires, and the time, in seconds since the epoch.
    """
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not _VALUE.fullmatch(token):
        return b""
    age = max(0, int(min(MAX_AGE_SECONDS, expires_at - now)))
    return f"Set-Cookie: {COOKIE}={token}; Max-Age={age}; {_ATTRIBUTES}\r\nCache-Control: no-store\r\n".encode()


def authorization_of(cookies: str | None) -> str | None:
    """Return the Authorization header that a Cookie header stands for, None without the cookie."""
    if cookies is None or COOKIE not in cookies:
        return None
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE and _VALUE.fullmatch(value):
            return f"Bearer {value}"
    return None
