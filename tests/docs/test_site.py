"""What `mkdocs build --strict` lets through on a site with the hooks of this one."""

import html
import re
from pathlib import Path

import pytest
from blocks import ROOT
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import MkDocsException

import hf_zspa

MKDOCS = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.fixture
def site(tmp_path):
    """A function from the text of a page, and others by name, to the folder of a site built as strictly as ours."""

    def make(page: str, others: dict[str, str] | None = None) -> Path:
        (tmp_path / "docs").mkdir()
        for name, text in {"docs/index.md": page, **(others or {})}.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / "mkdocs.yml").write_text(
            f"""
site_name: site
theme: {{name: material, font: false}}
hooks: [{ROOT / "docs" / "site" / "hooks.py"}]
use_directory_urls: false
markdown_extensions:
  - pymdownx.arithmatex: {{generic: true}}
  - pymdownx.highlight: {{pygments_lang_class: true}}
  - pymdownx.superfences
"""
        )
        config = load_config(str(tmp_path / "mkdocs.yml"), strict=True)
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
        return tmp_path / "site"

    return make


def test_a_formula_is_mathml_with_its_number_beside_it(site):
    page = (site("Here:\n\n$$\\bar t = \\frac{1}{m} \\tag{4}$$\n") / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<math [^>]*>.*<mfrac>.*</math><span class=\"equation-number\">\(4\)</span>", page)
    assert "\\" not in page[page.index("<math") : page.index("</math>")] and "tag" not in page.split("<math")[1][:400]


def test_a_formula_with_an_unknown_command_ends_the_build(site, caplog):
    with pytest.raises(MkDocsException):
        site("$$\\unknown t$$\n")
    assert "no MathML for the formula \\unknown t" in caplog.text


@pytest.mark.parametrize(
    "load",
    [
        '<img src="https://example.org/a.png">',
        '<script src="//example.org/a.js"></script>',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<p style="background: url(https://example.org/a.png)">text</p>',
        "![picture](https://example.org/a.png)",
    ],
)
def test_a_page_that_loads_from_another_host_ends_the_build(site, load):
    with pytest.raises(MkDocsException):
        site(f"{load}\n")


def test_a_link_to_another_host_does_not(site):
    assert (site("[link](https://example.org)\n") / "index.html").exists()


@pytest.mark.parametrize("link", ["absent.md", "../absent.md", "../SECURITY.md"])
def test_a_dead_link_ends_the_build(site, link):
    with pytest.raises(MkDocsException):
        site(f"[link]({link})\n")


def test_a_link_to_a_page_at_the_top_of_the_repository_leads_to_its_page_on_the_site(site):
    folder = site(
        "[rules](../CONTRIBUTING.md#the-rules)\n", {"CONTRIBUTING.md": "## The rules\n\n[home](docs/index.md)\n"}
    )
    assert 'href="contributing.html#the-rules"' in (folder / "index.html").read_text(encoding="utf-8")
    assert '<a href="index.html">home</a>' in (folder / "contributing.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("shown", "copied"),
    [
        ("$ hf-zspa demo\nall tokens 144\npicture: a.png", "hf-zspa demo"),
        ("$ make demo\n$ make test   # all tests", "make demo\nmake test   # all tests"),
        ("$ hf-zspa eval a \\\n    --limit 1\n2 rows\n$ ls", "hf-zspa eval a \\\n    --limit 1\nls"),
        (
            '$ vllm serve a --hf-overrides \'{"b": "<c>"}\'\n$HOME is printed',
            'vllm serve a --hf-overrides \'{"b": "<c>"}\'',
        ),
    ],
)
def test_the_copy_button_of_a_console_block_copies_its_commands_alone(site, shown, copied):
    page = (site(f"```console\n{shown}\n```\n\n```python\na = 1\n```\n") / "index.html").read_text(encoding="utf-8")
    found = re.findall(
        r'<div class="language-(\w+) [^>]*>\s*<pre>(?:<span></span>)?<code(?: data-copy="([^"]*)")?>', page
    )
    assert [(language, html.unescape(text)) for language, text in found] == [("console", copied), ("python", "")]


def test_our_site_marks_the_language_of_a_block_for_the_copy_button():
    assert "pymdownx.highlight: {pygments_lang_class: true}" in MKDOCS and "content.code.copy" in MKDOCS


@pytest.mark.parametrize("part", ["keep_ratio", "ratio", "zspa", "select_tokens"])
def test_the_search_finds_a_name_by_its_parts(part):
    separator = re.search(r"separator: '(.*)'", MKDOCS)[1]
    name = "hf_zspa.select_tokens" if "select" in part else "zspa_keep_ratio"
    assert set(re.split(separator, part)) <= set(re.split(separator, name))


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    public = [name for name in hf_zspa.__all__ if not name.startswith("__")]
    assert not [name for name in public if f"::: hf_zspa.{name}\n" not in page]
