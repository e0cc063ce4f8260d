"""The files of deploy/grafana: what Grafana asks of a dashboard, and that they are what their script makes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
KINDS = {"row", "timeseries", "stat", "table", "heatmap"}
"""Panels that every Grafana has."""
BUILT_IN = {"__rate_interval", "__range", "__url_time_range", "__data", "__all"}

named = pytest.mark.parametrize("name", DASHBOARDS)


def strings(value: Any) -> list[str]:
    """Every text in a document."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []


def variables(text: str) -> set[str]:
    return {first or second for first, second in re.findall(r"\$(?:\{(\w+)[^}]*\}|(\w+))", text)}


def data_panels(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def test_the_files_are_what_the_script_makes(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.py"):
        shutil.copy(path, tmp_path)
    subprocess.run([sys.executable, tmp_path / "dashboards.py"], check=True, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
    assert made == {path.name: path.read_text() for path in FOLDER.glob("*.json")}


def test_there_is_one_for_each_purpose() -> None:
    assert set(DASHBOARDS) == {
        f"pymon-{name}" for name in ("node", "containers", "container", "neighbours", "tenants", "itself")
    }
    assert all(document["uid"] == name for name, document in DASHBOARDS.items())
    assert len({document["title"] for document in DASHBOARDS.values()}) == len(DASHBOARDS)


@named
def test_panels_have_numbers_places_and_units_of_their_own(name: str) -> None:
    document = DASHBOARDS[name]
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        where = panel["gridPos"]
        assert where["x"] + where["w"] <= 24, panel["title"]
        cells = {(where["x"] + x, where["y"] + y) for x in range(where["w"]) for y in range(where["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["type"] in KINDS
    titles = [panel["title"] for panel in data_panels(document)]
    assert titles
    for panel in data_panels(document):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        if panel["type"] == "table":
            units = {
                override["matcher"]["options"]
                for override in panel["fieldConfig"]["overrides"]
                for one in override["properties"]
                if one["id"] == "unit"
            }
            shown = panel["transformations"][1]["options"]["renameByName"]
            values = {title for field, title in shown.items() if field.startswith("Value")}
            assert values == units
            assert len(values) == len(panel["targets"])


@named
def test_every_variable_is_defined_and_used(name: str) -> None:
    document = DASHBOARDS[name]
    defined = [one["name"] for one in document["templating"]["list"]]
    assert len(set(defined)) == len(defined)
    assert defined[0] == "datasource"
    used = set().union(*map(variables, strings(document)))
    assert used - BUILT_IN == set(defined)
    # A variable is asked for with those before it alone.
    for place, one in enumerate(document["templating"]["list"]):
        assert set().union(*map(variables, strings(one))) - BUILT_IN <= set(defined[:place]), one["name"]


@named
def test_there_is_no_outside_address_and_no_other_data_source(name: str) -> None:
    document = DASHBOARDS[name]
    assert not [text for text in strings(document) if "://" in text]
    for panel in data_panels(document):
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    known = set(DASHBOARDS)
    assert {found for text in strings(document) for found in re.findall(r"/d/([\w-]+)", text)} <= known
