"""Request headers that the agent and the proxy read alike."""

from __future__ import annotations

import logging
import math
import re
from typing import TYPE_CHECKING

from pymon.config import shown

if TYPE_CHECKING:
    from aiohttp import web

_log = logging.getLogger(__name__)

TIMEOUT_MARGIN_SECONDS = 0.5

_ETAG = re.compile(r'(?:W/)?"([^"]*)"')


def joined(request: web.BaseRequest, name: str) -> str | None:
    """A list header, its lines joined; None when it is absent."""
    values = request.headers.getall(name, None)
    if not values:
        return None
    return values[0] if len(values) == 1 else ", ".join(values)


def scrape_timeout(text: str | None) -> float | None:
    """Seconds that a scrape may take by X-Prometheus-Scrape-Timeout-Seconds, less a margin for the way back."""
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
    """The opaque tags of an If-None-Match header, to be compared weakly (RFC 9110 §13.1.2)."""
    return frozenset(_ETAG.findall(condition))
