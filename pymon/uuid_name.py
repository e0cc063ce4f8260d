"""The name from which a container's UUID is computed. An agent reports it, and a proxy checks the UUID with it.

The UUID is version 5 (RFC 4122 section 4.3). Its namespace is the node's UUID. The name is the text
`runtime:namespace:[uid:]id` or `cgroup:path`. A path may be long and need not be UTF-8. If the text is not valid UTF-8
or is longer than 8 KiB, the name is `sha256:` and the hexadecimal SHA-256 of its bytes. So a name can always be sent as
JSON. Two texts never have the same name, since no runtime is called sha256.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from uuid import UUID, uuid5

MAX_BYTES = 8192
"""The maximum length of a name in UTF-8."""


def uuid_name(text: str) -> str:
    """Return the name for a text. Bytes that are not UTF-8 must be lone surrogates, as `os.fsdecode` makes them.

    Raises ValueError for other surrogates.
    """
    try:
        if len(text.encode()) <= MAX_BYTES:
            return text
    except UnicodeEncodeError:
        pass  # it has lone surrogates
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


def container_uuid(node: UUID, name: str) -> UUID:
    """Return the UUID of a node's container. name: as `uuid_name` returns it. Raises ValueError for surrogates."""
    return uuid5(node, name)


def container_uuid_text(node: str, name: str) -> str:
    """Return `container_uuid` of a node's UUID, given as text in lower case, as text. Raises ValueError for surrogates.

    For those who compute many: it makes no UUID objects and takes a third of the time.
    """
    # UUIDs name what is public, so the hash need not resist collisions.
    digest = hashlib.sha1(_namespace(node) + name.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANTS[digest[16]]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


@lru_cache(1024)
def _namespace(node: str) -> bytes:
    return UUID(node).bytes
