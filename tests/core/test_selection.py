"""The selection against a plain float64 reference, over random, duplicated, zero and tiny tokens."""

import pytest
import reference
import torch
from drawn_tokens import PERCENT, exact_tokens, tokens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import assert_greedy
from selection import KINDS, features, markdown, time_methods

from hf_zspa import VisualTokenPruner, ZspaPruner, select_tokens
from hf_zspa.pruners.published_divprune import published_divprune
from hf_zspa.remote_code import zspa_kernels, zspa_similarity
from hf_zspa.remote_code.zspa_greedy import Greedy


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=tokens(), keep=PERCENT, core=st.integers(0, 100), pooling=st.sampled_from(["mean", "max", "none"]))
def test_every_choice_is_the_best_one(way, pair, keep, core, pooling):
    assert_greedy(*pair, ZspaPruner(keep / 100, core / 100, pooling))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pair=exact_tokens(), keep=PERCENT, core=st.integers(0, 100), pooling=st.sampled_from(["mean", "max", "none"]))
def test_every_way_chooses_what_the_statement_of_the_equations_chooses(way, pair, keep, core, pooling):
    visual, prompt = pair
    pruner = ZspaPruner(keep / 100, core / 100, pooling)
    n, ((chosen, added),) = len(visual), pruner.split([visual], [prompt])
    stated = pruner.select(Greedy(visual), prompt, pruner.budget(n))
    assert torch.cat([chosen, added]).tolist() == stated.tolist()


@settings(max_examples=100, deadline=None)
@given(tokens(), PERCENT, st.integers(0, 100))
def test_budget_and_core_round_halves_up(pair, keep, core):
    visual, prompt = pair
    budget = max(1, reference.round_half_up(len(visual), keep))
    kept = select_tokens(visual, prompt, keep_ratio=keep / 100, core_ratio=core / 100)
    assert kept.dtype == torch.long and kept.shape == (budget,)
    assert (kept.diff() > 0).all() and kept.min() >= 0 and kept.max() < len(visual)
    assert ZspaPruner(keep / 100, core / 100).core(len(visual)) == reference.round_half_up(budget, core)


@pytest.mark.parametrize("pooling", ["mean", "max", "none"])
@pytest.mark.parametrize("core", [0, 20, 50, 100])
@pytest.mark.parametrize("seed", range(3))
def test_the_kept_indices_equal_the_reference(way, seed, core, pooling):
    generator = torch.Generator().manual_seed(seed)
    visual, prompt = torch.randn(144, 64, generator=generator), torch.randn(7, 64, generator=generator)
    kept = select_tokens(visual, prompt, keep_ratio=0.25, core_ratio=core / 100, pooling=pooling)
    assert kept.tolist() == reference.select(visual, prompt, 36, reference.round_half_up(36, core), pooling)


def test_576_tokens_at_ten_percent_are_58():
    assert ZspaPruner(0.1).budget(576) == 58


def test_core_ratio_1_is_relevance_alone():
    visual, prompt = torch.randn(50, 8), torch.randn(3, 8)
    best = reference.relevance(visual, prompt, "mean").topk(10).indices.sort().values
    assert torch.equal(select_tokens(visual, prompt, keep_ratio=0.2, core_ratio=1), best)


def test_core_ratio_0_ignores_the_prompt():
    visual = torch.randn(50, 8)
    kept = [select_tokens(visual, p, keep_ratio=0.2, core_ratio=0) for p in (torch.randn(3, 8), torch.randn(0, 8))]
    assert torch.equal(*kept)


def test_core_ratio_0_starts_at_the_token_whose_nearest_neighbour_is_farthest():
    visual = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    assert select_tokens(visual, torch.randn(1, 2), keep_ratio=0.1, core_ratio=0).tolist() == [2]


@pytest.mark.parametrize("together", [1, 2, 3])
def test_what_does_not_fit_in_memory_is_selected_without_all_pairs(way, together, monkeypatch):
    images = [torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (40, 60, 50)]
    pruner = ZspaPruner(0.3, 0.4)
    expected = pruner(images, images)
    for pairs in (60 * 60 * together, 1000):
        monkeypatch.setattr(zspa_similarity, "PAIRS", pairs)
        assert all(torch.equal(a, b) for a, b in zip(pruner(images, images), expected, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_a_token_without_direction_is_added_once(way, seed):
    visual, prompt = (torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)) for n in (100, 3))
    visual[50] = 0
    assert_greedy(visual, prompt, ZspaPruner(0.12, 0.5))


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e20, 1e37])
def test_the_length_of_a_token_changes_nothing(way, size):
    visual, prompt = torch.randn(60, 16), torch.randn(3, 16)
    scaled = visual.clone()
    scaled[::3] *= size
    kept = [select_tokens(v, prompt, keep_ratio=0.3, core_ratio=0.4) for v in (visual, scaled)]
    assert torch.equal(*kept)


def test_16_bit_tokens_are_compared_in_float32(way):
    generator = torch.Generator().manual_seed(0)
    visual, prompt = torch.randn(300, 64, generator=generator), torch.randn(5, 64, generator=generator)
    for dtype in (torch.bfloat16, torch.float16):
        v, p = visual.to(dtype), prompt.to(dtype)
        expected = select_tokens(v.double().float(), p.float(), keep_ratio=0.3, core_ratio=0.2)
        assert torch.equal(select_tokens(v, p, keep_ratio=0.3, core_ratio=0.2), expected)
        assert expected.tolist() == reference.select(v.double(), p.double(), 90, 18)


