"""What code that travels in a checkpoint must not say, read from its syntax tree: the modules it may import, and the
names that open files, connections or processes, run text as code, or lead to what does."""

import ast
import builtins
import re
from collections.abc import Collection, Iterable

from hf_zspa.checkpoints.families import FAMILIES

MODULES = {
    "bisect", "collections.abc", "contextlib", "copy", "dataclasses", "difflib", "functools", "inspect", "itertools",
    "math", "threading", "torch", "triton", "triton.language", "typing", "warnings",
}  # fmt: skip
# What is imported out of transformers, much of which loads models; it is never imported whole.
IMPORTED = {
    "transformers": {"Cache", "DynamicCache", "__version__"},
    "transformers.conversion_mapping": {
        "get_checkpoint_conversion_mapping", "register_checkpoint_conversion_mapping",
    },
    "transformers.generation": {"AssistedCandidateGenerator", "GenerationMixin"},
    "transformers.utils.generic": {"_CAN_RECORD_REGISTRY"},
    "transformers.utils.output_capturing": {"_CAN_RECORD_REGISTRY"},
}  # fmt: skip
STOCK_CLASSES = {
    family.stock.removesuffix("ForConditionalGeneration") + part
    for family in FAMILIES.values()
    for part in ("Config", "Model", "ForConditionalGeneration")
}
# As a builtin, as an attribute of anything, as a name imported, and as a string that getattr could be given.
FORBIDDEN = {
    "breakpoint", "builtins", "call", "check_call", "check_output", "compile", "cpp_extension", "ctypes",
    "currentframe", "delattr", "distributed", "dump", "dumps", "eval", "exec", "exec_module", "f_builtins",
    "f_globals", "from_file", "from_pretrained", "fromfile", "get_class_from_dynamic_module", "globals", "hub",
    "import_module", "importlib", "input", "io", "load", "load_adapter", "load_custom_generate", "load_inline",
    "load_library", "load_module", "load_state_dict", "load_state_dict_from_url", "loads", "locals", "memmap", "mkdir",
    "modules", "multiprocessing", "open", "os", "package", "pathlib", "pickle", "popen", "Popen", "post", "print",
    "push_to_hub", "read_bytes", "read_text", "remove", "rename", "request", "run", "save", "save_pretrained",
    "shutil", "socket", "subprocess", "sys", "system", "tofile", "unlink", "urlopen", "urlretrieve", "vars",
    "write_bytes", "write_text",
}  # fmt: skip
FORBIDDEN_DUNDERS = {
    "__builtins__", "__class__", "__closure__", "__code__", "__dict__", "__func__", "__getattribute__", "__globals__",
    "__import__", "__loader__", "__mro__", "__self__", "__spec__", "__subclasses__",
}  # fmt: skip
DUNDERS = {"__bases__", "__version__", "__init__", "__init_subclass__", "__name__", "__new__", "__reduce_ex__"}
# Read or set by a name that is not written there: entries of FIELDS, and names of the file's own.
BY_NAME = {
    "getattr(config, f'zspa_{name}', None)",
    "getattr(config, name, default)",
    "getattr(outputs, _CACHE_NAME)",
    "getattr(self, field.name)",
    "hasattr(config, name)",
    "setattr(config, name, default)",
    "setattr(self, name, value)",
}
FORBIDDEN_ARGUMENTS = {"custom_generate", "trust_remote_code"}
LOADS = "tl.load"  # in a kernel, where tl is triton.language: from the memory of the GPU
# The base model that a generating class of transformers has built, and a cache, into ours.
TURNS = ("module.__class__ = cls", "cache.__class__ = _remembering(type(cache))")
SAVES = "super().save_pretrained(*args, **kwargs)"  # of the config: transformers saves it, ours is named first


def offences(tree: ast.Module, neighbours: Collection[str]) -> list[str]:
    """What a file must not say, each with its line.

    Args:
        neighbours: the modules that travel with it.
    """
    kernels = any(ast.unparse(node) == "import triton.language as tl" for node in ast.walk(tree))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = ((node, _problems(node, parents, neighbours, kernels)) for node in ast.walk(tree))
    return [f"line {node.lineno}: {problem}" for node, problems in found for problem in problems]


def _problems(node: ast.AST, parents: dict, neighbours: Collection[str], kernels: bool) -> Iterable[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name not in MODULES:
                yield f"imports {alias.name}"
    elif isinstance(node, ast.ImportFrom):
        known = node.module in neighbours if node.level == 1 else node.level == 0 and node.module in MODULES
        allowed_names = IMPORTED.get(node.module or "", set()) if node.level == 0 else set()
        for alias in node.names:
            is_stock = node.module == "transformers" and not node.level and alias.name in STOCK_CLASSES
            if not (known or is_stock or alias.name in allowed_names) or alias.name == "*" or _is_forbidden(alias.name):
                yield f"imports {alias.name} from {'.' * node.level}{node.module or ''}"
    elif isinstance(node, ast.Name):
        called = isinstance(parents[node], ast.Call) and parents[node].func is node
        if _is_forbidden(node.id) and (hasattr(builtins, node.id) or node.id.startswith("__")):
            yield f"uses {node.id}"
        if node.id in ("getattr", "setattr", "hasattr") and not called:
            yield f"passes {node.id} around"
    elif isinstance(node, ast.Attribute):
        allowed = (kernels and ast.unparse(node) == LOADS) or ast.unparse(parents[node]) in (SAVES, *TURNS)
        if _is_forbidden(node.attr) and not allowed:
            yield f"reads .{node.attr}"
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str) and (node.value in FORBIDDEN or node.value in FORBIDDEN_DUNDERS):
            yield f"names {node.value}"
    elif isinstance(node, ast.Call):
        yield from (f"passes {word.arg}" for word in node.keywords if word.arg in FORBIDDEN_ARGUMENTS)
        by_name = isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "hasattr")
        if by_name and ast.unparse(node) not in BY_NAME and not (len(node.args) > 1 and _is_plain(node.args[1])):
            yield f"reads what {ast.unparse(node)} names"
    elif type(node).__name__ == "Match":  # a pattern reads attributes
        yield "matches a pattern"


def _is_forbidden(name: str) -> bool:
    return name in FORBIDDEN or (name.startswith("__") and name not in DUNDERS)


def _is_plain(name: ast.expr) -> bool:
    """Whether the name given to `getattr` and its like is written out there, or what is written of it rules out every
    forbidden one."""
    if isinstance(name, ast.JoinedStr):
        written = (re.escape(part.value) if isinstance(part, ast.Constant) else ".*" for part in name.values)
        pattern = re.compile("".join(written))
        return not any(pattern.fullmatch(word) for word in (*FORBIDDEN, *FORBIDDEN_DUNDERS))
    return isinstance(name, ast.Constant)
