"""The methods that weigh, against their formulas in float64, in every way they are computed."""

from dataclasses import dataclass, fields

import pytest
import reference
import torch
from drawn_tokens import PERCENT, exact_tokens, tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selection import KINDS, features

from hf_zspa import DppPruner, MmtokPruner, WeightedPruner, ZspaPruner, select_tokens
from hf_zspa.remote_code.zspa_checks import SETTINGS
from hf_zspa.remote_code.zspa_config import check_given
from hf_zspa.remote_code.zspa_greedy import Greedy
from hf_zspa.remote_code.zspa_methods import METHODS
from hf_zspa.remote_code.zspa_selection import relevance
from hf_zspa.remote_code.zspa_similarity import centred

WEIGHTS = st.one_of(st.sampled_from([-1.0, -0.5, 0.0, 0.75, 1.0]), st.floats(-1, 1))
POOLINGS = st.sampled_from(["mean", "max", "none"])
drawn = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def pruners(draw, methods=("weighted", "dpp", "mmtok")):
    """A pruner of one of the methods, with settings it reads."""
    kind, keep, centre = METHODS[draw(st.sampled_from(methods))], draw(PERCENT) / 100, draw(st.booleans())
    if kind is MmtokPruner:
        return MmtokPruner(keep, tau_text=draw(st.sampled_from([0.01, 0.02])), centre=centre)
    dial = st.floats(0, 1) if kind is ZspaPruner else WEIGHTS
    return kind(keep, draw(dial), draw(POOLINGS), centre)


@drawn
@given(pair=tokens(), pruner=pruners())
def test_every_choice_is_the_best_one(way, pair, pruner):
    reference.assert_each_choice_is_the_best(*pair, pruner)


@drawn
@given(pair=exact_tokens(), keep=PERCENT, centre=st.booleans(), weight=WEIGHTS, pooling=POOLINGS)
def test_without_weight_or_prompt_weighted_is_divprune(way, pair, keep, centre, weight, pooling):
    visual, prompt = pair
    (expected,) = ZspaPruner(keep / 100, 0.0, centre=centre).in_order([visual], [prompt])
    nothing = WeightedPruner(keep / 100, 0.0, pooling, centre), WeightedPruner(keep / 100, weight, pooling, centre)
    for pruner, words in zip(nothing, (prompt, prompt[:0])):
        assert torch.equal(pruner.in_order([visual], [words])[0], expected)


def test_where_every_token_is_as_relevant_weighted_is_divprune(way):
    visual = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    visual[:, 0] = visual[:, 1:].norm(dim=1)  # the same cosine to the prompt, but for rounding
    prompt = torch.eye(16)[:1]
    (expected,) = ZspaPruner(0.4, 0.0).in_order([visual], [prompt])
    for weight in (1.0, 0.75, -1.0):
        for pooling in ("mean", "none"):
            assert torch.equal(WeightedPruner(0.4, weight, pooling).in_order([visual], [prompt])[0], expected)


def equal_groups(visual: torch.Tensor) -> list[list[int]]:
    return [(visual == row).all(1).nonzero()[:, 0].tolist() for row in visual.unique(dim=0)]


@drawn
@given(pair=tokens(), pruner=pruners(("zspa", "weighted", "dpp", "mmtok")))
def test_of_equal_tokens_the_lowest_index_is_kept_first(way, pair, pruner):
    visual, prompt = pair
    kept = set(pruner([visual], [prompt])[0].tolist())
    for group in equal_groups(visual):
        chosen = [i in kept for i in group]
        assert chosen == sorted(chosen, reverse=True)


