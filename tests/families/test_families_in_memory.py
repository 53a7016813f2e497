"""A model made to prune in memory is the one that `hf_zspa.from_pretrained` loads, on which every family's oracle tests
run, and the stock model again afterwards."""

import pytest
import tiny
import torch
import transformers
from pairs import CASES, CORE, KEEP, OTHER, QUESTION

import hf_zspa

FIELDS = {"zspa_keep_ratio": KEEP / 100, "zspa_core_ratio": CORE / 100, "zspa_prompt_scope": "text"}
MIXTURES = ("qwen3_vl_moe", "qwen3_5_moe", "gemma4", "glm4v_moe", "kimi_k25", "gemma3")  # and one without experts
WANTED = {"output_logits": True, "return_dict_in_generate": True}


@pytest.fixture(params=[*tiny.FAMILIES, *tiny.OTHER_FAMILIES])
def each(request, load):
    """The models of every family in turn."""
    return load(request.param)


def stock_model(pair, base, **options):
    return getattr(transformers, tiny.STOCK[pair.family]).from_pretrained(base(pair.family), **options).eval()


def results(model, pair):
    """Everything a call may give: tokens and logits of `generate`, `forward` and the base model."""
    inputs = pair.inputs(*CASES["unequal images and questions"])
    out = model.generate(**inputs, **pair.greedy, **WANTED)
    with torch.no_grad():
        logits = model(**inputs).logits
        hidden = model.model(**inputs).last_hidden_state
    return [out.sequences, *out.logits, logits, hidden]


@pytest.mark.every_version
def test_a_model_that_is_made_to_prune_is_the_one_loaded_so_and_stock_again_afterwards(each, base_checkpoint):
    model = stock_model(each, base_checkpoint)
    config, unpruned = model.config.to_dict(), results(model, each)
    attributes = {*vars(model)}
    special = {"zspa_special_token_ids": each.model.config.zspa_special_token_ids}
    assert hf_zspa.prune(model, each.processor, **FIELDS, **special) is model
    assert type(model) is type(each.model) and type(model.model) is type(each.model.model)
    assert model.config.to_dict() == each.model.config.to_dict()
    pruned = results(model, each)
    assert all(map(torch.equal, pruned, results(each.model, each)))
    assert not torch.equal(pruned[1], unpruned[1])

    assert hf_zspa.unprune(model) is model
    assert type(model) is type(each.stock.model) and type(model.model) is type(each.stock.model.model)
    named = {"architectures": [type(model).__name__]}  # which Kimi's publisher calls otherwise
    assert model.config.to_dict() == config | named and type(model.config) is type(each.stock.model.config)
    assert all(map(torch.equal, results(model, each), unpruned))
    assert vars(model).keys() == attributes


@pytest.mark.every_version
def test_entries_of_a_part_of_the_config_are_merged_as_the_stock_class_does(each, base_checkpoint):
    entries = {name: {"initializer_range": 0.5} for name in ("text_config", "vision_config")}
    stock = stock_model(each, base_checkpoint, **entries)
    model = hf_zspa.from_pretrained(base_checkpoint(each.family), zspa_keep_ratio=0.3, **entries)
    text = model.config.get_text_config()
    assert model.config.zspa_keep_ratio == 0.3 and text.initializer_range == 0.5
    assert text.hidden_size == each.stock.model.config.get_text_config().hidden_size
    assert any(vars(part).get("config") is text for part in model.model.children())
    named = {"architectures": [type(stock).__name__]}
    assert hf_zspa.unprune(model).config.to_dict() == stock.config.to_dict() | named


def test_what_is_saved_is_a_checkpoint_that_prunes(each, base_checkpoint, tmp_path):
    model = hf_zspa.prune(stock_model(each, base_checkpoint), each.processor, zspa_keep_ratio=0.3)
    model.save_pretrained(tmp_path)
    each.processor.save_pretrained(tmp_path)
    found = hf_zspa.verify_checkpoint(tmp_path)
    assert found.passed, [*found.problems, *(f"{file.name} {file.problem}" for file in found.files if file.problem)]
    assert hf_zspa.inspect_checkpoint(tmp_path).fields["zspa_keep_ratio"] == 0.3
    loaded, info = transformers.AutoModelForImageTextToText.from_pretrained(
        tmp_path, trust_remote_code=True, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    inputs = each.inputs([CASES["one image"][0][0], QUESTION + " " + OTHER])
    expected = model.generate(**inputs, **each.greedy)
    assert torch.equal(loaded.eval().generate(**inputs, **each.greedy), expected)
    assert len(loaded.select_visual_tokens(**inputs)) == 1


@pytest.mark.parametrize("family", [family for family in MIXTURES if family in tiny.OTHER_FAMILIES])
def test_attention_and_experts_are_computed_in_the_ways_of_the_stock_class(load, family, base_checkpoint, monkeypatch):
    each = load(family)
    for cls in type(each.model).__mro__:  # transformers remembers what it found of a class: it is to look at ours first
        for name in [name for name in vars(cls) if name.startswith("_can_set_") and name.endswith("_cached_value")]:
            monkeypatch.delattr(cls, name)
    model = hf_zspa.from_pretrained(base_checkpoint(each.family), **FIELDS)
    for ours, stock in zip(model.modules(), each.stock.model.modules(), strict=True):
        for way in ("_attn_implementation", "_experts_implementation"):
            found = [getattr(getattr(module, "config", None), way, None) for module in (ours, stock)]
            assert found[0] == found[1], f"{way} of {type(ours).__name__}"
