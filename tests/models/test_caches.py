"""A cache with a pruned prompt in it, in its user's hands: the next step is right or refused."""

import copy
import gc
import pickle
import weakref

import pytest
import tiny
import torch
from pairs import CASES, QUESTION, image
from test_forward import CLOSE
from transformers import DynamicCache, StaticCache

ROWS = CASES["unequal images and questions"]


@pytest.fixture
def inputs(pair):
    return pair.inputs(*ROWS)


def prefilled(pair, inputs):
    with torch.no_grad():
        return pair.model(**inputs, use_cache=True).past_key_values


def next_logits(pair, cache, tokens):
    with torch.no_grad():
        return pair.model(input_ids=tokens, past_key_values=cache).logits


@pytest.fixture
def expected(pair, inputs):
    """Logits of the token after the prompt, per row."""
    return next_logits(pair, prefilled(pair, inputs), inputs["input_ids"][:, -1:])


@pytest.mark.parametrize(
    "change, rows",
    [
        (lambda cache: cache.reorder_cache(torch.tensor([1, 0])), [1, 0]),
        (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
        (lambda cache: cache.batch_select_indices(torch.tensor([False, True])), [1]),
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1]),
        (lambda cache: (cache.batch_repeat_interleave(2), cache.batch_select_indices(torch.tensor([2, 0]))), [1, 0]),
    ],
    ids=["reordered", "selected", "selected by a mask", "repeated", "repeated and selected"],
)
def test_rows_take_their_prompt_along(pair, inputs, expected, change, rows):
    cache = prefilled(pair, inputs)
    change(cache)
    found = next_logits(pair, cache, inputs["input_ids"][rows, -1:])
    torch.testing.assert_close(found, expected[rows], **CLOSE)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_copies_know_their_prompt(pair, inputs, expected, copied):
    cache = copied(prefilled(pair, inputs))
    cache.reorder_cache(torch.tensor([1, 0]))
    found = next_logits(pair, cache, inputs["input_ids"][[1, 0], -1:])
    torch.testing.assert_close(found, expected[[1, 0]], **CLOSE)


def test_a_call_of_another_number_of_rows_is_refused(pair, inputs):
    cache = prefilled(pair, inputs)
    with pytest.raises(ValueError, match="2 rows, but the call has 1"):
        next_logits(pair, cache, inputs["input_ids"][:1, -1:])


def by_length(cache, columns: int, taken: int) -> None:
    """Cuts a cache as stock callers do: to a length of the full sequence before 5.23, by a number of tokens since."""
    cache.crop(-taken if tiny.transformers_version() >= (5, 23) else columns)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_it_is_cut_to_a_length_of_the_full_sequence(pair, taken):
    """To the prompt, or into the text behind its last image."""
    inputs = pair.inputs([image(), QUESTION])
    ids, columns = inputs["input_ids"], inputs["input_ids"].shape[1]
    cache = prefilled(pair, inputs)
    next_logits(pair, cache, ids[:, -5:])  # an answer, to be forgotten
    by_length(cache, columns - taken, taken + 5)
    found = next_logits(pair, cache, ids[:, columns - max(taken, 1) :])
    if taken:  # the prompt is whole again
        with torch.no_grad():
            torch.testing.assert_close(found, pair.model(**inputs).logits[:, -taken:], **CLOSE)
    else:
        torch.testing.assert_close(found, next_logits(pair, prefilled(pair, inputs), ids[:, -1:]), **CLOSE)


def test_a_cut_into_an_image_is_refused(pair):
    inputs = pair.inputs([image(), QUESTION])
    cache = prefilled(pair, inputs)
    behind = int((inputs["input_ids"][0] != pair.stock.model.config.image_token_id).flip(0).cumprod(0).sum())
    if tiny.transformers_version() < (5, 23):
        with pytest.raises(ValueError, match=rf"crop\(3\) ends before or in the last image.*only the last {behind} "):
            cache.crop(3)
    cache.crop(-behind - 1)
    with pytest.raises(ValueError, match="start again without it"):
        next_logits(pair, cache, inputs["input_ids"][:, -1:])


def test_a_cache_made_of_anothers_tensors_is_told_its_prompt(pair, inputs, expected):
    cache, other = prefilled(pair, inputs), DynamicCache(config=pair.model.config.get_text_config())
    for number, layer in enumerate(cache.layers):
        other.update(layer.keys, layer.values, number)
    pair.model.carry_pruned_prompt(cache, other)
    other.reorder_cache(torch.tensor([1, 0]))
    found = next_logits(pair, other, inputs["input_ids"][[1, 0], -1:])
    torch.testing.assert_close(found, expected[[1, 0]], **CLOSE)
    with pytest.raises(ValueError, match="has no pruned prompt"):
        pair.model.carry_pruned_prompt(DynamicCache(config=pair.model.config.get_text_config()), other)


def test_padding_that_embeds_to_zero_is_no_shorter_prompt(pair, inputs):
    """4.57 and 5.0 count the keys of a static cache's first row that are not zero."""
    model = copy.deepcopy(pair.model)
    padding = inputs["input_ids"][inputs["attention_mask"] == 0]
    assert len(padding) and inputs["attention_mask"][0, 0] == 0
    with torch.no_grad():
        model.get_input_embeddings().weight[padding[0]] = 0
        outputs = []
        for kind in (DynamicCache, StaticCache):
            length = {"max_cache_len": 300} if kind is StaticCache else {}
            cache = kind(config=model.config.get_text_config(), **length)
            model(**inputs, past_key_values=cache)
            outputs.append(model(input_ids=inputs["input_ids"][:, -1:], past_key_values=cache).logits)
    torch.testing.assert_close(*outputs, **CLOSE)
    static = {"cache_implementation": "static"}
    assert torch.equal(model.generate(**inputs, **pair.greedy | static), model.generate(**inputs, **pair.greedy))


def test_a_hidden_column_that_embeds_to_zero_is_counted(pair):
    inputs = pair.inputs([image(), QUESTION])
    inputs["attention_mask"][:, -3] = 0
    with pair.fields(keep_ratio=0.999):  # drops nothing, so that the hidden column stays, too
        model = copy.deepcopy(pair.model)
        with torch.no_grad():
            model.get_input_embeddings().weight[inputs["input_ids"][0, -3]] = 0
        static = {"cache_implementation": "static"}
        assert torch.equal(model.generate(**inputs, **pair.greedy | static), model.generate(**inputs, **pair.greedy))


def test_it_is_freed_with_its_last_reference_and_a_shallow_copy_is_its_own(pair, inputs):
    """Keys and values of a prompt do not wait for the garbage collector."""
    cache = prefilled(pair, inputs)
    other = copy.copy(cache)
    other.layers = copy.deepcopy(cache.layers)
    other.crop(-2)
    assert cache.get_seq_length() == other.get_seq_length() + 2
    gc.disable()
    try:
        seen = weakref.ref(cache)
        del cache, other
        assert seen() is None
    finally:
        gc.enable()


def test_an_image_behind_a_pruned_prompt_is_refused_at_any_ratio(pair, inputs):
    for model in (pair.model, pair.model.model):
        with pytest.raises(ValueError, match=r"the cache holds a pruned prompt|after a filled cache"):
            model(**inputs, past_key_values=prefilled(pair, inputs), zspa_keep_ratio=1.0)
