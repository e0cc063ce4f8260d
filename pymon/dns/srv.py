"""Looks up SRV records (RFC 2782) with the system's resolver. Blocks, so it is for threads."""

from __future__ import annotations

import dns.exception
import dns.resolver

LOOKUP_SECONDS = 5.0


class LookupFailedError(Exception):
    """A name has no usable SRV records, or no server answered. The text is one line."""


def srv_targets(name: str, resolver: dns.resolver.Resolver | None = None) -> list[tuple[str, int]]:
    """Return host and port of each SRV record of a name, sorted, hosts in lower case without the final dot.

    resolver: None for that of the system. Raises LookupFailedError, also if there are no records.
    """
    try:
        asked = resolver or dns.resolver.Resolver()
        found = asked.resolve(name, "SRV", lifetime=LOOKUP_SECONDS, search=False)
        targets = {(record.target.to_text(omit_final_dot=True).lower(), int(record.port)) for record in found}
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise LookupFailedError(f"{name}: {' '.join(str(error).split()) or type(error).__name__}") from None
    return sorted(targets)