@settings(drawn, max_examples=15)
@given(pairs=st.lists(tokens(max_n=20), min_size=2, max_size=3), pruner=pruners(("zspa", "weighted", "dpp", "mmtok")))
def test_an_image_is_selected_as_it_is_alone(way, pairs, pruner):
    width = min(v.shape[1] for v, _ in pairs)
    images = [v[:, :width].float() for v, _ in pairs]
    prompts = [p[:, :width].float() for _, p in pairs]
    together = pruner(images, prompts)
    for kept, image, prompt in zip(together, images, prompts, strict=True):
        assert torch.equal(kept, pruner([image], [prompt])[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["weighted", "dpp", "mmtok"])
def test_every_way_chooses_what_plain_torch_chooses(way, kind, method):
    visual, prompt = (part[:, :96] for part in features(300, kind))
    pruner = METHODS[method](0.2)
    stated = pruner.select(Greedy(visual), prompt, 60)
    assert pruner.in_order([visual], [prompt])[0].tolist() == stated.tolist()


def test_once_no_determinant_is_larger_than_rounding_makes_it_quality_decides(way):
    visual = torch.eye(8)[[0, 1, 1, 2, 0, 2, 3, 3]]
    prompt = torch.tensor([[4.0, 3, 2, 1, 0, 0, 0, 0]])
    scores = relevance(visual, prompt)
    (order,) = DppPruner(1.0, 0.5).in_order([visual], [prompt])
    assert order.tolist() == [0, 1, 3, 6, 4, 2, 5, 7]
    assert scores[order[:4]].diff().le(0).all() and scores[order[4:]].diff().le(0).all()


def test_a_narrow_range_of_relevance_is_weighed_and_one_that_is_rounding_is_not(way):
    visual, steps = torch.eye(6), torch.arange(6.0, dtype=torch.float64)[None]
    for pruner in (WeightedPruner(0.5, 1.0), DppPruner(0.5, 1.0)):
        for step, first in ((2e-6, 5), (4e-8, 0)):
            assert pruner.in_order([visual], [(1 + step * steps).float()])[0][0] == first, pruner


def test_a_token_that_adds_little_to_the_determinant_comes_before_one_that_adds_nothing(way):
    visual = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0.01, 0], [0, 0, 1]])  # the third adds 1e-4
    assert DppPruner(1.0, 0.0).in_order([visual], [visual[:0]])[0].tolist() == [0, 3, 2, 1]


@pytest.mark.parametrize(("more", "first"), [(0.0007, 1), (0.00077, 0)])
def test_mmtok_weighs_the_image_by_half(way, more, first):
    visual = torch.eye(6)
    visual[2:] = 0.6 * visual[2:] + 0.8 * visual[1]  # four tokens near the second, which so covers more of the image
    prompt = torch.tensor(
        [[0.6 + more, 0.6, -0.3, -0.3, -0.3, -0.3]]
    )  # nearer the first: level at alpha 0.476 and 0.523
    assert MmtokPruner(0.1).in_order([visual], [prompt])[0].tolist() == [first]


def test_mmtok_covers_the_image_alone_where_every_token_is_as_relevant(way):
    words = torch.eye(2)[[0, 0, 1, 1, 0, 0]]  # each token has the same cosine to one of two prompt tokens
    visual = torch.cat([words, torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0], [0.6, 0.8], [0, 1]])], 1)
    pruner, prompt = MmtokPruner(1 / 6), torch.eye(4)[:2]
    assert pruner([visual], [prompt])[0].tolist() == pruner([visual], [prompt[:0]])[0].tolist() == [4]
    assert pruner([visual], [prompt + 0.01 * visual[2]])[0].tolist() == [2]  # a word that few tokens are about


def test_a_negative_weight_favours_what_is_unlike_the_prompt(way):
    visual, prompt = torch.eye(6) + 0.1, torch.eye(6)[:1]
    assert 0 in WeightedPruner(0.2, 1.0)([visual], [prompt])[0]
    assert 0 not in WeightedPruner(0.9, -1.0)([visual], [prompt])[0].tolist()[:5]


