"""What the dashboards are made of, as Grafana 10 and later read it: panels, variables, and a dashboard of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SCHEMA_VERSION = 38
"""Of Grafana 10.0. Later ones upgrade it when they load a dashboard."""

WIDTH = 24
"""Columns of Grafana's grid."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


class Row(NamedTuple):
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Json]


def variable(name: str, query: str, *, many: bool = False, label: str = "") -> Json:
    """Return a variable with the values of a query. many: several can be chosen, at first all."""
    return {
        "name": name,
        "label": label or name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "regex": "",
        "multi": many,
        "includeAll": many,
        **({"allValue": ".+"} if many else {}),  # else Grafana asks for "a|b|...", of thousands of containers
        "current": {"text": ["All"], "value": ["$__all"]} if many else {},
        "options": [],
        "hide": 0,
    }


def text(name: str, default: str, label: str) -> Json:
    """Return a variable that is typed in."""
    chosen = {"text": default, "value": default}
    return {"name": name, "label": label, "type": "textbox", "query": default, "current": chosen, "options": [chosen]}


def graph(
    title: str,
    unit: str,
    series: Mapping[str, str],
    *,
    description: str = "",
    stack: bool = False,
    limit: float | None = None,
    width: int = 12,
) -> Json:
    """Return curves over time. series: expressions by legend. limit: the top of the scale."""
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stack else 5,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
    }
    scale = {"min": 0} if limit is None else {"min": 0, "max": limit}
    return {
        **_panel("timeseries", title, description, width, 8),
        "fieldConfig": {"defaults": {"unit": unit, **scale, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [_target(number, expr, legend) for number, (legend, expr) in enumerate(series.items())],
    }


def stat(
    title: str, unit: str, expr: str, *, description: str = "", bad: tuple[float, float] | None = None, legend: str = ""
) -> Json:
    """Return a number as it is now. bad: from where it is yellow and red; backwards if the first is the larger."""
    steps = [{"color": "text", "value": None}]
    if bad and bad[0] <= bad[1]:
        steps = [_step("green", None), _step("yellow", bad[0]), _step("red", bad[1])]
    elif bad:
        steps = [_step("red", None), _step("yellow", bad[1]), _step("green", bad[0])]
    return {
        **_panel("stat", title, description, 4, 4),
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "auto",
        },
        "targets": [{**_target(0, expr, legend), "instant": True, "range": False}],
    }


class Column(NamedTuple):
    """A column of a table: an expression, and how its values are shown."""

    title: str
    unit: str
    expr: str


def table(
    title: str, keys: Mapping[str, str], columns: Sequence[Column], *, description: str = "", link: Json | None = None
) -> Json:
    """Return a table with a line for each set of labels.

    keys: titles of the labels that are shown. The expressions have the same labels. link: of the first key's cells.
    """
    targets = [
        {**_target(number, column.expr, ""), "instant": True, "range": False, "format": "table"}
        for number, column in enumerate(columns)
    ]
    values = {f"Value #{target['refId']}" if len(columns) > 1 else "Value": column
              for target, column in zip(targets, columns, strict=True)}  # fmt: skip
    overrides = [_override(column.title, "unit", column.unit) for column in columns]
    if link:
        overrides.append(_override(next(iter(keys.values())), "links", [link]))
    return {
        **_panel("table", title, description, WIDTH, 12),
        "fieldConfig": {"defaults": {"unit": "none", "custom": {"align": "auto", "filterable": True}},
                        "overrides": overrides},
        "options": {"showHeader": True, "cellHeight": "sm",
                    "sortBy": [{"displayName": columns[0].title, "desc": True}]},
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "id": "id" not in keys},
                    "indexByName": {name: place for place, name in enumerate((*keys, *values))},
                    "renameByName": {**keys, **{name: column.title for name, column in values.items()}},
                },
            },
        ],
        "targets": targets,
    }  # fmt: skip


def heat(title: str, unit: str, expr: str, *, description: str = "", buckets: bool = False) -> Json:
    """Return a heat map of how many series have which value. buckets: the expression has those of a histogram."""
    target = _target(0, expr, "{{le}}" if buckets else "")
    return {
        **_panel("heatmap", title, description, 12, 8),
        "fieldConfig": {"defaults": {"unit": unit, "custom": {"scaleDistribution": {"type": "linear"}}},
                        "overrides": []},
        "options": {
            "calculate": not buckets,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "reverse": False,
                      "fill": "dark-orange"},
            "yAxis": {"axisPlacement": "left", "unit": unit, **({} if buckets else {"min": 0})},
            "tooltip": {"show": True, "yHistogram": False},
            "legend": {"show": True},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "rowsFrame": {"layout": "auto"},
        },
        "targets": [{**target, "format": "heatmap" if buckets else "time_series"}],
    }  # fmt: skip


def dashboard(uid: str, title: str, description: str, variables: Sequence[Json], rows: Sequence[Row]) -> Json:
    """Return a dashboard. Its panels get their numbers and places here."""
    source = {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
        "current": {}, "options": [], "hide": 0, "multi": False, "includeAll": False, "refresh": 1, "regex": "",
    }  # fmt: skip
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["pymon"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [
            {"type": "dashboards", "title": "pymon", "tags": ["pymon"], "asDropdown": True, "icon": "external link",
             "includeVars": False, "keepTime": True, "targetBlank": False, "tooltip": "", "url": ""},
        ],
        "templating": {"list": [source, *variables]},
        "panels": _placed(rows),
    }  # fmt: skip


def _placed(rows: Sequence[Row]) -> list[Json]:
    """Return the panels of all rows, from left to right and downwards."""
    placed: list[Json] = []
    top = 0

    def put(panel: Json, left: int) -> None:
        height, width = panel["gridPos"]["h"], panel["gridPos"]["w"]
        where = {"h": height, "w": width, "x": left, "y": top}
        placed.append({"id": len(placed) + 1, **panel, "gridPos": where})

    for row in rows:
        put({"type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": WIDTH}}, 0)
        top += 1
        left = height = 0
        for panel in row.panels:
            if left + panel["gridPos"]["w"] > WIDTH:
                top, left, height = top + height, 0, 0
            put(panel, left)
            left += panel["gridPos"]["w"]
            height = max(height, panel["gridPos"]["h"])
        top += height
    return placed


def _panel(kind: str, title: str, description: str, width: int, height: int) -> Json:
    return {
        "type": kind, "title": title, "description": description, "datasource": SOURCE,
        "gridPos": {"h": height, "w": width},
    }  # fmt: skip


def _target(number: int, expr: str, legend: str) -> Json:
    return {
        "refId": chr(ord("A") + number), "datasource": SOURCE, "editorMode": "code", "expr": expr,
        "legendFormat": legend, "range": True,
    }  # fmt: skip


def _step(color: str, value: float | None) -> Json:
    return {"color": color, "value": value}


def _override(column: str, name: str, value: object) -> Json:
    return {"matcher": {"id": "byName", "options": column}, "properties": [{"id": name, "value": value}]}
