"""Compression of response bodies.

gzip uses ISA-L. On expositions its level 1 is ten times as fast as level 6 of zlib, and its output is not larger. It
releases the interpreter lock. Without ISA-L it is level 1 of zlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from isal import isal_zlib as zlib
except ImportError:  # not for every platform
    import zlib  # type: ignore[no-redef]

if TYPE_CHECKING:
    from isal import isal_zlib

    from pymon._native.renderer import Body

_LEVEL = 1
_GZIP_WRAPPER = 31
"""wbits for the largest window with gzip's header and trailer (zlib.h, deflateInit2)."""


def gzip(body: Body | bytes) -> bytes:
    """Return the body as one gzip member (RFC 1952)."""
    packed: bytes = zlib.compress(body, _LEVEL, _GZIP_WRAPPER)
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