def test_centring_compares_what_tokens_do_not_share_and_leaves_relevance_alone(way):
    generator = torch.Generator().manual_seed(1)
    shared = 30 * torch.randn(1, 32, generator=generator)
    own, prompt = torch.randn(60, 32, generator=generator), torch.randn(3, 32, generator=generator)
    visual = own - own.mean(0) + shared
    for method in ("zspa", "weighted", "dpp", "mmtok"):
        reads = {"core_ratio": 0.0} if method == "zspa" else {} if method == "mmtok" else {"relevance_weight": 0.0}
        words = prompt[:0] if method == "mmtok" else prompt
        centred = select_tokens(visual, words, keep_ratio=0.2, method=method, centre=True, **reads)
        bare = select_tokens(visual - shared, words, keep_ratio=0.2, method=method, **reads)
        plain = select_tokens(visual, words, keep_ratio=0.2, method=method, **reads)
        assert torch.equal(centred, bare) and not torch.equal(centred, plain)
    core = ZspaPruner(0.2, 1.0, centre=True)([visual], [prompt])[0]
    assert torch.equal(core, ZspaPruner(0.2, 1.0)([visual], [prompt])[0])


def test_what_is_left_of_a_token_less_the_mean_counts_from_a_millionth_of_it():
    own = torch.tensor([[3e-7], [-3e-7], [3e-6], [-3e-6]], dtype=torch.float64)
    left = centred(torch.cat([torch.ones(4, 1), 1 + own], 1))
    assert left[:2].tolist() == [[0, 0]] * 2
    torch.testing.assert_close(left[2:, 1:], own[2:].float(), rtol=1e-6, atol=0)


def test_tokens_that_are_all_the_same_have_no_direction_once_centred(way):
    visual = torch.full((20, 8), 3.0)
    for method in METHODS.values():
        assert method(0.3, centre=True)([visual], [torch.randn(2, 8)])[0].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("weighed", {}, "method is 'weighed', but must be 'zspa' or 'weighted' or 'dpp' or 'mmtok'"),
        ("weighted", {"core_ratio": 0.2}, "core_ratio is not read by the method 'weighted', which reads keep_ratio, r"),
        ("mmtok", {"pooling": "mean"}, "pooling is not read by the method 'mmtok'"),
        ("zspa", {"relevance_weight": 0.5}, "relevance_weight is not read by the method 'zspa'"),
        ("weighted", {"relevance_weight": 1.5}, r"relevance_weight is 1.5, but must be a number in \[-1, 1\]"),
        ("dpp", {"relevance_weight": True}, "relevance_weight is True"),
        ("dpp", {"centre": 1}, "centre is 1, but must be True or False"),
        ("mmtok", {"tau_text": 0}, "tau_text is 0, but must be a positive number"),
    ],
)
def test_a_wrong_setting_is_named(method, settings, message):
    with pytest.raises(ValueError, match=message):
        select_tokens(torch.randn(9, 4), torch.randn(2, 4), keep_ratio=0.5, method=method, **settings)


def test_a_class_that_builds_on_a_pruner_may_have_settings_of_its_own():
    @dataclass(frozen=True)
    class Mine(WeightedPruner):
        shift: int = 0

    visual, prompt = torch.randn(30, 8), torch.randn(2, 8)
    assert torch.equal(Mine(0.2)([visual], [prompt])[0], WeightedPruner(0.2)([visual], [prompt])[0])
    assert not Mine().vouches_for_indices and WeightedPruner().vouches_for_indices


@drawn
@given(pair=tokens(min_n=2), pruner=pruners(("zspa", "weighted", "dpp", "mmtok")))
def test_what_is_kept_is_told_apart_by_why(pair, pruner):
    visual, prompt = pair
    near, others = pruner.split([visual], [prompt])[0]
    assert sorted([*near.tolist(), *others.tolist()]) == pruner([visual], [prompt])[0].tolist()
    if len(prompt) and not isinstance(pruner, ZspaPruner) and len(near) and len(others):
        scores = relevance(visual, prompt, getattr(pruner, "pooling", "none"))
        assert scores[near].min() >= scores[others].max()


def test_what_a_method_reads_is_what_its_pruner_takes():
    assert {name: tuple(field.name for field in fields(kind)) for name, kind in METHODS.items()} == SETTINGS


def test_a_method_that_a_config_misspells_is_named_by_its_field():
    with pytest.raises(ValueError, match="zspa_method is 'zsap', but must be 'zspa' or"):
        check_given({"zspa_keep_ratio": 0.2}, "zsap")
