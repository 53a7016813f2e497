"""What code that travels in a checkpoint may say, read from its syntax tree: what these lists lack is an offence."""

import ast
import builtins
import re
from collections.abc import Iterable, Mapping

# Modules that are imported whole, and all that is read of them.
READ = {
    "functools": {"wraps"},
    "inspect": {"signature"},
    "math": {"floor", "isfinite"},
    "torch": {
        "arange", "bfloat16", "bmm", "bool", "cat", "cuda.device_of", "device", "empty", "empty_like", "finfo",
        "float16", "float32", "float64", "full", "full_like", "inf", "int32", "isin", "linalg.vector_norm", "long",
        "maximum", "minimum", "nan_to_num", "nn.functional.normalize", "nn.functional.pad",
        "nn.utils.rnn.pad_sequence", "no_grad", "ones_like", "ops.aten.bmm.overloads", "stack", "tensor", "zeros",
        "zeros_like",
    },
    "triton": {"cdiv", "jit", "next_power_of_2"},
    "triton.language": {
        "abs", "arange", "constexpr", "div_rn", "float32", "int32", "int64", "load", "max", "maximum", "min",
        "program_id", "sqrt_rn", "store", "sum", "where",
    },
    "warnings": {"warn"},
}  # fmt: skip
# What is imported out of modules.
IMPORTED = {
    "bisect": {"bisect_left"},
    "contextlib": {"contextmanager"},
    "copy": {"copy"},
    "dataclasses": {"dataclass", "field"},
    "functools": {"partial"},
    "itertools": {"accumulate"},
    "torch": {"Tensor"},
    "transformers": {
        "Cache", "DynamicCache", "LlavaConfig", "LlavaForConditionalGeneration", "LlavaNextConfig",
        "LlavaNextForConditionalGeneration", "Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration",
    },
    "transformers.conversion_mapping": {
        "get_checkpoint_conversion_mapping", "register_checkpoint_conversion_mapping",
    },
    "transformers.generation": {"AssistedCandidateGenerator", "GenerationMixin"},
    "typing": {"Any", "Protocol", "runtime_checkable"},
}  # fmt: skip
BUILTINS = {
    "Exception", "ImportError", "TypeError", "ValueError", "all", "any", "bool", "callable", "classmethod", "dict",
    "enumerate", "float", "getattr", "hasattr", "int", "isinstance", "len", "list", "map", "max", "min", "next",
    "property", "range", "repr", "setattr", "slice", "staticmethod", "str", "super", "tuple", "type", "zip",
}  # fmt: skip
DUNDERS = {"__init__", "__name__"}
# Names that open files, connections or processes, or lead to what does, whatever they are read of.
FORBIDDEN = {
    "builtins", "call", "check_call", "check_output", "compile", "cpp_extension", "ctypes", "dump", "dumps", "eval",
    "exec", "exec_module", "from_file", "from_pretrained", "fromfile", "get_class_from_dynamic_module", "hub",
    "import_module", "importlib", "io", "load", "load_adapter", "load_custom_generate", "load_inline", "load_library",
    "load_module", "load_state_dict", "load_state_dict_from_url", "loads", "memmap", "mkdir", "modules", "open", "os",
    "pathlib", "pickle", "popen", "Popen", "post", "push_to_hub", "read_bytes", "read_text", "remove", "rename",
    "request", "run", "save", "save_pretrained", "shutil", "socket", "subprocess", "sys", "system", "tofile", "unlink",
    "urlopen", "urlretrieve", "write_bytes", "write_text",
}  # fmt: skip
FORBIDDEN_DUNDERS = {
    "__builtins__", "__class__", "__closure__", "__code__", "__dict__", "__func__", "__getattribute__", "__globals__",
    "__import__", "__loader__", "__mro__", "__self__", "__spec__", "__subclasses__",
}  # fmt: skip
FORBIDDEN_ARGUMENTS = {"custom_generate", "trust_remote_code"}
# Read or set by a name that is not written there: entries of FIELDS, and names of the file's own.
BY_NAME = {
    "getattr(cache, _ATTRIBUTE, None)",
    "getattr(config, name, default)",
    "getattr(outputs, _CACHE_NAME)",
    "hasattr(config, name)",
    "setattr(cache, _ATTRIBUTE, None)",
    "setattr(cache, _ATTRIBUTE, prompt)",
    "setattr(config, name, default)",
    "setattr(self, name, value)",
}
SAVES = "super().save_pretrained(*args, **kwargs)"  # of the config: transformers saves it, ours is named first


