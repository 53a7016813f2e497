"""`from_pretrained` of a base, `prune` and `unprune`: how they are called, and what they refuse."""

import copy
import functools
import json
import shutil

import peft
import pytest
import tiny
import torch
import transformers
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from pairs import QUESTION, image
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

import hf_zspa

pytestmark = [pytest.mark.oldest_and_newest, pytest.mark.slow]


@pytest.fixture
def stock(pair, base_checkpoint):
    """A function to a stock model of the family; transformers' options are its own."""

    def load(**options):
        stock_class = getattr(transformers, tiny.STOCK[pair.family])
        return stock_class.from_pretrained(base_checkpoint(pair.family), **options).eval()

    return load


def question(pair):
    return pair.inputs([image(), QUESTION])


def test_the_question_is_found_as_convert_finds_it(pair, base_checkpoint, stock, tmp_path):
    base = base_checkpoint(pair.family)
    converted = hf_zspa.convert_checkpoint(base, tmp_path / "converted", zspa_keep_ratio=0.2)
    expected = hf_zspa.inspect_checkpoint(converted).fields
    for model in (
        hf_zspa.from_pretrained(base, zspa_keep_ratio=0.2),
        hf_zspa.prune(stock(), pair.processor, zspa_keep_ratio=0.2),
        hf_zspa.from_pretrained(converted),
    ):
        assert {name: getattr(model.config, name) for name in expected} == expected
        assert model.config.auto_map.keys() >= {"AutoConfig", "AutoModelForImageTextToText"}
    assert hf_zspa.from_pretrained(converted, zspa_keep_ratio=0.5).config.zspa_keep_ratio == 0.5


def test_nothing_is_written(pair, base_checkpoint):
    base = base_checkpoint(pair.family)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in base.iterdir()}
    hf_zspa.from_pretrained(base).generate(**question(pair), **pair.greedy)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in base.iterdir()} == before


def test_transformers_own_options_are_taken(pair, base_checkpoint):
    model, info = hf_zspa.from_pretrained(
        base_checkpoint(pair.family), dtype=torch.bfloat16, attn_implementation="eager", device_map={"": "cpu"},
        output_loading_info=True, local_files_only=True,
    )  # fmt: skip
    assert model.dtype == torch.bfloat16 and not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config._attn_implementation == "eager" and not model.training
    assert model.select_visual_tokens(**question(pair))[0].numel() > 0


def test_a_dispatched_model_is_pruned_in_place_and_is_stock_again_afterwards(pair, stock):
    inputs, expected = question(pair), stock()
    with torch.no_grad():
        unpruned = expected(**inputs).logits
    expected = hf_zspa.prune(expected, pair.processor)
    model = hf_zspa.prune(cpu_offload(stock(), execution_device=torch.device("cpu")), pair.processor)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected(**inputs).logits)
    assert torch.equal(model.generate(**inputs, **pair.greedy), expected.generate(**inputs, **pair.greedy))
    with torch.no_grad():  # an offloaded LLaVA-NeXT of transformers 5 cannot generate
        assert torch.equal(hf_zspa.unprune(model)(**inputs).logits, unpruned)


def test_four_bit_weights_are_loaded_and_pruned(pair, base_checkpoint, stock):
    small = ["model.vision_tower", "model.multi_modal_projector", "model.visual", "lm_head"]  # too small for it
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, llm_int8_skip_modules=small
    )
    inputs = question(pair)
    loaded = hf_zspa.from_pretrained(base_checkpoint(pair.family), quantization_config=quantization)
    model = hf_zspa.prune(stock(quantization_config=quantization), pair.processor)
    assert any(type(module).__name__ == "Linear4bit" for module in model.modules())
    for name in ("select_visual_tokens", "generate"):
        found = [
            getattr(each, name)(**inputs, **(pair.greedy if name == "generate" else {})) for each in (loaded, model)
        ]
        assert torch.equal(found[0][0], found[1][0])


def test_what_was_fine_tuned_is_saved_with_its_code(pair, stock, tmp_path):
    model = hf_zspa.prune(stock(), pair.processor, zspa_keep_ratio=0.3)
    inputs = question(pair)
    labels = inputs["input_ids"]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path)
    pair.processor.save_pretrained(tmp_path)
    assert hf_zspa.verify_checkpoint(tmp_path).passed
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path, trust_remote_code=True).eval()
    assert torch.equal(loaded.generate(**inputs, **pair.greedy), model.eval().generate(**inputs, **pair.greedy))
    again = copy.deepcopy(model)
    assert torch.equal(again.generate(**inputs, **pair.greedy), model.generate(**inputs, **pair.greedy))


