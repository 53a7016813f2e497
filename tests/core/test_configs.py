"""The presets in configs/, and fields that are edited by hand."""

import json
import re
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig, GenerationConfig

from hf_zspa.checkpoints.card.savings import cache_bytes_per_token
from hf_zspa.checkpoints.code_files import allowed_position_ids
from hf_zspa.checkpoints.convert import convert_checkpoint, read_preset
from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.checkpoints.inspect import inspect_checkpoint
from hf_zspa.remote_code.zspa_config import FIELDS, check_fields, meant_by

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(CONFIGS.glob("*.json"))}
# Table 2 of the paper: score by core ratio 0.1, 0.2, …, 0.9 (Qwen2.5-VL-7B-Instruct, keep ratio 0.1).
TABLE_2 = {
    "mmmu": (42.9, 43.3, 43.4, 43.9, 43.6, 43.1, 43.2, 43.0, 41.6),
    "gqa": (49.0, 48.5, 48.2, 47.9, 47.0, 46.6, 45.5, 44.1, 42.8),
    "pope": (68.2, 69.0, 65.3, 66.4, 65.7, 63.7, 61.9, 58.0, 53.9),
}
PAPERS = {"llava-1.5": "llava", "llava-next": "llava_next", "qwen2.5-vl": "qwen2_5_vl"}
METHODS = ("weighted",)  # whose presets choose it, at its defaults
MODEL_TYPES = PAPERS | {name.replace("_", "-"): name for name in FAMILIES if name not in PAPERS.values()}


def best_core_ratio(scores: list[float]) -> float:
    return (1 + scores.index(max(scores))) / 10


def test_every_family_and_every_benchmark_of_the_paper_has_a_preset():
    assert set(PRESETS) == {*MODEL_TYPES, *TABLE_2, *METHODS, "ai2d", "textvqa", "chartqa"}


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_of_a_method_has_its_defaults(name):
    settings = {key: value for key, value in PRESETS[name].items() if key not in ("description", "zspa_method")}
    assert PRESETS[name]["zspa_method"] == name
    assert settings == {key: FIELDS[key] for key in settings} and "zspa_relevance_weight" in settings


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_a_description_and_allowed_fields_only(name):
    fields = {key: value for key, value in PRESETS[name].items() if key != "description"}
    assert PRESETS[name]["description"].endswith(".")
    assert fields.keys() <= FIELDS.keys()
    families = [FAMILIES[MODEL_TYPES[name]]] if name in MODEL_TYPES else FAMILIES.values()
    for family in families:
        check_fields(fields, allowed_position_ids(family))


@pytest.mark.parametrize("name", TABLE_2)
def test_a_benchmark_of_table_2_has_the_core_ratio_that_is_best_there(name):
    assert PRESETS[name]["zspa_core_ratio"] == best_core_ratio(list(TABLE_2[name]))
    assert "Table 2" in PRESETS[name]["description"]


def test_the_other_presets_have_the_best_average_core_ratio_of_table_2():
    averages = [sum(scores) for scores in zip(*TABLE_2.values(), strict=True)]
    others = {preset["zspa_core_ratio"] for name, preset in PRESETS.items() if name not in (*TABLE_2, *METHODS)}
    assert others == {best_core_ratio(averages)} == {FIELDS["zspa_core_ratio"]}


@pytest.mark.parametrize("name", ["ai2d", "textvqa", "chartqa"])
def test_a_benchmark_outside_table_2_says_that_its_ratio_is_not_from_the_paper(name):
    assert "not from the paper" in PRESETS[name]["description"]


MISSPELT = [
    ("zspa_keepratio", r"did you mean zspa_keep_ratio\?"),
    ("zpsa_keep_ratio", r"did you mean zspa_keep_ratio\?"),
    ("keep_ratio", r"did you mean zspa_keep_ratio\?"),
    ("core_ratio", r"did you mean zspa_core_ratio\?"),
    ("zspa_temperature", "but pruning reads only zspa_keep_ratio"),
]


