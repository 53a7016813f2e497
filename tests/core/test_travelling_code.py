"""What the code that travels in a checkpoint may do, read from its syntax trees: compute, and nothing else."""

import ast

import pytest
from travelling_rules import BY_NAME, IMPORTED, offences

from hf_zspa.checkpoints.code_files import REMOTE_CODE

FILES = sorted(path for path in REMOTE_CODE.glob("*.py") if path.name != "__init__.py")


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


NEIGHBOURS = {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_only_computes(path):
    """It imports and reads nothing that opens a file, a connection or a process, or runs text as code."""
    assert offences(tree(path), NEIGHBOURS) == []


def test_every_exception_is_in_use():
    texts = [ast.unparse(tree(path)) for path in FILES]
    names = {name for names in IMPORTED.values() for name in names}
    assert {word for word in (*BY_NAME, *names) if not any(word in text for text in texts)} == set()


OFFENCES = {
    "import os": "imports os",
    "import torch.hub": "imports torch.hub",
    "import torch.nn as t": "imports torch.nn",
    "from os import path": "imports path from os",
    "from torch import hub": "imports hub from torch",
    "from torch import load as l": "imports load from torch",
    "from torch import *": "imports * from torch",
    "from torch.hub import load_state_dict_from_url as f\nf(url)": "imports load_state_dict_from_url from torch.hub",
    "from transformers.utils.hub import os": "imports os from transformers.utils.hub",
    "from transformers import AutoModel\nAutoModel.from_pretrained(a)": "reads .from_pretrained",
    "from transformers import AutoModel\nf = AutoModel.from_pretrained\nf(a)": "reads .from_pretrained",
    "from transformers import pipeline\npipeline(model=a)": "imports pipeline from transformers",
    "import transformers\ntransformers.pipeline(model=a)": "imports transformers",
    "import torch\ntorch.package.PackageImporter(a)": "reads .package",
    "import torch\ntorch.distributed.init_process_group()": "reads .distributed",
    "import socket": "imports socket",
    "import subprocess": "imports subprocess",
    "from importlib import import_module": "imports import_module from importlib",
    "from torch import compile": "imports compile from torch",
    "from .elsewhere import f": "imports f from .elsewhere",
    "from . import zspa_kernels": "imports zspa_kernels from .",
    "from .. import cli": "imports cli from ..",
    "import torch\ntorch.load(a)": "reads .load",
    "import torch\ntorch.hub.load(a)": "reads .hub",
    "import torch\ntorch.compile(f)": "reads .compile",
    "import torch\nt = torch\nt.load(a)": "reads .load",
    "import warnings\nwarnings.sys.modules": "reads .sys",
    "import inspect as i\ni.os.system(a)": "reads .os",
    "import torch as tl\ntl.load(a)": "reads .load",
    "open(a)": "uses open",
    "f = open": "uses open",
    "exec(a)": "uses exec",
    "eval(a)": "uses eval",
    "compile(a, b, c)": "uses compile",
    "globals()": "uses globals",
    "print(a)": "uses print",
    "__import__(a)": "uses __import__",
    "__builtins__": "uses __builtins__",
    "Path(a).open()": "reads .open",
    "Path(a).write_text(b)": "reads .write_text",
    "LlavaConfig.from_pretrained(a)": "reads .from_pretrained",
    "model.save_pretrained(a)": "reads .save_pretrained",
    "f.__globals__": "reads .__globals__",
    "().__class__": "reads .__class__",
    "getattr(x, 'lo' + 'ad')": "reads what getattr(x, 'lo' + 'ad') names",
    "getattr(x, 'load')": "names load",
    "name = 'load'\ngetattr(x, name)": "names load",
    "name = 'lo' + 'ad'\ngetattr(x, name)": "reads what getattr(x, name) names",
    "getattr(*a)": "reads what getattr(*a) names",
    "getattr(x, '__globals__')": "names __globals__",
    "getattr(x, names[0])": "reads what getattr(x, names[0]) names",
    "getattr(x, a + b)": "reads what getattr(x, a + b) names",
    "getattr(x, f'{a}{b}')": "reads what getattr(x, f'{a}{b}') names",
    "getattr(x, f'lo{a}')": "reads what getattr(x, f'lo{a}') names",
    "getattr(x, f'__{a}__')": "reads what getattr(x, f'__{a}__') names",
    "g = getattr": "passes getattr around",
    "model.generate(custom_generate=a)": "passes custom_generate",
    "AutoConfig.for_model(a, trust_remote_code=True)": "passes trust_remote_code",
    "match x:\n    case C(load=f):\n        f()": "matches a pattern",
}


@pytest.mark.parametrize("text", OFFENCES, ids=lambda text: text.replace("\n", "; "))
def test_what_does_more_is_found(text):
    found = offences(ast.parse(text), NEIGHBOURS)
    assert [line for line in found if line.endswith(f": {OFFENCES[text]}")], found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_triton_is_optional(path):
    """An import outside of `try` would make transformers demand the package."""
    for node in tree(path).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert "triton" not in ast.unparse(node)


@pytest.mark.parametrize("path", [p for p in FILES if p.name.startswith("modeling_")], ids=lambda path: path.name)
def test_a_modeling_file_imports_every_helper(path):
    """transformers 4.x takes no other along; a family without a subclass in common needs none that it does not use."""
    helpers = {other.stem for other in FILES if other.stem.startswith("zspa_")}
    imported = (node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom) and node.level == 1)
    assert helpers <= {node.module for node in imported}
