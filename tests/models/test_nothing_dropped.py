"""Pruning that drops nothing: at keep ratio 0.999 an image of fewer than 500 tokens keeps them all, but goes the way of
pruning. Whatever then differs from the stock class is a fault."""

import inspect

import pytest
import torch
from pairs import CASES, QUESTION, image
from transformers import DynamicCache

from hf_zspa.remote_code.zspa_selection import ZspaPruner

CLOSE = {"atol": 3e-4, "rtol": 1e-4}  # of one step on its own; the kernels may split a longer sequence otherwise
MODES = {
    "dynamic cache": {},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_k": 20},
}


@pytest.fixture
def all_kept(pair, monkeypatch):
    """The models of each family in turn, and proof that the pruning one selects."""
    kept = []

    def select(pruner, *arguments):
        indices = original(pruner, *arguments)
        kept.extend(len(i) == len(v) for i, v in zip(indices, arguments[0], strict=True))
        return indices

    original = ZspaPruner.__call__
    monkeypatch.setattr(ZspaPruner, "__call__", select)
    with pair.fields(keep_ratio=0.999):
        yield pair
    assert kept and all(kept)


def both(pair, call, *arguments, **options):
    return [call(model, *arguments, **options) for model in (pair.model, pair.stock.model)]


def assert_same_fields(found, stock):
    """An output has the same fields in the same shapes, and a cache of the same length.

    Of what the encoder returns only the features are handed on, and `rope_deltas`, which Qwen2.5-VL returns up to 5.0,
    are not: positions are made from the full prompt.
    """
    outputs = [{name: value for name, value in output.items() if name != "rope_deltas"} for output in (found, stock)]
    for output in outputs:
        for name in {"past_key_values", "cache"} & {*output}:
            output[name] = int(output[name].get_seq_length())
        if "image_outputs" in output:
            output["image_outputs"] = list(output["image_outputs"].pooler_output)
    found, stock = torch.utils._pytree.tree_map_only(torch.Tensor, lambda tensor: tensor.shape, outputs)
    assert found == stock


def labels_of(inputs):
    """Every token that a token comes before: the first one behind left padding has none to be predicted from."""
    mask = inputs["attention_mask"]
    follows = torch.nn.functional.pad(mask[:, :-1], (1, 0))
    return inputs["input_ids"].masked_fill(follows * mask == 0, -100)


# Before 5.19 the stock LLaVA classes repeat images for beams one by one, and mix up those of a row.
SEVERAL_IMAGES = ("text between images", "adjacent images")


@pytest.mark.parametrize(
    ("case", "mode"), [(c, m) for c in CASES for m in MODES if m != "beams" or c not in SEVERAL_IMAGES]
)
def test_generate_equals_the_stock_class(all_kept, case, mode):
    inputs = all_kept.inputs(*CASES[case])
    wanted = {"output_logits": True, "output_hidden_states": True, "return_dict_in_generate": True}

    def generate(model):
        torch.manual_seed(0)
        return model.generate(**inputs, **all_kept.greedy | wanted | MODES[mode])

    found, stock = both(all_kept, generate)
    assert torch.equal(found.sequences, stock.sequences)
    torch.testing.assert_close(found.logits, stock.logits, **CLOSE)
    assert_same_fields(found, stock)


@pytest.mark.parametrize("case", CASES)
def test_forward_equals_the_stock_class(all_kept, case):
    inputs = all_kept.inputs(*CASES[case])
    mask = inputs["attention_mask"].bool()
    labels = labels_of(inputs)
    found, stock = both(
        all_kept, lambda model: model(**inputs, labels=labels, use_cache=True, output_hidden_states=True)
    )
    torch.testing.assert_close(found.loss, stock.loss, **CLOSE)
    torch.testing.assert_close(found.logits[mask], stock.logits[mask], **CLOSE)
    for layer, expected in zip(found.hidden_states, stock.hidden_states, strict=True):
        torch.testing.assert_close(layer[mask], expected[mask], **CLOSE)
    assert_same_fields(found, stock)


def test_gradients_equal_the_stock_classs(all_kept):
    inputs = all_kept.inputs(*CASES["unequal images and questions"])

    def gradients(model):
        model(**inputs, labels=labels_of(inputs)).loss.backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        return found

    found, stock = both(all_kept, gradients)
    assert found
    torch.testing.assert_close(found, stock, **CLOSE)


def test_a_loop_over_forward_equals_the_stock_class(all_kept):
    inputs = all_kept.inputs(*CASES["adjacent images"])

    @torch.no_grad()
    def loop(model):
        cache = DynamicCache(config=model.config.get_text_config())
        logits = [model(**inputs, past_key_values=cache, use_cache=True).logits[:, -1]]
        for _ in range(3):
            token, given = logits[-1].argmax(-1, keepdim=True), {}
            if "cache_position" in inspect.signature(model.forward).parameters:  # 4.57's Qwen2.5-VL counts from it
                given["cache_position"] = torch.tensor([cache.get_seq_length()])
            logits.append(model(token, past_key_values=cache, use_cache=True, **given).logits[:, -1])
        return torch.stack(logits), cache.get_seq_length()

    (found, length), (stock, stock_length) = both(all_kept, loop)
    torch.testing.assert_close(found, stock, **CLOSE)
    assert length == stock_length


def test_a_second_turn_equals_the_stock_class(all_kept):
    inputs = all_kept.inputs([image(), QUESTION])
    more = all_kept.processor.tokenizer(" and where is the dog?", add_special_tokens=False, return_tensors="pt")

    def turns(model):
        cache = DynamicCache(config=model.config.get_text_config())
        first = model.generate(**inputs, past_key_values=cache, **all_kept.greedy)
        ids = torch.cat([first, more["input_ids"]], 1)
        mask = torch.ones_like(ids)
        second = model.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **all_kept.greedy)
        return second, cache.get_seq_length()

    (found, length), (stock, stock_length) = both(all_kept, turns)
    assert torch.equal(found, stock)
    assert length == stock_length


def test_columns_that_every_row_hides_keep_their_room(all_kept):
    inputs = all_kept.inputs([image(), QUESTION])
    inputs["attention_mask"][:, -3] = 0
    wanted = {"output_logits": True, "output_hidden_states": True, "return_dict_in_generate": True}
    found, stock = both(all_kept, lambda model: model.generate(**inputs, **all_kept.greedy | wanted))
    assert torch.equal(found.sequences, stock.sequences)
    torch.testing.assert_close(found.logits, stock.logits, **CLOSE)
    assert_same_fields(found, stock)
