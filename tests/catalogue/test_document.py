"""docs/metrics.md is what the catalogue says."""

from __future__ import annotations

from pathlib import Path

from pymon.catalogue.document import metrics_page


def test_the_page_is_up_to_date() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
    assert page.read_text() == metrics_page(), "run `make docs`"
