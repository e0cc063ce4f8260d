"""Names as DNS takes them: host names of letters, digits and hyphens (RFC 952, RFC 1123 §2.1), in lower case."""

from __future__ import annotations

import re

from pymon.config import shown

MAX_LABEL_CHARACTERS = 63

MAX_ZONE_CHARACTERS = 120
"""So that the longest name in a zone, two labels of 63 with ``inst`` between them, has the 253 that RFC 1035 allows."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_is_label = re.compile(_LABEL).fullmatch
_is_name = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}").fullmatch
_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_OTHERS = re.compile(r"[^A-Za-z0-9-]+")


def label(text: str) -> str:
    """A label for the name of a container or an account: each run of other characters is a hyphen, and none stands at
    an end. ValueError, which says why, when none can be made; what has the form of a UUID could be somebody else's.
    """
    made = text if _is_label(text) else _OTHERS.sub("-", text).lower().strip("-")
    if not made:
        raise ValueError(f"{shown(text)} has no letter or digit of ASCII")
    if len(made) > MAX_LABEL_CHARACTERS:
        raise ValueError(f"{shown(text)} has {len(made)} characters as a DNS name, at most {MAX_LABEL_CHARACTERS} fit")
    if len(made) == 36 and _is_uuid(made):  # noqa: PLR2004
        raise ValueError(f"{shown(text)} is in the form of a UUID")
    return made


def absolute(text: str) -> str:
    """A host name in lower case with its final dot. ValueError with what was expected."""
    name = text.lower().removesuffix(".") if text.isascii() else ""
    if len(name) > 253 or not _is_name(name):  # noqa: PLR2004  # RFC 1035 §2.3.4, without the root
        raise ValueError(f"expected a host name such as cmon.example.com, got {shown(text)}")
    return f"{name}."


def forward_zone(text: str) -> str:
    """The name of a zone for containers, as `absolute`. ValueError with what was expected."""
    name = absolute(text)
    if len(name) - 1 > MAX_ZONE_CHARACTERS:
        raise ValueError(f"expected a zone of at most {MAX_ZONE_CHARACTERS} characters, got {shown(text)}")
    if inside(name, "arpa."):
        raise ValueError(f"expected a zone for names, got {shown(text)}, where addresses are")
    return name


def inside(name: str, origin: str) -> bool:
    """Whether an absolute name is that of a zone or below it."""
    return name == origin or name.endswith(f".{origin}")
