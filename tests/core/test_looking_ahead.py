"""The greedy loop on a CPU, which computes similarities ahead and leaves tokens behind: no choice may change."""

import pytest
import reference
import torch
from operations import Operations
from selection import KINDS, features

from hf_zspa import ZspaPruner, select_tokens
from hf_zspa.remote_code import zspa_lookahead, zspa_similarity
from hf_zspa.remote_code.zspa_lookahead import Diversity, GreedyOnCpu


def directions(*rows: dict[int, float]) -> torch.Tensor:
    """Unit vectors `(len(rows), 20)`: the entries named, below 5, and what is missing in a place of the row's own."""
    vectors = torch.zeros(len(rows), 20, dtype=torch.float64)
    for i, row in enumerate(rows):
        for place, value in row.items():
            vectors[i, place] = value
        vectors[i, 5 + i] += (1 - vectors[i].square().sum()).clamp_min(0).sqrt()
    return vectors.float()


def greedy(visual: torch.Tensor, first: int, steps: int) -> tuple[list[int], list[float]]:
    """The tokens that the plain loop in float64 adds to `first`, and the cosine to the closest selected of each."""
    similarity, selected, levels = reference.cosine(visual, visual), [first], []
    for _ in range(steps):
        score = reference.redundancy(similarity, selected)
        selected.append(int(score.argmin()))
        levels.append(float(score.min()))
    return selected[1:], levels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ahead, columns", [(1, 1), (3, 4), (16, 16), (32, 256)])
def test_looking_ahead_changes_no_choice(monkeypatch, kind, ahead, columns):
    visual, prompt = features(400, kind)
    monkeypatch.setattr(zspa_lookahead, "FEW", 400)
    expected = [select_tokens(visual, prompt, keep_ratio=0.3, core_ratio=core) for core in (0, 0.2)]
    monkeypatch.setattr(zspa_lookahead, "FEW", 0)
    monkeypatch.setattr(zspa_lookahead, "AHEAD", ahead)
    monkeypatch.setattr(zspa_lookahead, "COLUMNS", columns)
    found = [select_tokens(visual, prompt, keep_ratio=0.3, core_ratio=core) for core in (0, 0.2)]
    assert all(map(torch.equal, found, expected))


def test_the_most_isolated_token_is_found_without_comparing_all_where_some_stand_out(monkeypatch):
    compared = []
    to_tokens = GreedyOnCpu.to_tokens
    monkeypatch.setattr(
        GreedyOnCpu,
        "to_tokens",
        lambda self, picks: compared.append(picks.numel()) or to_tokens(self, picks),
    )
    visual, _ = features(576, "trained")
    cosines = GreedyOnCpu(visual)
    found = int(cosines.most_isolated())
    unit = torch.nn.functional.normalize(visual.double(), dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-torch.inf)
    assert cosines.pairs is None and sum(compared) < 576 / 4
    assert found == int(similarity.amax(1).argmin())


def test_one_pass_over_the_features_serves_several_steps(monkeypatch):
    passes = []
    to_tokens = GreedyOnCpu.to_tokens
    monkeypatch.setattr(GreedyOnCpu, "to_tokens", lambda self, picks: passes.append(picks) or to_tokens(self, picks))
    visual, prompt = features(1024, "random")
    select_tokens(visual, prompt, keep_ratio=0.1, core_ratio=0.2)
    assert passes and len(passes) <= 82 // 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_leaving_tokens_behind_changes_no_choice(monkeypatch, kind):
    contended = []
    only = GreedyOnCpu.only
    monkeypatch.setattr(GreedyOnCpu, "only", lambda self, rows: contended.append(len(rows)) or only(self, rows))
    visual, prompt = (tokens[:, :160] for tokens in features(800, kind))
    kept = select_tokens(visual, prompt, keep_ratio=0.1, core_ratio=0.2)
    assert kept.tolist() == reference.select(visual, prompt, 80, 16)
    assert contended and min(contended) < 800