def defined(tree: ast.Module) -> set[str]:
    """The functions, classes and constants of a file, without what it imports."""
    found = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assigned = (node for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign)))
    names = (name for node in assigned for name in ast.walk(node) if isinstance(name, ast.Name))
    return found | {name.id for name in names if isinstance(name.ctx, ast.Store)}


def offences(tree: ast.Module, neighbours: Mapping[str, set[str]]) -> list[str]:
    """What a file must not say, each with its line.

    Args:
        neighbours: of each file that travels with it, by its module's name, what it defines.
    """
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    imports = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname or alias.name.split(".")[0]: alias.name for alias in imports}
    return [
        f"line {node.lineno}: {problem}"
        for node in ast.walk(tree)
        for problem in _problems(node, parents, modules, neighbours)
    ]


def _problems(node: ast.AST, parents: dict, modules: dict[str, str], neighbours: Mapping) -> Iterable[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name not in READ or ("." in alias.name and not alias.asname):
                yield f"imports {alias.name}"
    elif isinstance(node, ast.ImportFrom):
        allowed = neighbours.get(node.module, set()) if node.level == 1 else IMPORTED.get(node.module, set())
        for alias in node.names:
            if node.level > 1 or alias.name not in allowed:
                yield f"imports {alias.name} from {'.' * node.level}{node.module or ''}"
    elif isinstance(node, ast.Name):
        yield from _name(node, parents, modules)
    elif isinstance(node, ast.Attribute):
        saves = node.attr == "save_pretrained" and ast.unparse(parents[node]) == SAVES
        if _outermost(node) not in modules and not saves and _is_forbidden(node.attr):
            yield f"reads .{node.attr}"
    elif isinstance(node, ast.Call):
        yield from (f"passes {word.arg}" for word in node.keywords if word.arg in FORBIDDEN_ARGUMENTS)
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "hasattr"):
            yield from _by_name(node)
    elif type(node).__name__ == "Match":  # a pattern reads attributes
        yield "matches a pattern"


def _name(node: ast.Name, parents: dict, modules: dict[str, str]) -> Iterable[str]:
    parent = parents[node]
    if node.id.startswith("__") or (hasattr(builtins, node.id) and node.id not in BUILTINS):
        yield f"uses {node.id}"
    if node.id in ("getattr", "setattr", "hasattr") and not (isinstance(parent, ast.Call) and parent.func is node):
        yield f"passes {node.id} around"
    if node.id not in modules or isinstance(node.ctx, ast.Store):
        return
    if isinstance(parent, ast.Compare) and ast.unparse(parent) == f"{node.id} is not None":
        return
    chain: ast.AST = node
    while isinstance(parents[chain], ast.Attribute):
        chain = parents[chain]
    if ast.unparse(chain).partition(".")[2] not in READ.get(modules[node.id], ()):
        yield f"reads {ast.unparse(chain)}"


def _outermost(node: ast.AST) -> str | None:
    """The name that a chain of attributes begins with; None if it is no name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_forbidden(attribute: str) -> bool:
    return attribute in FORBIDDEN or (attribute.startswith("__") and attribute not in DUNDERS)


def _by_name(call: ast.Call) -> Iterable[str]:
    """`getattr` and its like: the name is written out, or what is written of it rules out every forbidden one."""
    name = call.args[1] if len(call.args) > 1 else None
    if isinstance(name, ast.Constant) and not _is_forbidden(str(name.value)):
        return
    if isinstance(name, ast.JoinedStr):
        written = (re.escape(part.value) if isinstance(part, ast.Constant) else ".*" for part in name.values)
        pattern = re.compile("".join(written))
        if not any(pattern.fullmatch(word) for word in (*FORBIDDEN, *FORBIDDEN_DUNDERS)):
            return
    if ast.unparse(call) not in BY_NAME:
        yield f"reads what {ast.unparse(call)} names"
