"""The grammar of account names."""

from __future__ import annotations

import re

EXPECTED = "1 to 63 letters, digits and _ . @ -, a letter or digit first"

_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}").fullmatch


def folded(text: str) -> str | None:
    """Return the name in lower case, for comparison: names that differ only in case are the same account.

    Returns None if the text is not a valid name.
    """
    # The grammar is checked before lower(), which maps some other letters (KELVIN SIGN) to ASCII.
    return text.lower() if _is_name(text) else None
