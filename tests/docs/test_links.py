"""Links between the pages of the repository lead somewhere, as GitHub shows them."""

import re

import pytest
from blocks import ROOT, blocks_of, pages

PAGES = {str(page.relative_to(ROOT)): page for page in [*pages(), ROOT / "CHANGELOG.md"]}
LINK = re.compile(r"\]\((?P<target>[^)\s]*)\)|<(?:img|a) [^>]*(?:src|href)=\"(?P<html>[^\"]*)\"")


def text_of(page) -> str:
    """A page without its fenced blocks and code."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block in blocks_of(page):
        first = block.line
        lines[first - 1 : first + block.text.count("\n") + 2] = [""] * (block.text.count("\n") + 3)
    return re.sub(r"`[^`\n]*`", "", "\n".join(lines))


def anchors_of(page) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    headings = (line.lstrip("#").strip() for line in lines if re.match(r"#{1,6} ", line))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_and_picture_is_there(page):
    dead = []
    for found in LINK.finditer(text_of(PAGES[page])):
        target = found["target"] or found["html"] or ""
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = PAGES[page].parent / name if name else PAGES[page]
        known = path.exists() and ROOT in path.resolve().parents
        if not known or (anchor and anchor not in anchors_of(path)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    text = PAGES[page].read_text(encoding="utf-8")
    named = re.findall(r"`((?:hf_zspa|tests|docs|configs)/(?:[\w.-]+/)*(?:[\w-]+\.(?:py|json|md|sh|csv))?)`", text)
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_page_of_the_documentation_can_be_reached_from_its_start():
    start = ROOT / "README.md"
    seen, waiting = {start}, [start]
    while waiting:
        page = waiting.pop()
        for found in LINK.finditer(text_of(page)):
            path = (page.parent / (found["target"] or "").partition("#")[0]).resolve()
            path = path / "README.md" if path.is_dir() else path
            if path.suffix == ".md" and path.exists() and path not in seen:
                seen.add(path)
                waiting.append(path)
    assert not {*(ROOT / "docs").glob("*.md")} - seen
