"""The numbers on docs/results.md are those of the files beside it."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_shows_the_measured_numbers():
    filled = runpy.run_path(str(DOCS / "results" / "page.py"))["filled"]
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    assert filled(page.replace("| 100.0 |", "| 12.3 |")) == page
