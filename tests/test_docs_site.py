"""Every document is in the navigation of the site once; `make docs` fails where one is not."""

from __future__ import annotations

from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]


def leaves(nav: object) -> list[object]:
    if isinstance(nav, dict):
        return [leaf for value in nav.values() for leaf in leaves(value)]
    if isinstance(nav, list):
        return [leaf for value in nav for leaf in leaves(value)]
    return [nav]


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    documents = [*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("docs/benchmarks/*.md")]
    pages = {str(page.relative_to(REPOSITORY)) for page in documents}
    assert "docs/proxy.md" in pages
    assert sorted(map(str, leaves(nav))) == sorted({"README.md", "CHANGELOG.md", "bench/README.md"} | pages)
