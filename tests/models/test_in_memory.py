"""`from_pretrained` of a base, `prune` and `unprune`: how they are called, and what they refuse."""

import copy
import shutil

import peft
import pytest
import tiny
import torch
import transformers
from accelerate import cpu_offload
from pairs import QUESTION, image
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

import hf_zspa

pytestmark = pytest.mark.oldest_and_newest


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
    with pytest.raises(ValueError, match="which does not prune: there is nothing to undo"):
        hf_zspa.unprune(model)
    model.model.forward = model.model.forward
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
