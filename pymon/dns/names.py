"""Host names in DNS: letters, digits and hyphens (RFC 952, RFC 1123 §2.1), in lower case."""

from __future__ import annotations

import re

from pymon.config import shown
from pymon.dns_label import LABEL

MAX_ZONE_CHARACTERS = 120
"""With it, the longest name in a zone, two labels of 63 with ``inst`` between them, has the 253 characters that
RFC 1035 allows.
"""

_is_name = re.compile(rf"(?:{LABEL}\.)*{LABEL}").fullmatch


def absolute(text: str) -> str:
    """Return a host name in lower case with a final dot. Raises ValueError that says what was expected."""
    name = text.lower().removesuffix(".") if text.isascii() else ""
    if len(name) > 253 or not _is_name(name):  # noqa: PLR2004  # RFC 1035 §2.3.4, without the root
        raise ValueError(f"expected a host name such as cmon.example.com, got {shown(text)}")
    return f"{name}."


def forward_zone(text: str) -> str:
    """Return the absolute name of a forward zone for containers. Raises ValueError that says what was expected."""
    name = absolute(text)
    if len(name) - 1 > MAX_ZONE_CHARACTERS:
        raise ValueError(f"expected a zone of at most {MAX_ZONE_CHARACTERS} characters, got {shown(text)}")
    if inside(name, "arpa."):
        raise ValueError(f"expected a zone for names, got {shown(text)}, where addresses are")
    return name


def inside(name: str, origin: str) -> bool:
    """Return whether an absolute name equals `origin` or is below it."""
    return name == origin or name.endswith(f".{origin}")