def test_a_converted_checkpoints_model_is_stock_again_when_unpruned(pair, base_checkpoint, stock, tmp_path):
    converted = hf_zspa.convert_checkpoint(base_checkpoint(pair.family), tmp_path / "converted")
    model = AutoModelForImageTextToText.from_pretrained(converted, trust_remote_code=True).eval()
    inputs = question(pair)
    assert torch.equal(
        hf_zspa.unprune(model).generate(**inputs, **pair.greedy), stock().generate(**inputs, **pair.greedy)
    )
    assert type(model) is type(stock())


FIELD_ERRORS = [
    ({"zspa_keep_ratio": 1.5}, "zspa_keep_ratio is 1.5, but must be a number in"),
    ({"zspa_keep_ration": 0.1}, "did you mean zspa_keep_ratio"),
    ({"keep_ratio": 0.1}, "did you mean zspa_keep_ratio"),
    ({"zspa_method": "best"}, "zspa_method is 'best'"),
]


@pytest.mark.parametrize(("fields", "message"), FIELD_ERRORS)
def test_fields_are_checked_before_anything_changes(pair, base_checkpoint, stock, fields, message):
    with pytest.raises(ValueError, match=message):
        hf_zspa.from_pretrained(base_checkpoint(pair.family), **fields)
    model = stock()
    config = model.config.to_dict()
    with pytest.raises(ValueError, match=message):
        hf_zspa.prune(model, pair.processor, **fields)
    assert type(model).__name__ == tiny.STOCK[pair.family] and model.config.to_dict() == config


def test_models_that_would_not_prune_are_refused(pair, stock):
    model = stock()
    lora = peft.LoraConfig(r=2, target_modules="all-linear")
    for other in (model.model, model.model.language_model, torch.nn.DataParallel(model), torch.compile(model), "model"):
        with pytest.raises(ValueError, match=r"the model is a .*, but must be .* of transformers itself"):
            hf_zspa.prune(other, pair.processor)
    for processor in (None, pair.processor.image_processor, pair.processor.tokenizer):
        with pytest.raises(ValueError, match=r"processor is a .*, but must be the model's, with a fast tokenizer"):
            hf_zspa.prune(model, processor)
    with pytest.raises(ValueError, match="which prunes nothing: there is nothing to undo"):
        hf_zspa.unprune(model)
    model.model.forward = functools.partial(model.model.forward)
    with pytest.raises(ValueError, match=r"the forward of this .*Model was replaced: do that after pruning"):
        hf_zspa.prune(model, pair.processor)
    assert not hasattr(model.config, "zspa_keep_ratio") and type(model).__name__ == tiny.STOCK[pair.family]
    del model.model.forward
    hf_zspa.prune(model, pair.processor)
    with pytest.raises(ValueError, match="the model prunes already"):
        hf_zspa.prune(model, pair.processor)
    adapted = peft.get_peft_model(stock(), lora)
    with pytest.raises(ValueError, match=r"PeftModel.*, but must be"):
        hf_zspa.prune(adapted, pair.processor)
    inputs = question(pair)
    hf_zspa.prune(adapted.get_base_model(), pair.processor)
    assert len(adapted.get_base_model().select_visual_tokens(**inputs)[0]) < 20
    columns = adapted(**inputs).past_key_values.get_seq_length()
    assert columns < inputs["input_ids"].shape[1]


def test_a_base_that_cannot_be_converted_is_not_loaded(base_checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"is not a checkpoint: it has no config\.json"):
        hf_zspa.from_pretrained(tmp_path)
    shutil.copytree(base_checkpoint("llava"), tmp_path / "base")
    for path in (tmp_path / "base").glob("*.safetensors"):
        path.rename(tmp_path / "base" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="only pickled ones"):
        hf_zspa.from_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match="there is no folder"):
        hf_zspa.from_pretrained(tmp_path / "nowhere")


def test_a_base_model_that_is_not_transformers_own_is_refused_and_left_alone(pair, stock):
    model = stock()
    own = type("Own", (type(model.model),), {})
    for inner in (peft.PeftModel(model.model, peft.LoraConfig(r=2, target_modules="all-linear")), own(model.config)):
        wrapped = stock()
        wrapped.model = inner
        with pytest.raises(ValueError, match=r"the model is a (PeftModel|Own), but must be .*Model of transformers"):
            hf_zspa.prune(wrapped, pair.processor)
        assert type(wrapped).__name__ == tiny.STOCK[pair.family] and not hasattr(wrapped.config, "zspa_keep_ratio")
    pruned = hf_zspa.prune(stock(), pair.processor)
    before = type(pruned)
    pruned.model = own(stock().config)
    with pytest.raises(ValueError, match="but must be one that prunes by the code of"):
        hf_zspa.unprune(pruned)
    assert type(pruned) is before and pruned.config.zspa_keep_ratio == 0.1


