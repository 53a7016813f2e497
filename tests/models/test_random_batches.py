"""Batches of any shape, in any mode: rows of text, images and videos in any order, any ratios, any padding."""

import hypothesis
import pytest
import tiny
from hypothesis import strategies as st
from reference import assert_greedy

from hf_zspa import ZspaPruner

WORDS = ["what", "colour", "is the star?", "how many cats", "where", "and the red circle", "a", "Read the sign."]

images = st.builds(
    tiny.random_image, st.sampled_from([28, 56, 84, 112, 150]), st.sampled_from([28, 56, 70, 112]), st.integers(0, 99)
)
videos = st.builds(
    tiny.random_video, st.sampled_from([2, 4, 6]), st.just(56), st.sampled_from([56, 84]), st.integers(0, 99)
)
text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)


def rows(*visual):
    row = st.lists(st.one_of(text, *visual), min_size=1, max_size=4)
    return st.lists(row, min_size=1, max_size=3)


modes = st.sampled_from([{}, {}, {"cache_implementation": "static"}, {"use_cache": False}])
options = (st.integers(1, 99), st.integers(0, 100), st.sampled_from(["mean", "max", "none"]), modes, st.booleans())


def check(pair, batch, keep, core, pooling, mode, compact):
    """The selection is a greedy one of the stock class's features, and generation equals the oracle for it."""
    inputs = pair.inputs(*batch)
    position_ids = "compact" if compact and pair.family != "qwen2_5_vl" else "preserve"
    with pair.fields(keep_ratio=keep / 100, core_ratio=core / 100, pooling=pooling, position_ids=position_ids):
        selected = pair.model.select_visual_tokens(**inputs)
        images = zip(pair.stock.features(inputs), pair.stock.images(inputs), selected, strict=True)
        for visual, (_, _, prompt), indices in images:
            pruner = ZspaPruner(keep / 100, core / 100, pooling)
            assert_greedy(visual, prompt, pruner)
            alone = pruner([visual], [prompt])[0]
            assert same_vectors(visual[alone], visual[indices])  # among equal ones, any index is right
        kept = pair.stock.columns(inputs, selected)
        expected, scores = pair.stock.generate(inputs, kept, steps=3, compact=position_ids == "compact")
        tokens = pair.generate(inputs, max_new_tokens=3, **mode)
    close = scores.topk(2).values.diff().abs().squeeze(-1) < 1e-3  # either token is right, and then the rest differs
    assert ((tokens == expected) | (close.cumsum(1) > 0)).all()


def same_vectors(a, b) -> bool:
    """Whether two sets of tokens `(l, d)` hold the same vectors, in whatever order."""
    return sorted(a.tolist()) == sorted(b.tolist())


def check_random_batches(pair, examples):
    visual = (images, videos) if pair.family == "qwen2_5_vl" else (images,)

    @hypothesis.settings(max_examples=examples, deadline=None)
    @hypothesis.given(st.tuples(rows(*visual), *options))
    def one(drawn):
        check(pair, *drawn)

    one()


@pytest.mark.slow
@pytest.mark.oldest_and_newest
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_random_batches_equal_the_oracle(load, family):
    check_random_batches(load(family), 12)


@pytest.mark.nightly
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_thousands_of_random_batches_equal_the_oracle(load, family):
    check_random_batches(load(family), 2000)
