"""Greedy generation with pruning equals the stock class on what is kept, and on all columns with the rest masked."""

import pairs
import pytest
import tiny
import torch
from pairs import CASES, CORE, KEEP, OTHER, QUESTION, assert_equals_oracle, image


@pytest.mark.parametrize("case", CASES)
def test_the_tokens_selected_are_the_references(pair, case):
    inputs = pair.inputs(*CASES[case])
    _, kept = pair.stock.keep(inputs, KEEP, CORE)
    selected = pair.model.select_visual_tokens(**inputs)
    assert [i.tolist() for i in selected] == kept


def assert_both_ways_agree(stock, inputs, compact=False):
    keep, _ = stock.keep(inputs, KEEP, CORE)
    (masked, logits), (short, others) = (
        stock.generate(inputs, keep, 3, compact),
        stock.generate_short(inputs, keep, 3, compact),
    )
    assert torch.equal(masked, short)
    torch.testing.assert_close(logits, others, atol=3e-4, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_short_oracle_equals_the_masked_one(pair, case):
    inputs = pair.inputs(*CASES[case])
    assert_both_ways_agree(pair.stock, inputs)
    if pair.family != "qwen2_5_vl":
        assert_both_ways_agree(pair.stock, inputs, compact=True)


@pytest.mark.parametrize("case", CASES)
def test_generation_with_any_cache_and_with_none_equals_the_oracle(pair, case):
    without = [{"use_cache": False}] if case in ("one image", "text between images") else []
    assert_equals_oracle(pair, pair.inputs(*CASES[case]), {}, {"cache_implementation": "static"}, *without)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_compact_positions_equal_the_oracle_renumbered(load, family, case):
    with load(family).fields(position_ids="compact") as pair:
        assert_equals_oracle(pair, pair.inputs(*CASES[case]), compact=True)


@pytest.mark.parametrize("cache", [None, "static"])
def test_generations_on_one_model_do_not_disturb_each_other(pair, cache):
    first, second = pair.inputs(*CASES["unequal images and questions"]), pair.inputs(*CASES["text between images"])
    text = pair.inputs([QUESTION], [OTHER])
    for _ in range(2):
        assert_equals_oracle(pair, first, cache_implementation=cache)
        assert_equals_oracle(pair, second, cache_implementation=cache)
        length = text["input_ids"].shape[1]
        stock = pair.stock.model.generate(**text, **pair.greedy, cache_implementation=cache)[:, length:]
        assert torch.equal(pair.generate(text, cache_implementation=cache), stock)


@pytest.mark.parametrize("case", ["unequal images and questions", "a text-only row"])
def test_a_row_gives_what_it_gives_alone(pair, case):
    together = pair.generate(pair.inputs(*CASES[case]))
    for tokens, row in zip(together, CASES[case], strict=True):
        assert torch.equal(pair.generate(pair.inputs(row))[0], tokens)


def test_a_video_equals_the_oracle(load):
    pair = load("qwen2_5_vl")
    inputs = pair.inputs([tiny.random_video(4, 84, 56), QUESTION], [image(), OTHER])
    _, kept = pair.stock.keep(inputs, KEEP, CORE)
    assert [i.tolist() for i in pair.model.select_visual_tokens(**inputs)] == kept
    assert_both_ways_agree(pair.stock, inputs)
    assert_equals_oracle(pair, inputs)


def test_a_llava_with_another_text_model_equals_the_oracle(tmp_path):
    """As in BakLLaVA: Mistral, fewer key than query heads, and a window longer than the prompt."""
    mistral = {"model_type": "mistral", "num_key_value_heads": 1, "sliding_window": 4096}
    pair = pairs.load("llava", tiny.build_base("llava", tmp_path, text=mistral))
    assert pair.stock.model.config.text_config.model_type == "mistral"
    assert_equals_oracle(pair, pair.inputs(*CASES["text between images"]))


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_a_sliding_window_counts_the_tokens_that_are_there(family, tmp_path):
    """The masked way counts the others too, and is another one here."""
    mistral = {"model_type": "mistral", "num_key_value_heads": 1, "sliding_window": 20}
    pair = pairs.load(family, tiny.build_base(family, tmp_path, text=mistral))
    inputs = pair.inputs(*CASES["unequal images and questions"])
    keep, _ = pair.stock.keep(inputs, KEEP, CORE)
    assert int(keep.sum(1).min()) > 20
    tokens, scores = pair.stock.generate_short(inputs, keep, 6)
    assert (scores[:, 0] - pair.stock.generate(inputs, keep, 1)[1][:, 0]).abs().max() > 0.1
    for options in ({}, {"use_cache": False}, {"cache_implementation": "static"}):
        if "cache_implementation" in options and family == "llava_next" and tiny.transformers_version() < (5,):
            for model in (pair.stock.model, pair.model):  # 4.57 cannot, pruned or not
                with pytest.raises(RuntimeError, match="must match the size"):
                    model.generate(**inputs, **pair.greedy | options)
            continue
        out = pair.model.generate(**inputs, **pair.greedy | options, return_dict_in_generate=True, output_logits=True)
        assert torch.equal(out.sequences[:, -6:], tokens)
        visible = scores > -1e8
        torch.testing.assert_close(torch.stack(out.logits, 1)[visible], scores[visible], atol=3e-4, rtol=1e-4)
