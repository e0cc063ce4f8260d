"""Request headers that both the agent and the proxy use."""

from __future__ import annotations

import logging
import math
import re

from pymon.config import shown

_log = logging.getLogger(__name__)

TIMEOUT_MARGIN_SECONDS = 0.5

_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


def scrape_timeout(text: str | None) -> float | None:
    """Return the seconds that a scrape may take, None without a valid limit.

    text: X-Prometheus-Scrape-Timeout-Seconds. A margin for sending the reply is subtracted.
    """
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        _log.debug("X-Prometheus-Scrape-Timeout-Seconds is no timeout: %s", shown(text))
        return None
    return max(seconds - TIMEOUT_MARGIN_SECONDS, seconds / 2)


def entity_tags(condition: str) -> frozenset[str]:
    """Return the opaque tags of an If-None-Match header for the weak comparison (RFC 9110 §13.1.2)."""
    return frozenset(_ETAG.findall(condition))
