"""The selections that an evaluation compares: each against its formula, worked out by brute force in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import TIE, assert_pairs_are_the_best, components, cosine, relevance
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_zspa import DppPruner, MmtokPruner, VisualTokenPruner, ZspaPruner
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.pruners import merging
from hf_zspa.pruners.clusters import clusters
from hf_zspa.pruners.merging import matching
from hf_zspa.pruners.random_subset import RandomPruner, naming
from hf_zspa.pruners.registry import METHODS, PUBLISHED_DIVPRUNE, make_pruner, method_of, unread
from hf_zspa.scenes.heldout import scene_questions

PRUNING = [method for method in METHODS if method != "original"]
KEEPING = [method for method in PRUNING if method not in ("tome", "resized")]


def tokens(seed, n=24, m=5, d=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)


def unit(rows):
    return rows.double() / rows.double().norm(dim=-1, keepdim=True)


def greedy(n, budget, value):
    """Adds, one by one, the token that makes the value of the set largest."""
    chosen = []
    for _ in range(budget):
        free = [i for i in range(n) if i not in chosen]
        chosen.append(max(free, key=lambda i: value([*chosen, i])))
    return sorted(chosen)


@pytest.mark.parametrize("seed", range(8))
def test_the_conditional_dpp_takes_the_token_of_largest_determinant_each_time(seed):
    visual, prompt = tokens(seed)
    features = unit(visual)
    quality = features @ unit(prompt.double().mean(0))
    quality = (quality - quality.min()) / (quality.max() - quality.min())
    kernel = quality[:, None] * (features @ features.T) * quality
    expected = greedy(len(visual), 8, lambda chosen: float(torch.linalg.det(kernel[chosen][:, chosen])))
    assert DppPruner(8 / 24, 1.0)([visual], [prompt])[0].tolist() == expected


@pytest.mark.parametrize("seed", range(8))
def test_mmtok_takes_the_token_of_largest_coverage_each_time(seed):
    visual, prompt = tokens(seed)
    pruner = MmtokPruner(6 / 24)
    of_text = torch.softmax(unit(prompt) @ unit(visual).T / pruner.tau_text, 1)
    of_image = torch.softmax(unit(visual) @ unit(visual).T / pruner.tau_vision, 1)

    def coverage(chosen):
        return float(
            of_text[:, chosen].amax(1).mean() + pruner.alpha * of_image[:, chosen].amax(1).mean()
        )  # fmt: skip

    assert pruner([visual], [prompt])[0].tolist() == greedy(len(visual), 6, coverage)


@pytest.mark.parametrize("method", [MmtokPruner, DppPruner])
def test_of_equal_tokens_the_first_is_kept_first(method):
    for seed in range(60):
        n, d = 5 + seed % 50, 3 + seed % 30
        visual, prompt = tokens(seed, n, 3, d)
        copies = max(1, n // 3)
        visual[-copies:] = visual[:copies]
        kept = set(method(0.6)([visual], [prompt])[0].tolist())
        assert all(i in kept for i in range(copies) if n - copies + i in kept), f"seed {seed}"


def test_once_the_dpps_kernel_has_no_rank_left_the_most_relevant_tokens_follow():
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 16, generator=generator)
    visual = torch.randn(20, 2, generator=generator) @ plane  # rank 2
    prompt = torch.randn(3, 2, generator=generator) @ plane
    quality = unit(visual) @ unit(prompt.double().mean(0))
    two = DppPruner(2 / 20, 1.0)([visual], [prompt])[0].tolist()
    rest = [i for i in quality.argsort(descending=True).tolist() if i not in two]
    assert DppPruner(8 / 20, 1.0)([visual], [prompt])[0].tolist() == sorted([*two, *rest[:6]])


def test_random_depends_on_seed_and_prompt_but_not_on_the_batch():
    pairs = [tokens(seed) for seed in range(6)]
    visual, prompts = [v for v, _ in pairs], [p for _, p in pairs]
    pruner = RandomPruner(0.25, seed=1)
    together = pruner(visual, prompts)
    assert all(torch.equal(kept, pruner([v], [p])[0]) for kept, (v, p) in zip(together, pairs))
    assert len({tuple(kept.tolist()) for kept in together}) > 1
    assert not torch.equal(RandomPruner(0.25, seed=2)(visual, prompts)[0], together[0])


def test_random_draws_for_each_named_image_anew_whatever_its_prompt_and_company():
    visual, prompt = tokens(0)
    names = [f"image 1 of sample {i}" for i in range(40)]
    together = naming(RandomPruner(0.25), names)([visual] * 40, [prompt] * 40)
    assert len({tuple(kept.tolist()) for kept in together}) > 30
    for name, kept in zip(names, together):
        alone = naming(RandomPruner(0.25), [name])([visual.bfloat16()], [prompt.bfloat16() * 2])
        assert torch.equal(alone[0], kept)
    other = naming(RandomPruner(0.25, seed=1), names)([visual] * 40, [prompt] * 40)
    assert not any(torch.equal(a, b) for a, b in zip(together, other))


def test_names_are_nothing_to_a_pruner_that_looks():
    pruner = ZspaPruner(0.25)
    assert naming(pruner, ["image 1 of sample 3"]) is pruner


def test_random_keeps_every_token_equally_often():
    visual = torch.zeros(20, 4)
    counts = torch.zeros(20)
    names = [f"image {i}" for i in range(2000)]
    for kept in naming(RandomPruner(0.25), names)([visual] * 2000, [torch.zeros(1, 4)] * 2000):
        counts[kept] += 1
    # 500 expected each, with a standard deviation of 19.
    assert counts.sum() == 10_000 and (counts - 500).abs().max() < 80


def test_the_papers_baselines_are_the_ends_of_the_dial():
    visual, prompt = tokens(0, n=60)
    for method, core in (("relevance", 1.0), ("divprune", 0.0), ("zspa", 0.4)):
        pruner = make_pruner(method, keep_ratio=0.2, core_ratio=0.4)
        assert torch.equal(pruner([visual], [prompt])[0], ZspaPruner(0.2, core)([visual], [prompt])[0])


@pytest.mark.parametrize(
    ("method", "core", "found"),
    [
        ("zspa", 0, ("divprune", {})),
        ("zspa", 1.0, ("relevance", {"pooling": "max"})),
        ("zspa", 0.2, ("zspa", {"core_ratio": 0.2, "pooling": "max"})),
        ("random", 0.0, ("random", {"seed": 3})),
        ("mmtok", 1, ("mmtok", {})),
        ("weighted", 1, ("weighted", {"pooling": "max"})),
        ("conditional_dpp", 1, ("conditional_dpp", {})),
    ],
)
def test_a_method_at_an_end_of_the_dial_is_the_baseline_there_and_keeps_what_it_reads(method, core, found):
    known, settings = method_of(method, {"core_ratio": core, "pooling": "max", "seed": 3})
    assert (known.name, settings) == found


def test_a_setting_that_no_method_reads_is_named():
    given = {"keep_ratio": 0.1, "core_ratio": 0.2, "seed": None, "pooling": "max", "position_ids": "compact"}
    assert unread(given, ["original"]) == ["keep_ratio", "core_ratio", "pooling", "position_ids"]
    assert unread(given, ["random", "relevance"]) == ["core_ratio"]


def test_a_method_without_a_pruner_says_which_have_one():
    with pytest.raises(ValueError, match="'original' has no pruner: choose from relevance, divprune, zspa"):
        METHODS["original"].make(0.1)


def test_the_published_divprune_keeps_what_divprune_keeps():
    visual, prompt = tokens(1, n=60)
    published, ours = (method.make(0.2)([visual], [prompt])[0] for method in (PUBLISHED_DIVPRUNE, METHODS["divprune"]))
    assert torch.equal(published, ours)


def test_original_and_a_keep_ratio_of_one_prune_nothing():
    assert make_pruner("original", keep_ratio=0.1) is None
    assert all(make_pruner(method, keep_ratio=1.0) is None for method in METHODS)


@pytest.mark.parametrize(
    ("method", "ratios", "message"),
    [
        ("divprun", {"keep_ratio": 0.1}, "no method 'divprun': choose from original, relevance, divprune"),
        ("random", {"keep_ratio": 0}, "keep_ratio is 0, but must be a number in"),
        ("zspa", {"keep_ratio": 0.1, "core_ratio": 2}, "core_ratio is 2"),
    ],
)
def test_a_wrong_method_or_ratio_is_named(method, ratios, message):
    with pytest.raises(ValueError, match=message):
        make_pruner(method, **ratios)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KEEPING),
    st.integers(1, 40),
    st.integers(0, 6),
    st.floats(0.01, 0.99),
    st.integers(0, 10**6),
)
def test_every_pruner_keeps_its_word(method, n, m, keep, seed):
    visual, prompt = tokens(seed, n, m, 8)
    visual[: n // 4] = visual[0]  # equal tokens
    visual[n - n // 5 :] = 0
    pruner = make_pruner(method, keep_ratio=keep)
    assert isinstance(pruner, VisualTokenPruner)
    for dtype in (torch.float32, torch.bfloat16):
        (kept,) = pruner([visual.to(dtype)], [prompt.to(dtype)])
        assert kept.dtype == torch.long and kept.shape == (pruner.budget(n),)
        assert bool((kept.diff() > 0).all()) and kept[0] >= 0 and kept[-1] < n


@pytest.mark.parametrize("method", PRUNING)
def test_a_checkpoint_generates_with_every_method(method):
    processor = AutoProcessor.from_pretrained(checkpoint_folder("embedded"))
    model = AutoModelForImageTextToText.from_pretrained(checkpoint_folder("embedded"), trust_remote_code=True)
    scene, asked = scene_questions(3)
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": next(asked).text}]}]
    prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
    inputs = processor(images=scene.image, text=prompt, return_tensors="pt")
    pruner = make_pruner(method, keep_ratio=0.25)
    output = model.generate(**inputs, max_new_tokens=2, do_sample=False, visual_token_pruner=pruner)
    assert output.shape[1] > inputs["input_ids"].shape[1]
    (kept,) = model.select_visual_tokens(**inputs, visual_token_pruner=pruner)
    assert kept.shape == (36,)


@st.composite
def hard_tokens(draw):
    """Tokens of an image and of a prompt, some of them equal, some zero, some opposite, in any dtype."""
    n, m, d = draw(st.integers(1, 40)), draw(st.integers(0, 5)), draw(st.integers(1, 8))
    visual, prompt = tokens(draw(st.integers(0, 10**6)), n, m, d)
    index = st.integers(0, n - 1)
    for source, target, sign in draw(st.lists(st.tuples(index, index, st.sampled_from([1, 1, 0, -1])), max_size=n)):
        visual[target] = sign * visual[source]
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    return visual.to(dtype), prompt.to(dtype)


RATIOS = st.floats(0.01, 1.0)


@settings(max_examples=150, deadline=None)
@given(hard_tokens().filter(lambda given: len(given[0]) > 1), st.integers(0, 40))
def test_tome_merges_the_most_similar_pairs(given, most):
    visual = given[0].float()
    assert_pairs_are_the_best(visual, *matching(visual, most), most)


@settings(max_examples=150, deadline=None)
@given(hard_tokens(), RATIOS)
def test_tome_averages_what_its_matching_puts_together(given, keep):
    visual, prompt = given
    pruner, rounds = METHODS["tome"].make(keep), []

    def recorded(*call):
        rounds.append((call, matching(*call)))
        return rounds[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "matching", recorded)
        ((indices, features),) = pruner([visual], [prompt])
    groups, budget = [[i] for i in range(len(visual))], pruner.budget(len(visual))
    mean = lambda: torch.stack([visual[group].double().mean(0) for group in groups])  # noqa: E731
    for (averages, most), pairs in rounds:
        assert most == len(groups) - budget
        torch.testing.assert_close(averages.double(), mean(), atol=1e-5, rtol=1e-5)
        for gone, into in zip(*map(torch.Tensor.tolist, pairs)):
            groups[into], groups[gone] = groups[into] + groups[gone], []
        groups = [group for group in groups if group]
    assert len(groups) == budget
    assert indices.tolist() == [group[0] for group in groups] and features.dtype == visual.dtype
    torch.testing.assert_close(features, mean().to(visual.dtype))


def test_tome_counts_each_token_once():
    visual = torch.tensor([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    ((indices, features),) = METHODS["tome"].make(0.25)([visual], [visual[:0]])
    assert indices.shape == (1,)
    torch.testing.assert_close(features, visual.mean(0, keepdim=True))


def test_what_is_resized_is_the_average_of_its_part_of_the_square():
    visual = torch.arange(36.0)[:, None].expand(36, 2)
    ((indices, features),) = METHODS["resized"].make(0.3)([visual], [visual[:0]])  # 3 x 3 of 11
    expected = torch.arange(36.0).view(3, 2, 3, 2).mean((1, 3)).flatten()
    assert indices.tolist() == list(range(9)) and torch.equal(features, expected[:, None].expand(9, 2))
    with pytest.raises(ValueError, match="12 visual tokens is no square, as 'resized' needs it"):
        METHODS["resized"].make(0.3)([visual[:12]], [visual[:0]])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), RATIOS, st.integers(1, 4))
def test_what_is_resized_is_the_largest_square_within_the_budget(side, keep, d):
    visual = torch.randn(side * side, d, generator=torch.Generator().manual_seed(side))
    pruner = METHODS["resized"].make(keep)
    ((indices, features),) = pruner([visual], [visual[:0]])
    small = int(max(1, int(keep * side * side + 0.5)) ** 0.5)
    assert pruner.budget(side * side) == small**2 and indices.tolist() == list(range(small**2))
    square = visual.double().view(side, side, d)
    bounds = [(i * side // small, -(-(i + 1) * side // small)) for i in range(small)]
    expected = torch.stack([square[y:yy, x:xx].mean((0, 1)) for y, yy in bounds for x, xx in bounds])
    torch.testing.assert_close(features.double(), expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=150, deadline=None)
@given(hard_tokens(), RATIOS)
def test_par_keeps_the_clusters_nearest_the_prompt(given, keep):
    visual, prompt = given
    label = clusters(visual.float())
    n, similarity = len(visual), cosine(visual, visual)
    similarity = similarity - torch.diag(torch.full((n,), torch.inf, dtype=torch.float64))
    groups = [set((label == k).nonzero()[:, 0].tolist()) for k in range(int(label.max()) + 1)]
    nearest = similarity.max(1).values
    for i in range(n if n > 1 else 0):  # in the cluster of a token as similar as any, but for rounding
        assert max(float(similarity[i, j]) for j in groups[int(label[i])]) >= nearest[i] - TIE
    if n > 1 and bool((similarity.topk(2).values.diff().abs() > TIE).all()):  # nothing is left to rounding
        assert sorted(map(sorted, groups)) == sorted(map(sorted, components(similarity.argmax(1).tolist())))
    near, own = torch.tensor([float(len(group)) for group in groups]), torch.zeros(n, dtype=torch.float64)
    if len(prompt):
        means = torch.stack([visual[sorted(group)].double().mean(0) for group in groups])
        near, own = relevance(means, prompt, "mean"), relevance(visual, prompt, "mean")
    pruner = METHODS["par"].make(keep)
    kept = set(pruner([visual], [prompt])[0].tolist())
    assert len(kept) == pruner.budget(n)
    whole = [k for k, group in enumerate(groups) if group <= kept]
    (cut,) = [k for k, group in enumerate(groups) if group & kept and not group <= kept] or [None]
    left = [k for k, group in enumerate(groups) if not group & kept]
    taken = [*whole, *([] if cut is None else [cut])]
    for k in left:
        assert near[taken].min() >= near[k] - TIE
    if cut is not None:
        assert not whole or near[whole].min() >= near[cut] - TIE
        rest = sorted(groups[cut] - kept)
        assert own[sorted(groups[cut] & kept)].min() >= own[rest].max() - TIE
