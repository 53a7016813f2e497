"""What the code that travels in a checkpoint may do, read from its syntax trees: compute, and nothing else."""

import ast
import sys

import pytest

from hf_zspa.travelling import REMOTE_CODE

FILES = sorted(path for path in REMOTE_CODE.glob("*.py") if path.name != "__init__.py")
LIBRARIES = {"torch", "transformers", "triton"}
STANDARD = {
    "bisect", "collections", "contextlib", "copy", "dataclasses", "functools", "inspect", "itertools", "math", "typing",
    "warnings",
}  # fmt: skip
# Names that open files, connections or processes, or run text as code, wherever they are found.
FORBIDDEN_NAMES = {"open", "exec", "eval", "compile", "__import__", "input", "breakpoint", "globals", "vars"}
FORBIDDEN_ATTRIBUTES = {
    "load", "save", "hub", "system", "popen", "Popen", "run", "call", "check_output", "socket", "urlopen", "request",
    "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "cpp_extension", "load_library", "import_module",
    "__globals__", "__builtins__", "__subclasses__", "__loader__", "__code__",
}  # fmt: skip


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def imported(path):
    """The top-level modules that a file imports; its neighbours as `.name`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path.name} imports from a folder above"
            yield f".{node.module}" if node.level else str(node.module).split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_imports_nothing_but_torch_transformers_triton_and_what_only_computes(path):
    neighbours = {f".{other.stem}" for other in FILES}
    assert set(imported(path)) <= LIBRARIES | STANDARD | neighbours


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_opens_no_file_connection_or_process_and_runs_no_text(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            assert node.id not in FORBIDDEN_NAMES, f"{path.name}:{node.lineno} uses {node.id}"
        if isinstance(node, ast.Attribute):
            triton_load = isinstance(node.value, ast.Name) and node.value.id == "tl" and node.attr == "load"
            assert triton_load or node.attr not in FORBIDDEN_ATTRIBUTES, f"{path.name}:{node.lineno} uses .{node.attr}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_triton_is_optional(path):
    """An import outside of `try` would make transformers demand the package."""
    for node in tree(path).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert "triton" not in ast.unparse(node)


@pytest.mark.parametrize("path", [p for p in FILES if p.name.startswith("modeling_")], ids=lambda path: path.name)
def test_a_modeling_file_imports_every_helper(path):
    """transformers 4.x takes no other along; a family without a subclass in common needs none that it does not use."""
    helpers = {f".{other.stem}" for other in FILES if other.stem.startswith("zspa_")}
    assert helpers <= set(imported(path))


def test_the_check_finds_what_it_looks_for(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("import os\nfrom torch import hub\nopen('x')\nimport torch\ntorch.hub.load('a')\n")
    assert "os" in set(imported(bad)) and "os" not in STANDARD | LIBRARIES
    with pytest.raises(AssertionError, match=r"bad.py:3 uses open"):
        test_it_opens_no_file_connection_or_process_and_runs_no_text(bad)
    assert "os" in sys.stdlib_module_names
