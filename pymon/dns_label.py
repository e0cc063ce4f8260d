"""Converts names to DNS labels: letters, digits and hyphens (RFC 952, RFC 1123 §2.1), in lower case."""

from __future__ import annotations

import re

from pymon.config import shown

MAX_CHARACTERS = 63

LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""A regular expression for one label."""

_is_label = re.compile(LABEL).fullmatch
_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_OTHERS = re.compile(r"[^A-Za-z0-9-]+")


def label(text: str) -> str:
    """Return the DNS label for the name of a container or an account.

    Each run of other characters becomes a hyphen, and hyphens at the ends are removed. Raises ValueError that says why
    a name has no label. A label in the form of a UUID is refused, because it could be the UUID of another one.
    """
    made = text if _is_label(text) else _OTHERS.sub("-", text).lower().strip("-")
    if not made:
        raise ValueError(f"{shown(text)} has no letter or digit of ASCII")
    if len(made) > MAX_CHARACTERS:
        raise ValueError(f"{shown(text)} has {len(made)} characters as a DNS name, at most {MAX_CHARACTERS} fit")
    if len(made) == 36 and _is_uuid(made):  # noqa: PLR2004
        raise ValueError(f"{shown(text)} is in the form of a UUID")
    return made


def label_or_none(text: str) -> str | None:
    """Return the DNS label for a name as `label` does, None if there is none."""
    try:
        return label(text)
    except ValueError:
        return None