@pytest.mark.parametrize("seed", range(3))
def test_the_loop_stops_where_all_tokens_have_reached_what_was_left_behind(looking_ahead, seed):
    visual = torch.randn(200, 16, generator=torch.Generator().manual_seed(seed))
    order, levels = greedy(visual, 0, 40)

    def loop(limit: float) -> list[int]:
        cosines = GreedyOnCpu(visual)
        closest = cosines.to_tokens(torch.tensor([0]))[0]
        closest[0] = torch.inf
        return zspa_lookahead.look_ahead(cosines, Diversity(closest, None), 40, limit)

    assert loop(torch.inf) == order
    assert loop(-2.0) == order[:1]
    for count in (1, 2, 5, 17, 39):
        assert levels[count] - levels[count - 1] > 1e-5
        assert loop((levels[count - 1] + levels[count]) / 2) == order[:count]


def test_a_token_left_behind_that_is_equal_but_for_rounding_comes_first(way):
    visual = directions({0: 1.0}, *[{0: 0.5}] * 8, {1: 1.0}, *[{1: 0.5 - 4e-7}] * 5)
    assert select_tokens(visual, visual[:1], keep_ratio=0.2, core_ratio=0.33).tolist() == [0, 1, 9]


def test_a_token_that_is_equal_to_the_last_contender_but_for_rounding_contends(way):
    visual = directions({0: 1.0}, {0: 5e-7}, *[{0: 0.5}] * 8, *[{}] * 5)
    assert select_tokens(visual, visual[:1], keep_ratio=0.13, core_ratio=0.5).tolist() == [0, 1]


def test_a_token_without_direction_among_contenders_is_added_once(way):
    visual = directions({0: 1.0}, {}, *[{0: 0.5}] * 8, {1: 1.0}, *[{1: 0.9}] * 4)
    visual[1] = 0
    assert select_tokens(visual, visual[:1], keep_ratio=4 / 15, core_ratio=0.25).tolist() == [0, 1, 2, 10]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_tokens_that_are_all_equal_are_chosen_in_order(way, value):
    for core_ratio in (0, 0.5):
        kept = select_tokens(torch.full((60, 8), value), torch.ones(1, 8), keep_ratio=0.1, core_ratio=core_ratio)
        assert kept.tolist() == list(range(6))


@pytest.mark.parametrize("guessed_before", [False, True])
def test_cosines_among_some_tokens_are_those_among_all(guessed_before):
    cosines, rows = GreedyOnCpu(torch.randn(50, 200)), torch.tensor([3, 4, 20, 48])
    picks = torch.tensor([0, 2])
    if guessed_before:
        cosines.guess(rows)
    some = cosines.only(rows)
    torch.testing.assert_close(some.to_tokens(picks), cosines.to_tokens(rows[picks])[:, rows])
    torch.testing.assert_close(some.guess(picks), cosines.guess(rows[picks]))


def test_only_tokens_that_can_be_next_and_have_no_column_are_guessed():
    cosines = GreedyOnCpu(torch.randn(40, 200))
    closest = torch.rand(40)
    closest[::3] = torch.inf
    pick, known = int(closest.argmin()), closest.topk(8, largest=False).indices[1::2].tolist()
    ahead = zspa_lookahead.likely_next(cosines, Diversity(closest, None), pick, dict.fromkeys(known), 32)
    assert ahead[0] == pick and len(ahead) == len(set(ahead))
    assert set(ahead) == set(range(40)) - {*known, *range(0, 40, 3)}


@pytest.mark.parametrize("core_ratio", [0.01, 0.9])
def test_similarities_to_many_selected_tokens_are_not_held_at_once(monkeypatch, core_ratio):
    for module in (zspa_lookahead, zspa_similarity):
        monkeypatch.setattr(module, "COLUMNS", 16)
    monkeypatch.setattr(zspa_lookahead, "AHEAD", 16)
    visual = torch.randn(2000, 64)
    with Operations() as operations:
        ZspaPruner(0.1, core_ratio)([visual], [torch.randn(3, 64)])
    assert operations.largest <= visual.nbytes


@pytest.mark.parametrize("n", [129, 400])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("by_column", [False, True])
def test_equal_tokens_are_equally_relevant_wherever_they_stand(n, threads, by_column):
    generator = torch.Generator().manual_seed(n)
    visual, prompt = (torch.randn(length, 4096, generator=generator) for length in (n, 3))
    equal = [0, 63, 64, 65, 127, n - 1]
    visual[equal] = visual[0].clone()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        scores = GreedyOnCpu(visual.T.contiguous().T if by_column else visual).to_prompt(prompt, "mean")
    finally:
        torch.set_num_threads(before)
    assert (scores[equal] == scores[0]).all()
