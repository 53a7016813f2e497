"""Every fenced block of README and docs works, as a reader would use it."""

import pytest
from blocks import ROOT, blocks_of, check, pages, run

PAGES = {str(page.relative_to(ROOT)): page for page in pages()}


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_are_well_formed(page):
    for block in blocks_of(PAGES[page]):
        check(block)


@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_a_block_is_wider_than_the_site_shows(page):
    wide = [
        f"{block.place}: {line}"
        for block in blocks_of(PAGES[page])
        for line in block.text.splitlines()
        if len(line) > 88
    ]
    assert not wide


@pytest.mark.parametrize("page", [name for name, page in PAGES.items() if "```" in page.read_text("utf-8")])
def test_the_blocks_of_a_page_run_in_their_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(blocks_of(PAGES[page]))
