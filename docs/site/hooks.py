"""What MkDocs does for this site beyond its configuration: `mkdocs.yml` names this file as a hook.

- Pages that stand at the top of the repository, where people and GitHub look for them, are pages of the site too, and
  links between them and `docs/` work on both.
- Formulas are MathML, which browsers show without a script; a font for them is on the site.
- The copy button of a console block copies its commands, without the prompts and what they print.
- A page that would load anything from another host is a warning, and so the end of a strict build.
"""

import html
import importlib.util
import logging
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

TOP_PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changes.md"}
MATH_FONT = "STIXTwoMath-Regular.ttf"
log = logging.getLogger("mkdocs.hooks")

_LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?=[)#])")
_FORMULA = re.compile(r'<(?P<tag>div|span) class="arithmatex">\\[\[(](?P<latex>.*?)\\[\])]</(?P=tag)>', re.DOTALL)
_CONSOLE = re.compile(
    r'(?P<start><div class="language-console [^>]*>\s*<pre>(?:<span></span>)?<code)>(?P<code>.*?)</code>', re.DOTALL
)
_NUMBER = re.compile(r"\\tag\{(.*?)\}")
_STYLE_URL = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")
_NOT_LOADED = {"canonical", "alternate", "author", "license", "next", "prev"}


def on_files(files, config):
    """Adds the pages of `TOP_PAGES` and the font of formulas."""
    for name, uri in TOP_PAGES.items():
        path = Path(config.config_file_path).with_name(name)
        if path.is_file():
            files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))
    (package,) = importlib.util.find_spec("ziamath").submodule_search_locations
    files.append(File.generated(config, f"site/{MATH_FONT}", abs_src_path=str(Path(package, "fonts", MATH_FONT))))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links that hold in the repository into links that hold on the site."""
    uri, root = page.file.src_uri, Path(config.config_file_path).parent
    top = {site: name for name, site in TOP_PAGES.items()}
    here = posixpath.dirname(top.get(uri, f"docs/{uri}"))

    def link(found: re.Match[str]) -> str:
        site = page_for(posixpath.normpath(posixpath.join(here, found["target"])), root)
        return found[0] if site is None else posixpath.relpath(site, posixpath.dirname(uri) or ".")

    return _LINK.sub(link, markdown)


def page_for(path: str, root: Path) -> str | None:
    """The site's source for a file or folder of the repository in `root`; None where the site has none."""
    if path in TOP_PAGES:
        return TOP_PAGES[path]
    if path == "README.md":
        return "index.md"
    if not path.startswith("docs/"):
        return None
    site = path.removeprefix("docs/")
    return f"{site}/README.md" if (root / path / "README.md").is_file() else site


def on_page_content(content, page, config, files):
    """Turns the formulas that arithmatex marked into MathML, and gives copy buttons of console blocks their text."""
    content = _CONSOLE.sub(_with_copy, content)
    return _FORMULA.sub(lambda found: mathml(html.unescape(found["latex"]), found["tag"] == "div"), content)


def _with_copy(block: re.Match[str]) -> str:
    text = html.unescape(re.sub(r"<[^>]*>", "", block["code"]))
    return f'{block["start"]} data-copy="{html.escape(commands(text))}">{block["code"]}</code>'


def commands(console: str) -> str:
    """The commands of a console block: what follows `$ `, and the lines that a backslash continues it on."""
    copied: list[str] = []
    goes_on = False
    for line in console.splitlines():
        if goes_on or line.startswith("$ "):
            copied.append(line if goes_on else line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(copied)


def mathml(latex: str, display: bool) -> str:
    """A formula as HTML, with its number beside it if it has one.

    Raises:
        PluginError: it has a command that is not known.
    """
    number = _NUMBER.search(latex)
    formula = convert(_NUMBER.sub("", latex).strip(), display="block" if display else "inline")
    formula = formula.replace("<mo>&#x02016;", '<mo stretchy="false">&#x02016;')  # ‖ would stretch on the left alone
    if "\\" in formula:
        raise PluginError(f"no MathML for the formula {latex.strip()}: it has {formula[formula.index(chr(92)) :][:20]}")
    beside = f'<span class="equation-number">({number[1]})</span>' if number else ""
    return f'<div class="equation">{formula}{beside}</div>' if display else formula


def on_post_build(config):
    """Warns of everything a page would load from another host."""
    site = Path(config.site_dir)
    for path in sorted([*site.rglob("*.html"), *site.rglob("*.css")]):
        text = path.read_text(encoding="utf-8")
        for url in loaded(text) if path.suffix == ".html" else _STYLE_URL.findall(text):
            if urlsplit(url).netloc:
                log.warning("%s loads %s, but must load nothing from another host", path.relative_to(site), url)


def loaded(page: str) -> list[str]:
    """The URLs that a browser loads by itself with a page: scripts, styles, pictures, icons, frames."""
    parser = _Loads()
    parser.feed(page)
    return parser.urls


class _Loads(HTMLParser):
    def __init__(self):
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and set(given.get("rel", "").split()) <= _NOT_LOADED:
            return
        names = ("src", "srcset", "data", "poster", *(["href"] if tag == "link" else []))
        self.urls += [given[name] for name in names if name in given]
        self.urls += _STYLE_URL.findall(given.get("style", ""))
