"""The numbers on the pages of results are those of the files that were measured."""

import re
import runpy
from pathlib import Path

import pytest

PAGE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "results" / "page.py"))


@pytest.mark.parametrize("page", PAGE["PAGES"], ids=lambda page: page.name)
def test_the_page_shows_the_measured_numbers(page):
    text = page.read_text(encoding="utf-8")
    blank = PAGE["MARKED"].sub(r"\1nothing\4", text)
    assert blank != text, "no marked table"
    assert PAGE["filled"](blank) == text


def test_every_table_of_methods_or_of_the_paper_is_marked():
    for page in PAGE["PAGES"]:
        rest = PAGE["MARKED"].sub("", page.read_text(encoding="utf-8"))
        assert not re.search(r"^\| (method|benchmark|model) \|", rest, re.MULTILINE), page.name
