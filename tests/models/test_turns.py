"""A second turn that continues from a pruned cache: right, or refused."""

import copy

import pytest
import torch
from pairs import CORE, KEEP, OTHER, QUESTION, image
from transformers import DynamicCache


@pytest.fixture
def inputs(pair):
    return pair.inputs([image(), QUESTION])


def turns(pair, inputs, **options):
    """A first turn, and the inputs of a second one that continues from its cache."""
    cache = DynamicCache(config=pair.model.config.get_text_config())
    first = pair.model.generate(**inputs, **pair.greedy, past_key_values=cache, **options)
    more = pair.processor.tokenizer(" and where is the dog?", add_special_tokens=False, return_tensors="pt").input_ids
    ids = torch.cat([first, more], 1)
    return cache, ids


def test_a_second_turn_continues_from_the_pruned_cache(pair, inputs):
    cache, ids = turns(pair, inputs)
    columns = inputs["input_ids"].shape[1]
    keep = torch.nn.functional.pad(pair.stock.keep(inputs, KEEP, CORE)[0], (0, ids.shape[1] - columns), value=True)
    mask = torch.ones_like(ids)
    second = dict(inputs) | {"input_ids": ids, "attention_mask": mask}
    oracle, _ = pair.stock.generate(second, keep, 6)
    out = pair.model.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **pair.greedy)
    assert torch.equal(out[:, ids.shape[1] :], oracle)


def test_a_second_turn_with_only_the_new_tokens_is_refused(pair, inputs):
    cache, ids = turns(pair, inputs)
    with pytest.raises(ValueError, match="whole conversation"):
        pair.model.generate(input_ids=ids[:, -5:], past_key_values=cache, **pair.greedy)


def test_a_new_image_after_a_pruned_cache_is_refused(pair, inputs):
    cache, ids = turns(pair, inputs)
    new = pair.inputs([image(3), OTHER])
    both = dict(new) | {"input_ids": torch.cat([ids, new["input_ids"]], 1), "past_key_values": cache}
    both = {k: v for k, v in both.items() if k not in ("attention_mask", "mm_token_type_ids")}
    with pytest.raises(ValueError, match="new image"):
        pair.model.generate(**both, **pair.greedy)


def test_a_cache_cut_into_its_prompt_is_refused(pair, inputs):
    cache, ids = turns(pair, inputs)
    cache.crop(3 - cache.get_seq_length())
    with pytest.raises(ValueError, match="start again"):
        pair.model.generate(input_ids=ids, past_key_values=cache, **pair.greedy)


@pytest.mark.parametrize("options", [{"prompt_lookup_num_tokens": 3}, {"assistant_model": "stock"}])
def test_an_assisted_second_turn_continues_from_the_pruned_cache(pair, inputs, options):
    cache, ids = turns(pair, inputs)
    columns = inputs["input_ids"].shape[1]
    keep = torch.nn.functional.pad(pair.stock.keep(inputs, KEEP, CORE)[0], (0, ids.shape[1] - columns), value=True)
    mask = torch.ones_like(ids)
    oracle, _ = pair.stock.generate(dict(inputs) | {"input_ids": ids, "attention_mask": mask}, keep, 6)
    if "assistant_model" in options:
        options = {"assistant_model": pair.stock.model}
    out = pair.model.generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **pair.greedy, **options)
    assert torch.equal(out[:, ids.shape[1] :], oracle)


def test_a_cache_with_every_row_repeated_continues(pair, inputs):
    token = inputs["input_ids"][:, -1:]
    with torch.no_grad():
        out = pair.model(**inputs, use_cache=True)
        once = pair.model(input_ids=token, past_key_values=copy.deepcopy(out.past_key_values)).logits
        out.past_key_values.batch_repeat_interleave(2)
        twice = pair.model(input_ids=token.repeat(2, 1), past_key_values=out.past_key_values).logits
    torch.testing.assert_close(twice, once.expand_as(twice), atol=3e-4, rtol=1e-4)


def test_a_second_turn_in_chunks_is_refused(pair, inputs):
    cache, ids = turns(pair, inputs)
    with pytest.raises(ValueError, match="leave out prefill_chunk_size"):
        pair.model.generate(input_ids=ids, past_key_values=cache, **pair.greedy, prefill_chunk_size=1000)
