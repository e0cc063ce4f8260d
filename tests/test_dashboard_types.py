"""The files of deploy/grafana against the types that Grafana publishes of its dashboards, panels and queries."""

from __future__ import annotations

import enum
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
SCALARS = {bool: bool, str: str, int: int, float: (int, float)}

register_default_plugins()  # with which Dashboard.from_json knows the options of panels and queries


def misfits(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Where a value is not of its type."""
    kinds = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Union:
        found = [list(misfits(value, kind, path)) for kind in kinds]
        if all(found):
            yield from max(found, key=lambda one: len(one[0]))  # of the type that fits farthest
    elif typing.get_origin(hint) is list and isinstance(value, list):
        for place, one in enumerate(value):
            yield from misfits(one, kinds[0], f"{path}[{place}]")
    elif typing.get_origin(hint) is dict and isinstance(value, dict):
        for key, one in value.items():
            yield from misfits(one, kinds[1], f"{path}.{key}")
    elif typing.get_origin(hint) is typing.Literal:
        if value not in kinds:
            yield path
    elif hint in SCALARS:
        if not isinstance(value, SCALARS[hint]) or isinstance(value, bool) is not (hint is bool):
            yield path
    elif isinstance(hint, enum.EnumType):
        if value not in {one.value for one in hint}:
            yield path
    elif isinstance(hint, type) and isinstance(value, hint):  # or of what a panel's type makes of it
        for name, kind in typing.get_type_hints(type(value)).items():
            yield from misfits(getattr(value, name), kind, f"{path}.{name}")
    elif hasattr(hint, "from_json") and isinstance(value, dict):  # what from_json leaves as it is
        yield from misfits(hint.from_json(value), hint, path)
    elif hint not in (Any, object):
        yield path


def read(document: dict[str, Any]) -> tuple[list[str], Any]:
    """What does not fit, and the document as Grafana's types write it."""
    dashboard = Dashboard.from_json(document)
    return list(misfits(dashboard, Dashboard, "")), json.loads(JSONEncoder().encode(dashboard))


def lost(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where the second document lacks something of the first."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key, value in one.items():
            if key in other:
                yield from lost(value, other[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from lost(*pair, f"{path}[{place}]")
    elif one != other:
        yield path


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_field_is_known_and_of_its_type(name: str) -> None:
    document = DASHBOARDS[name]
    wrong, written = read(document)
    assert wrong == []
    assert list(lost(document, written)) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("timeseries", lambda panel: panel["options"]["legend"].update(displayMode="lines")),
        ("timeseries", lambda panel: panel["fieldConfig"]["defaults"]["custom"].update(showPoint="never")),
        ("stat", lambda panel: panel["options"].update(graphMode="some")),
        ("table", lambda panel: panel["targets"][0].update(format="tabular")),
        ("heatmap", lambda panel: panel["options"]["yAxis"].update(min="0")),
    ],
)
def test_a_field_that_is_not_is_seen(kind: str, change: Any) -> None:
    found = [
        (name, place)
        for name, one in DASHBOARDS.items()
        for place, panel in enumerate(one["panels"])
        if panel["type"] == kind
    ]
    name, place = found[0]
    document = json.loads(json.dumps(DASHBOARDS[name]))
    change(document["panels"][place])
    wrong, written = read(document)
    assert wrong + list(lost(document, written)) != []
