"""The content coding of a reply (RFC 9110 §12.5.3)."""

from __future__ import annotations

from pymon.exposition.negotiation import Coding, content_codings
from pymon.service.answer import Refusal


def accepted_codings(accept_encoding: str | None, *offered: Coding) -> tuple[Coding, ...]:
    """Return the codings that a client accepts, at least one, as `content_codings` does. Raises Refusal 406."""
    found = content_codings(accept_encoding, offered)
    if not found:
        raise Refusal(406, f"Accept-Encoding: expected one of {', '.join(offered)}, identity")
    return found


def takes_gzip(accept_encoding: str | None) -> bool:
    """Return whether to compress a reply that there is as gzip and as identity. Raises Refusal 406."""
    return accepted_codings(accept_encoding, "gzip")[0] == "gzip"
