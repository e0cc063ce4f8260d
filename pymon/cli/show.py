"""Output of the verbs `list` and `show`: a table, the fields of one document, or JSON."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pymon.cli.table import fields, table

Document = Mapping[str, Any]
"""A record to print: values by field name.

Fields named ``*_at``, ``not_before`` and ``not_after`` are times in seconds since the epoch.
"""


def print_list(documents: Sequence[Document], columns: Sequence[str], *, as_json: bool) -> int:
    """Print documents as a table of `columns`, or whole as a JSON list. Return the exit code."""
    if as_json:
        _print_json(documents)
    else:
        rows = ([_shown(name, document[name]) for name in columns] for document in documents)
        sys.stdout.write(table([name.upper().removesuffix("_AT").replace("_", " ") for name in columns], rows))
    return 0


def print_one(document: Document, *, as_json: bool) -> int:
    """Print one document, a line for each field, or as JSON. Return the exit code."""
    if as_json:
        _print_json(document)
    else:
        sys.stdout.write(fields((name, _shown(name, value)) for name, value in document.items()))
    return 0


def _print_json(value: Document | Sequence[Document]) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _shown(name: str, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_at") or name in ("not_before", "not_after"):
        return f"{dt.datetime.fromtimestamp(value, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{value:g}" if isinstance(value, float) else str(value)