@pytest.mark.parametrize("kernel", ["_direction_kernel", "_prepare_kernel", "_isolation_kernel", "_select_kernel"])
def test_a_kernel_that_cannot_run_is_replaced_with_a_warning(kernel, request, monkeypatch):
    visual, prompt = torch.randn(50, 8), torch.randn(3, 8)
    core = 0.0 if kernel == "_isolation_kernel" else 0.2
    expected = select_tokens(visual, prompt, keep_ratio=0.4, core_ratio=core)
    request.getfixturevalue("as_on_a_gpu")
    monkeypatch.setattr(zspa_kernels, "usable", True)
    monkeypatch.setattr(zspa_kernels, kernel, {})
    with pytest.warns(UserWarning, match="plain torch, because Triton failed"):
        assert torch.equal(select_tokens(visual, prompt, keep_ratio=0.4, core_ratio=core), expected)
    assert not zspa_kernels.usable


def test_the_kernels_are_launched_on_the_device_of_their_tensors(as_on_a_gpu, monkeypatch):
    entered = []

    class Spy(torch.cuda.device_of):
        def __init__(self, tensor):
            entered.append(tensor.shape)
            super().__init__(tensor)

    monkeypatch.setattr(torch.cuda, "device_of", Spy)
    select_tokens(torch.randn(50, 8), torch.randn(3, 8), keep_ratio=0.4, core_ratio=0.2)
    assert entered == [(50, 8)] and zspa_kernels.usable


def test_ties_go_to_the_lowest_index(way):
    visual = torch.eye(6)
    assert select_tokens(visual, torch.ones(1, 6), keep_ratio=0.5, core_ratio=1).tolist() == [0, 1, 2]
    assert select_tokens(visual, torch.ones(1, 6), keep_ratio=0.5, core_ratio=0).tolist() == [0, 1, 2]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), min_size=1, max_size=5),
    seed=st.integers(0, 2**31),
)
def test_an_image_is_selected_as_it_is_alone(way, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    visual = [torch.randn(n, 16, generator=generator) for n, _ in sizes]
    prompts = [torch.randn(m, 16, generator=generator) for _, m in sizes]
    pruner = ZspaPruner(0.3, 0.5)
    together = pruner(visual, prompts)
    for kept, image, prompt in zip(together, visual, prompts, strict=True):
        assert torch.equal(kept, pruner([image], [prompt])[0])


def test_the_number_of_threads_changes_nothing():
    visual, prompt = torch.randn(400, 32), torch.randn(5, 32)
    threads = torch.get_num_threads()
    kept = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            kept.append(select_tokens(visual, prompt, keep_ratio=0.2, core_ratio=0.2))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*kept)


def test_a_token_that_is_not_finite_counts_as_zero(way):
    visual = torch.randn(20, 8)
    visual[3], visual[5] = float("nan"), float("inf")
    cleaned = visual.clone()
    cleaned[[3, 5]] = 0
    kept = [select_tokens(v, torch.ones(2, 8), keep_ratio=0.5, core_ratio=0.4) for v in (visual, cleaned)]
    assert torch.equal(*kept)


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"keep_ratio": 0}, "keep_ratio is 0"),
        ({"keep_ratio": 1.5}, "keep_ratio is 1.5"),
        ({"keep_ratio": "0.1"}, "keep_ratio is '0.1'"),
        ({"core_ratio": -0.1}, "core_ratio is -0.1"),
        ({"core_ratio": float("nan")}, "core_ratio is nan"),
        ({"keep_ratio": 10**400}, "keep_ratio is 1000"),
        ({"pooling": "sum"}, "pooling is 'sum'"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        ZspaPruner(**wrong)


@pytest.mark.parametrize("shapes", [((5,), (1, 5)), ((5, 4), (2, 3)), ((0, 4), (2, 4))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ValueError, match="must be"):
        select_tokens(*map(torch.zeros, shapes), keep_ratio=0.5, core_ratio=0.5)


def test_the_pruner_follows_its_own_protocol():
    assert isinstance(ZspaPruner(), VisualTokenPruner)


def test_equal_tokens_are_chosen_in_order_wherever_they_stand(way):
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(203, 96, generator=generator)
    visual[[7, 60, 131, 202]] = visual[7].clone()
    prompt = visual[7:8] + 0.1 * torch.randn(1, 96, generator=generator)
    alone = [ZspaPruner(0.02, c)([visual], [prompt])[0] for c in (0.0, 0.5, 1.0)]
    together = [ZspaPruner(0.02, c)([torch.randn(311, 96), visual], [prompt, prompt])[1] for c in (0.0, 0.5, 1.0)]
    assert alone[2].tolist() == [7, 60, 131, 202]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_core_ratio_0_keeps_what_the_published_divprune_keeps(kind):
    visual, prompt = (tokens[:, :128] for tokens in features(300, kind))
    kept = published_divprune(visual, 60).sort().values
    assert torch.equal(select_tokens(visual, prompt, keep_ratio=0.2, core_ratio=0), kept)
    assert kept.tolist() == reference.select(visual, prompt, 60, 0)


def test_the_benchmark_runs_every_method_and_shows_what_it_measured():
    rows = time_methods(features(40, "random"), "random", 0.1, allowed=0)
    assert [row["method"] for row in rows] == ["divprune (published)", "divprune", "zspa", "relevance"]
    assert all(row["kept"] == 4 and row["runs"] == 6 and row["milliseconds"]["median"] > 0 for row in rows)
    assert "| 40 → 4 | random | zspa |" in markdown(rows)
    weighing = time_methods(features(40, "random"), "random", 0.1, allowed=0, of_zspa=True)
    assert [row["method"] for row in weighing] == ["zspa", "weighted", "dpp", "weighted, pooling none"]
    assert weighing[0]["of_zspa"]["median"] == 1 and "of zspa's time" in markdown(weighing)
