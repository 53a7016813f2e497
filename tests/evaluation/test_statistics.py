"""Bootstrap intervals and paired differences, against normal theory and numbers done by hand."""

import numpy as np
import pytest

from hf_zspa.evaluation.statistics import (
    Difference,
    average_difference,
    average_interval,
    bootstrap_interval,
    paired_difference,
)


def mean(rows):
    return rows.mean((-2, -1))


def f1(rows):
    true, false, missed = np.moveaxis(rows.sum(-2), -1, 0)
    return 2 * true / (2 * true + false + missed)


def normal(n, seed=0):
    return np.random.default_rng(seed).normal(5.0, 2.0, (n, 1))


def test_the_interval_of_a_mean_is_near_the_normal_one():
    rows = normal(400)
    half = 1.96 * rows.std(ddof=1) / np.sqrt(len(rows))
    low, high = bootstrap_interval(rows, mean)
    assert low == pytest.approx(rows.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(rows.mean() + half, abs=0.1 * half)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    intervals = [bootstrap_interval(normal(60, seed), mean, resamples=400, seed=seed) for seed in range(300)]
    covered = np.mean([low <= 5.0 <= high for low, high in intervals])
    assert 0.91 <= covered <= 0.98


def test_a_lower_level_is_a_narrower_interval():
    rows = normal(100)
    wide, narrow = bootstrap_interval(rows, mean), bootstrap_interval(rows, mean, level=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    rows = normal(50)
    assert bootstrap_interval(rows, mean, seed=3) == bootstrap_interval(rows, mean, seed=3)
    assert bootstrap_interval(rows, mean, seed=3) != bootstrap_interval(rows, mean, seed=4)


def test_drawing_in_chunks_changes_nothing(monkeypatch):
    rows = normal(50)
    whole = bootstrap_interval(rows, mean, resamples=300)
    monkeypatch.setattr("hf_zspa.evaluation.statistics._NUMBERS_AT_ONCE", 50 * 7)
    sizes = []

    def watched(drawn):
        sizes.append(drawn.shape)
        return mean(drawn)

    assert bootstrap_interval(rows, watched, resamples=300) == whole
    assert max(sizes) == (7, 50, 1) and sum(size[0] for size in sizes) == 300


def test_f1_is_drawn_by_sample_and_not_by_column():
    rows = np.array([[1, 0, 0]] * 60 + [[0, 1, 0]] * 20 + [[0, 0, 1]] * 20, dtype=float)
    low, high = bootstrap_interval(rows, f1)
    # F1 is 2p / (1 + p) of the share p = 0.6 of true positives, so its ends are those of the binomial share.
    ends = [0.6 - 1.96 * np.sqrt(0.24 / 100), 0.6 + 1.96 * np.sqrt(0.24 / 100)]
    assert (low, high) == pytest.approx([2 * p / (1 + p) for p in ends], abs=0.015)


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    a = normal(200)
    b = a - 0.5 + 0.1 * normal(200, seed=1)
    paired = paired_difference(a, b, mean)
    unpaired = paired_difference(a, np.random.default_rng(2).permutation(b), mean)
    assert paired.value == pytest.approx(a.mean() - b.mean())
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


def test_a_score_against_itself_differs_by_exactly_nothing():
    rows = normal(30)
    assert paired_difference(rows, rows, mean) == Difference(0.0, 0.0, 0.0)


def test_a_constant_gain_is_its_own_interval_and_clear():
    rows = np.arange(10.0)[:, None]
    gain = paired_difference(rows + 3, rows, mean)
    assert (gain.value, gain.low, gain.high) == pytest.approx((3, 3, 3))
    assert gain.is_clear


@pytest.mark.parametrize("low, high, clear", [(-1, 1, False), (0, 1, False), (0.1, 1, True), (-1, -0.1, True)])
def test_a_difference_is_clear_when_its_interval_leaves_out_0(low, high, clear):
    assert Difference((low + high) / 2, low, high).is_clear is clear


def test_a_difference_in_words_has_a_star_where_it_is_clear():
    assert str(Difference(3.04, 1.0, 5.0)) == r"+3.0\* (+1.0 to +5.0)"
    assert str(Difference(-1.0, -3.0, 1.0)) == "-1.0 (-3.0 to +1.0)"


def test_scores_of_different_samples_are_refused():
    with pytest.raises(ValueError, match="there are 4 and 5"):
        paired_difference(np.ones((4, 1)), np.ones((5, 1)), mean)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        bootstrap_interval(np.ones((0, 1)), mean)


def test_an_average_weighs_tasks_alike_and_draws_each_by_itself():
    small, large = normal(50), normal(800, seed=1)
    low, high = average_interval([(small, mean), (large, mean)])
    middle = (small.mean() + large.mean()) / 2
    error = np.sqrt(small.var(ddof=1) / 50 + large.var(ddof=1) / 800) / 2
    assert (low + high) / 2 == pytest.approx(middle, abs=0.1 * error)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_an_average_of_a_score_with_itself_is_as_narrow_as_two_independent_draws():
    rows = normal(200)
    single, double = bootstrap_interval(rows, mean), average_interval([(rows, mean), (rows, mean)])
    assert (double[1] - double[0]) == pytest.approx((single[1] - single[0]) / np.sqrt(2), rel=0.1)


def test_an_average_difference_is_the_mean_of_the_differences():
    rows = normal(40)
    ours = [(rows + 1, mean), (rows[:20] + 3, mean)]
    gain = average_difference(ours, [(rows, mean), (rows[:20], mean)])
    assert (gain.value, gain.low, gain.high) == pytest.approx((2, 2, 2))


def test_an_average_difference_needs_the_same_tasks():
    rows = normal(10)
    with pytest.raises(ValueError):
        average_difference([(rows, mean)], [(rows, mean), (rows, mean)])
