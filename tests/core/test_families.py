"""What the records of families say, and that nobody else says it."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torchvision_operators  # noqa: F401  lets torchvision be imported later
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.llava_next import modeling_llava_next

import hf_zspa
from hf_zspa.bench.shapes import SHAPES
from hf_zspa.checkpoints.base import known_family
from hf_zspa.checkpoints.code_files import REMOTE_CODE, allowed_position_ids
from hf_zspa.checkpoints.families import FAMILIES

PACKAGE = Path(hf_zspa.__file__).parent
# The family's own files: what is known of it here, its model, its class in vLLM. And the two models that were trained
# in scenes/training, which knows just these.
RECORDS = PACKAGE / "checkpoints" / "families"
OWN = {*RECORDS.glob("*.py")}
OWN |= {REMOTE_CODE / f"{family.module}.py" for family in FAMILIES.values()}
OWN |= {PACKAGE / "vllm" / f"{family.vllm}.py" for family in FAMILIES.values() if family.vllm}
OTHERS = [path for path in sorted(PACKAGE.rglob("*.py")) if path not in OWN and PACKAGE / "scenes" not in path.parents]


def named_families(text: str) -> list[int]:
    """The lines with a family's model type, but for where it is the `model_type` of a config."""
    tree = ast.parse(text)
    entries = [pair for node in ast.walk(tree) if isinstance(node, ast.Dict) for pair in zip(node.keys, node.values)]
    configs = {id(value) for key, value in entries if isinstance(key, ast.Constant) and key.value == "model_type"}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in configs)
    return [node.lineno for node in constants if isinstance(node.value, str) and node.value in FAMILIES]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_a_familys_own_files_name_it(path):
    assert named_families(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_branch_on_a_family_is_found(model_type):
    for line in (f'kind == "{model_type}"', f'kind in ("{model_type}", "b")', f'{{"{model_type}": f}}[kind]'):
        assert named_families(line) == [1]
    assert named_families(f'{{"model_type": "{model_type}"}}') == []


def test_the_records_are_read_without_a_heavy_import():
    for file in RECORDS.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
        assert imported <= {"collections.abc", "dataclasses", "itertools", "math", "typing"}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_text_of_a_modeling_file_says_what_its_class_says(family):
    module = import_module(f"hf_zspa.remote_code.{family.module}")
    assert allowed_position_ids(family) == getattr(module, family.config_class).allowed_position_ids


@given(
    side=st.sampled_from([2, 3, 24, 27]),
    tiles=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, unique=True),
    height=st.integers(1, 1500),
    width=st.integers(1, 1500),
)
def test_llava_next_lies_as_its_stock_class_packs_it(side, tiles, height, width):
    pixels = 14 * side
    pinpoints = [[rows * pixels, columns * pixels] for rows, columns in tiles]
    rows, columns = modeling_llava_next.get_anyres_image_grid_shape((height, width), pinpoints, pixels)
    patches = torch.zeros(1, rows * side, columns * side)
    rows, columns = modeling_llava_next.unpad_image(patches, (height, width)).shape[1:]
    config = {"vision_config": {"image_size": pixels, "patch_size": 14}, "image_grid_pinpoints": pinpoints}
    layout = FAMILIES["llava_next"].layout(config, (height, width))
    assert layout.count == side * side + rows * (columns + 1)
    assert [len(row) for grid in layout.grids[1:] for row in grid.rows] == [columns] * rows * bool(columns)


@pytest.mark.parametrize(
    ("vision", "count"),
    [({"model_type": "clip_vision_model"}, 577), ({}, 577), ({"model_type": "siglip_vision_model"}, 576)],
)
def test_a_llava_that_takes_all_features_has_a_class_token_where_its_tower_has_one(vision, count):
    config = {"vision_config": {"image_size": 336, "patch_size": 14} | vision, "vision_feature_select_strategy": "full"}
    assert FAMILIES["llava"].examples(config) == [("any", count)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llava-1.5-7b", [("any", 576)]),
        ("llava-next-7b", [("672 × 672 pixels", 576 + 48 * 49)]),
        ("gemma-3-4b", [("any", 256)]),
        ("qwen2.5-vl-7b", [("448 × 448 pixels", 256), ("1008 × 1008 pixels", 1296)]),
    ],
)
def test_examples_of_well_known_models(name, expected):
    assert SHAPES[name].family.examples(SHAPES[name].config) == expected


def test_an_image_of_pixtral_keeps_its_shape():
    vision = {"model_type": "pixtral", "image_size": 1024, "patch_size": 16}
    assert FAMILIES["llava"].examples({"vision_config": vision}) == [("1024 × 1024 pixels", 64 * 64)]


def test_a_config_that_does_not_tell_has_no_examples():
    assert FAMILIES["llava"].examples({}) == FAMILIES["llava_next"].examples({}) == []
    assert FAMILIES["qwen2_5_vl"].examples({}) == [("448 × 448 pixels", 256), ("1008 × 1008 pixels", 1296)]
    assert FAMILIES["qwen3_vl"].examples({}) == [("512 × 512 pixels", 256), ("1152 × 1152 pixels", 1296)]


@pytest.mark.parametrize(
    ("config", "nearest"),
    [
        ({"model_type": "qwen3_omni"}, "qwen3_5"),
        ({"model_type": "gemma3n"}, "gemma3"),
        ({"model_type": "fast_vlm", "text_config": {"model_type": "lfm2"}}, "lfm2_vl"),
        (
            {"model_type": "ocr", "text_config": {"model_type": "qwen3"}, "vision_config": {"model_type": "pixtral"}},
            "llava",
        ),
        ({"model_type": "bert", "text_config": "none"}, None),
        ({}, None),
    ],
)
def test_an_unknown_family_is_refused_with_the_nearest_by_what_it_is_made_of(config, nearest):
    with pytest.raises(ValueError, match=r"must be one of llava, .*docs/extending.md$") as refusal:
        known_family(Path("base"), config)
    assert re.findall("the nearest is (\\w+)\\.", str(refusal.value)) == [nearest] * (nearest is not None)
