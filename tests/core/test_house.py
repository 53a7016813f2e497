"""Which room of the package may import which: arrows point down, so that no two rooms need each other."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hf_zspa"
# From the lowest room to the highest: each imports from those before it alone.
ROOMS = (
    "remote_code", "version", "output", "pruners", "scenes", "checkpoints", "models", "loading", "scenes.training",
    "visualize", "evaluation", "bench", "tuning", "hub", "app", "vllm", "cli", "__init__", "__main__",
)  # fmt: skip
TOP_LEVEL = {
    ".ci", ".gitattributes", ".github", ".gitignore", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE",
    "Makefile", "README.md", "SECURITY.md", "configs", "docs", "hf_zspa", "mkdocs.yml", "noxfile.py", "pyproject.toml",
    "tests",
}  # fmt: skip


def modules() -> Iterator[Path]:
    """Those that Python imports from the package; what a checkpoint there carries is a copy of some."""
    return (file for file in PACKAGE.rglob("*.py") if "-" not in "".join(file.relative_to(PACKAGE).parts))


def room(parts: tuple[str, ...]) -> str:
    """The room of a module, given by its place in the package."""
    name = ".".join(parts)
    found = [known for known in ROOMS if f"{name}.".startswith(f"{known}.")]
    return max(found, key=len, default="__init__")  # a name that `__init__` has


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports of a module, those inside functions too, without those for annotations alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        yield from imports(node)


def imported(file: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Lines of a module, and what of the package they import."""
    place = ("hf_zspa", *file.relative_to(PACKAGE).parent.parts)
    for node in imports(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            start = place[: len(place) - node.level + 1] if node.level else ()
            start += tuple(node.module.split(".")) if node.module else ()
            names = [(*start, alias.name) for alias in node.names]
        yield from ((node.lineno, name[1:]) for name in names if name[0] == "hf_zspa")


def arrows() -> Iterator[tuple[str, str, str]]:
    """From which room to which another, and where that is written."""
    for file in modules():
        inside = file.relative_to(PACKAGE).with_suffix("").parts
        own = room(inside)
        for line, target in imported(file):
            if room(target) != own:
                yield own, room(target), f"{file.relative_to(ROOT)}:{line}"


def test_every_arrow_points_down():
    upward = [f"{where}: {own} > {other}" for own, other, where in arrows() if ROOMS.index(own) < ROOMS.index(other)]
    assert not upward
    seen = {(own, other) for own, other, _ in arrows()}
    assert {("cli", "evaluation"), ("bench", "evaluation"), ("__main__", "cli")} <= seen, "imports are read wrongly"


def test_every_module_has_a_room():
    homes = {file.relative_to(PACKAGE).with_suffix("").parts[0] for file in modules()}
    assert homes == {name.partition(".")[0] for name in ROOMS}


def test_few_modules_stand_beside_the_packages():
    assert len([*PACKAGE.glob("*.py")]) <= 5


def test_the_top_level_has_nothing_but_what_every_project_has():
    if (ROOT / ".git").exists():
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
        found = {line.partition("/")[0] for line in tracked.stdout.splitlines()}
    else:
        found = {path.name for path in ROOT.iterdir()}
    assert "hf_zspa" in found and found <= {*TOP_LEVEL, "PKG-INFO"}  # of a source distribution


def test_the_page_for_contributors_has_every_room_and_its_arrows():
    """Of the rooms that stand in one line; what is left out of the line stands beside it."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tops = [name for name in ROOMS if "." not in name and not name.startswith("__")]
    assert not [name for name in tops if not re.search(rf"^  {name}(/|\.py) ", page, re.MULTILINE)]
    chain = re.search(r"^cli → [\w\s→]+", page, re.MULTILINE)[0].replace("→", " ").split()
    assert chain == [name for name in reversed(tops) if name not in ("version", "vllm")]
