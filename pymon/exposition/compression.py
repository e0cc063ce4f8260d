"""Compression of response bodies.

gzip uses ISA-L. On expositions its level 1 is ten times as fast as level 6 of zlib, and its output is not larger.
Without ISA-L it is level 1 of zlib. zstd takes half the time of ISA-L, and its output is a quarter as large. All three
release the interpreter lock.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

try:
    from isal import isal_zlib as zlib
except ImportError:  # not for every platform
    import zlib  # type: ignore[no-redef]
try:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
except ImportError:  # not for every platform
    _has_zstd = False
else:
    _has_zstd = True

if TYPE_CHECKING:
    from isal import isal_zlib

    from pymon._native.renderer import Body
    from pymon.exposition.negotiation import Coding

CODINGS: tuple[Coding, ...] = ("zstd", "gzip") if _has_zstd else ("gzip",)
"""What `encode` can do besides identity, the one that costs least first."""

_ZSTD_LEVEL = 2
"""As fast as level 1 on expositions, and smaller. Its window, 1 MiB, is one that every client accepts (RFC 9659)."""

_LEVEL = 1
_GZIP_WRAPPER = 31
"""wbits for the largest window with gzip's header and trailer (zlib.h, deflateInit2)."""


def gzip(body: Body | bytes) -> bytes:
    """Return the body as one gzip member (RFC 1952)."""
    packed: bytes = zlib.compress(body, _LEVEL, _GZIP_WRAPPER)
    return packed


def encode(body: Body | bytes, coding: Coding) -> Body | bytes:
    """Return the body in a content coding, which is identity or one of `CODINGS`."""
    if coding == "identity":
        return body
    if coding == "gzip":
        return gzip(body)
    packed: bytes = zstd.compress(body, _ZSTD_LEVEL)
    return packed


def gzip_pieces() -> isal_zlib.Compress:
    """Return a compressor for a body that is made in pieces; all that it returns together is one gzip member."""
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WRAPPER)


def pack(data: bytes) -> bytes:
    """Return data compressed, to be kept and given to `unpack`."""
    packed: bytes = zlib.compress(data, _LEVEL)
    return packed


def unpack(packed: bytes) -> bytes:
    """Return the data of which `pack` made this."""
    data: bytes = zlib.decompress(packed)
    return data
