"""What the panels of a dashboard show: their expressions, run in Prometheus over a time, as dashboard.js draws them."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "deploy/grafana"
RATE_INTERVAL = "16s"
STEP_SECONDS = 2
DRAWN = ("timeseries", "heatmap")


def drawn(
    name: str, rows: tuple[str, ...], prometheus: str, end: float, seconds: float, values: Mapping[str, str]
) -> Any:
    """Return the title of a dashboard, and the panels of these rows with their series.

    prometheus: its URL. end: of the time that is shown, of this many seconds. values: of the dashboard's variables.
    """
    document = json.loads((FOLDER / f"{name}.json").read_text())
    panels: list[dict[str, Any]] = []
    row = ""
    for panel in document["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        if row not in rows or panel["type"] not in ("row", *DRAWN):
            continue
        series = [
            (_legend(target["legendFormat"], labels), points)
            for target in panel.get("targets", ())
            for labels, points in _queried(prometheus, _substituted(target["expr"], values), end, seconds)
        ]
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        panels.append({
            "type": panel["type"], "title": panel["title"], "unit": defaults.get("unit"), "limit": defaults.get("max"),
            "width": panel["gridPos"]["w"], "series": series,
        })  # fmt: skip
    return {"title": document["title"], "from": end - seconds, "to": end, "panels": panels}


def _substituted(text: str, values: Mapping[str, str]) -> str:
    """Return an expression with its variables replaced, as Grafana does."""
    known = {**values, "__rate_interval": RATE_INTERVAL}
    return re.sub(r"\$(\w+)", lambda found: known[found[1]], text)


def _legend(text: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), text)


def _queried(prometheus: str, expression: str, end: float, seconds: float) -> list[tuple[dict[str, str], list[Any]]]:
    """Return labels and points, [time, value], of each series of an expression."""
    asked = {"query": expression, "start": str(end - seconds), "end": str(end), "step": str(STEP_SECONDS)}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # http, of this machine
        found = json.load(answer)["data"]["result"]
    return [(one["metric"], [[at, float(value)] for at, value in one["values"]]) for one in found]
