"""A selection of one's own in the same machinery, and what happens to one that breaks its promise."""

import pytest
import torch
from oracle import beam_search
from pairs import QUESTION, image

from hf_zspa import ZspaPruner


@pytest.fixture
def inputs(pair):
    return pair.inputs([image(), QUESTION])


class EveryThird:
    """A selection of somebody's own."""

    def budget(self, n):
        return (n + 2) // 3

    def __call__(self, visual_tokens, prompt_tokens):
        return [torch.arange(0, len(v), 3) for v in visual_tokens]


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"prompt_lookup_num_tokens": 2}, {"use_cache": False}])
def test_a_pruner_of_ones_own_goes_through_the_same_machinery(pair, inputs, options):
    keep = inputs["attention_mask"].bool()
    for token_id in pair.stock.placeholder_ids:
        spots = (inputs["input_ids"][0] == token_id).nonzero()[:, 0]
        keep[0, spots] = False
        keep[0, spots[::3]] = True
    tokens = pair.generate(inputs, visual_token_pruner=EveryThird(), **options)
    if "num_beams" in options:
        assert torch.equal(tokens, beam_search(pair.stock, inputs, keep, 2, 6)[0][:1])
    else:
        assert torch.equal(tokens, pair.stock.generate(inputs, keep, 6)[0])


@pytest.mark.parametrize(
    "indices, named",
    [
        (torch.tensor([0]), "budget"),
        (torch.arange(1000), "budget"),
        ([0, 1], "must return a tensor"),
        (torch.tensor([0.5]), "int64"),
        (None, "ascending"),
    ],
)
def test_a_pruner_that_breaks_its_promise_is_named(pair, inputs, indices, named):
    class Broken(EveryThird):
        def __call__(self, visual_tokens, prompt_tokens):
            return [
                super(Broken, self).__call__([v], [])[0].flip(0) if indices is None else indices for v in visual_tokens
            ]

    with pytest.raises(ValueError, match=f"Broken.*{named}"):
        pair.generate(inputs, visual_token_pruner=Broken())


class Backwards(ZspaPruner):
    def __call__(self, visual_tokens, prompt_tokens):
        return [kept.flip(0) for kept in super().__call__(visual_tokens, prompt_tokens)]


class BackwardsByWord(Backwards):
    vouches_for_indices = True


def test_only_a_pruner_that_vouches_for_its_indices_is_not_looked_at(pair, inputs):
    with pytest.raises(ValueError, match="Backwards must return ascending indices"):
        pair.model.select_visual_tokens(**inputs, visual_token_pruner=Backwards(0.5))
    (kept,) = pair.model.select_visual_tokens(**inputs, visual_token_pruner=BackwardsByWord(0.5))
    assert (kept.diff() < 0).all()


@pytest.mark.parametrize(
    "result, named",
    [
        (torch.tensor([0, 1]), "a pair of indices and features"),
        ((torch.tensor([0, 1]), torch.zeros(1, 1)), r"features \(1, 1\) for an image, but must return \(2, \d+\)"),
        ((torch.tensor([0, 1]), None), "features None"),
    ],
)
def test_a_pruner_that_merges_and_breaks_its_promise_is_named(pair, inputs, result, named):
    class Broken:
        merges = True

        def budget(self, n):
            return 2

        def __call__(self, visual_tokens, prompt_tokens):
            return [result for _ in visual_tokens]

    with pytest.raises(ValueError, match=f"Broken .*{named}"):
        pair.generate(inputs, visual_token_pruner=Broken())


class Averaging(EveryThird):
    merges = True

    def __call__(self, visual_tokens, prompt_tokens):
        return [(i, v.mean(0).expand(len(i), -1)) for v, i in zip(visual_tokens, super().__call__(visual_tokens, []))]


def test_merged_tokens_are_refused_where_the_encoder_is_trained(pair, inputs):
    call = inputs | {"visual_token_pruner": Averaging()}
    with pytest.raises(
        ValueError, match="Averaging merges visual tokens, which leaves what made them without gradient"
    ):
        pair.model(**call)
    with torch.no_grad():
        expected = pair.model(**call).logits
    pair.model.requires_grad_(False)
    pair.model.lm_head.requires_grad_(True)
    try:
        found = pair.model(**call).logits
        assert found.requires_grad and torch.equal(found, expected)
    finally:
        pair.model.requires_grad_(True)


def test_a_pruner_without_a_result_for_every_image_is_named(pair):
    class Forgetful(EveryThird):
        def __call__(self, visual_tokens, prompt_tokens):
            return super().__call__(visual_tokens[1:], prompt_tokens[1:])

    with pytest.raises(ValueError, match="Forgetful returned 0 results for 1 images"):
        pair.generate(pair.inputs([image(), QUESTION]), visual_token_pruner=Forgetful())


@pytest.mark.parametrize("wrong", [0.1, EveryThird])
def test_something_that_is_no_pruner_is_refused(pair, inputs, wrong):
    with pytest.raises(TypeError, match="budget"):
        pair.generate(inputs, visual_token_pruner=wrong)