@pytest.mark.parametrize("name, hint", MISSPELT)
def test_a_misspelt_field_in_an_edited_config_is_refused_when_it_is_loaded(base_checkpoint, tmp_path, name, hint):
    out = convert_checkpoint(base_checkpoint("llava"), tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {name: 0.5}))
    message = rf"config\.json has {name}, {hint}"
    with pytest.raises(ValueError, match=message):
        AutoConfig.from_pretrained(out, trust_remote_code=True)
    with pytest.raises(ValueError, match=message):
        inspect_checkpoint(out)


@pytest.mark.parametrize("name", ["keep_ratio", "zpsa_keep_ratio"])
def test_a_base_with_a_misspelt_field_is_not_made_into_what_cannot_be_loaded(base_checkpoint, tmp_path, name):
    base = shutil.copytree(base_checkpoint("llava"), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {name: 0.5}))
    with pytest.raises(ValueError, match=rf"config\.json has {name}, did you mean zspa_keep_ratio\?"):
        convert_checkpoint(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entry", "value"), [("patch_size", 0), ("image_size", [56, 56]), ("image_size", None), ("patch_size", True)]
)
def test_of_a_config_with_odd_sizes_no_example_is_shown(base_checkpoint, entry, value):
    for family in FAMILIES.values():
        config = json.loads((base_checkpoint(family.model_type) / "config.json").read_text())
        known = family.examples(config)
        odd = config | {"vision_config": config["vision_config"] | {entry: value}}
        assert known and family.examples(odd) in ([], known), family.model_type  # not all families read the entry


@pytest.mark.parametrize("heads", [0, "8", None])
def test_of_a_config_with_odd_heads_no_size_of_the_cache_is_told(heads):
    text = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    assert cache_bytes_per_token({"text_config": text}) == 2 * 2 * 64 * 2
    assert cache_bytes_per_token({"text_config": text | {"num_attention_heads": heads}}) is None


@pytest.mark.parametrize("entry", [{"vision_config": "x"}, {"text_config": "x"}])
def test_a_part_that_is_no_object_is_a_value_error(base_checkpoint, tmp_path, entry):
    out = convert_checkpoint(base_checkpoint("llava"), tmp_path / "out")
    (out / "config.json").write_text(json.dumps(json.loads((out / "config.json").read_text()) | entry))
    with pytest.raises(ValueError, match=f"cannot be loaded: Validation error for field '{next(iter(entry))}'"):
        inspect_checkpoint(out)


@pytest.mark.parametrize("name, hint", MISSPELT[:4])
def test_a_misspelt_field_of_a_conversion_or_a_preset_is_told_what_it_means(base_checkpoint, tmp_path, name, hint):
    with pytest.raises(ValueError, match=rf"{name} is not a field of the config; {hint}"):
        convert_checkpoint(base_checkpoint("llava"), tmp_path / "out", **{name: 0.5})
    (tmp_path / "preset.json").write_text(json.dumps({name: 0.5}))
    with pytest.raises(ValueError, match=rf"preset\.json has {name}, {hint}"):
        read_preset(tmp_path / "preset.json")


@pytest.mark.parametrize("model_type", ["llava", "llava_next", "qwen2_5_vl", "qwen2_vl", "internvl", "mistral3"])
def test_no_entry_of_a_stock_config_is_taken_for_a_misspelt_field(model_type):
    config = AutoConfig.for_model(model_type).to_dict()
    names = {*config, *config["vision_config"], *config.get("text_config", {}), *GenerationConfig().to_dict()}
    assert len(names) > 60
    assert not [name for name in names if meant_by(name)]


@pytest.mark.parametrize("markers", [None, [], [7], [7, [8, 9]], [[7]]])
def test_what_marks_an_image_is_tokens_or_sequences_of_them(markers):
    check_fields({"zspa_image_marker_ids": markers}, ("preserve",))


@pytest.mark.parametrize("markers", ["abc", 7, [[]], [1, [2, -1]], [True], [[True]], [[[1]]], [None], [1.0], {"a": 1}])
def test_other_markers_of_an_image_are_refused_as_they_were_typed(markers):
    words = f"zspa_image_marker_ids has {markers!r}, but a list of token ids, or of lists of them, must stand there"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        check_fields({"zspa_image_marker_ids": markers}, ("preserve",))