def test_models_that_share_a_config_do_not_disturb_each_other(pair, stock):
    one = stock()
    other = type(one)(one.config).eval()
    other.load_state_dict(one.state_dict())
    assert other.config is one.config
    inputs = question(pair)
    unpruned = other.generate(**inputs, **pair.greedy)
    hf_zspa.prune(one, pair.processor, zspa_keep_ratio=0.3)
    assert not hasattr(other.config, "zspa_keep_ratio") and one.model.config is one.config
    assert one.model.language_model.config is one.config.get_text_config()
    hf_zspa.prune(other, pair.processor, zspa_keep_ratio=0.6)
    kept = [len(each.select_visual_tokens(**inputs)[0]) for each in (one, other)]
    assert kept[0] < kept[1] and one.config.zspa_keep_ratio == 0.3
    hf_zspa.unprune(other)
    assert torch.equal(other.generate(**inputs, **pair.greedy), unpruned)
    assert len(one.select_visual_tokens(**inputs)[0]) == kept[0]


def test_a_converted_checkpoint_that_was_loaded_stock_keeps_its_fields(pair, base_checkpoint, tmp_path):
    folder = hf_zspa.convert_checkpoint(
        base_checkpoint(pair.family), tmp_path / "c", zspa_keep_ratio=0.5, zspa_method="weighted"
    )
    load = getattr(transformers, tiny.STOCK[pair.family]).from_pretrained
    model = hf_zspa.prune(load(folder).eval(), pair.processor, zspa_relevance_weight=0.5)
    config = model.config
    found = config.zspa_keep_ratio, config.zspa_method, config.zspa_relevance_weight
    assert found == (0.5, "weighted", 0.5)
    model = load(folder)
    model.config.zspa_keep_ration = 0.2
    with pytest.raises(ValueError, match="did you mean zspa_keep_ratio"):
        hf_zspa.prune(model, pair.processor)
    assert type(model).__name__ == tiny.STOCK[pair.family]


def test_the_processor_of_another_model_is_refused(load, pair, stock):
    other = load("qwen2_5_vl" if pair.family != "qwen2_5_vl" else "llava").processor
    with pytest.raises(ValueError, match=r"the processor's token for an image is .*: give its processor"):
        hf_zspa.prune(stock(), other)


def test_a_forward_below_a_hook_and_what_a_removed_hook_leaves(pair, stock):
    model = stock()
    old = type(model).forward
    model.forward = lambda **kwargs: old(model, **kwargs)
    with pytest.raises(ValueError, match="was replaced"):
        hf_zspa.prune(add_hook_to_module(model, ModelHook()), pair.processor)
    model = remove_hook_from_module(add_hook_to_module(stock(), ModelHook()))
    assert "forward" in vars(model)
    model = hf_zspa.prune(model, pair.processor)
    inputs = question(pair)
    with torch.no_grad():
        assert model(**inputs).past_key_values.get_seq_length() < inputs["input_ids"].shape[1]


def test_entries_of_the_config_are_taken_and_other_configs_are_not(pair, base_checkpoint):
    base = base_checkpoint(pair.family)
    model = hf_zspa.from_pretrained(base, output_hidden_states=True, zspa_keep_ratio=0.2)
    assert model.config.output_hidden_states
    assert not [name for name in vars(model.generation_config) if name.startswith("zspa_")]
    with pytest.raises(TypeError, match="use_cash is no field of pruning, and nothing that transformers takes here"):
        hf_zspa.from_pretrained(base, use_cash=False)
    with pytest.raises(ValueError, match=r"config\.json with the vision_config that you gave .*: give other values"):
        hf_zspa.from_pretrained(base, vision_config={"patch_size": "wide"})
    for name in ("config", "subfolder"):
        with pytest.raises(ValueError, match=f"{name} is not taken here"):
            hf_zspa.from_pretrained(base, **{name: "x"})


def test_a_base_that_cannot_be_built_or_has_an_adapter_is_named(base_checkpoint, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base_checkpoint("llava"), folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="has a PEFT adapter"):
        hf_zspa.from_pretrained(folder)
    (folder / "adapter_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["patch_size"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"no model can be built of .*config\.json"):
        hf_zspa.from_pretrained(folder)
