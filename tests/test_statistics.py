"""Bootstrap intervals against normal theory, enumeration and scikit-free F1 by hand."""

import numpy as np
import pytest

from hf_zspa.evaluation.statistics import average_difference, average_interval, bootstrap_interval, paired_difference


def mean(rows):
    return rows.mean((-2, -1))


def f1(rows):
    true, false, missed = np.moveaxis(rows.sum(-2), -1, 0)
    return 2 * true / np.maximum(2 * true + false + missed, 1)


def coin(n, p, seed):
    return (np.random.default_rng(seed).random((n, 1)) < p).astype(float)


def test_the_interval_of_a_share_is_that_of_normal_theory():
    rows = coin(2000, 0.7, 1)
    low, high = bootstrap_interval(rows, mean)
    half = 1.96 * np.sqrt(rows.mean() * (1 - rows.mean()) / 2000)
    assert (low, high) == pytest.approx((rows.mean() - half, rows.mean() + half), abs=0.003)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits = 0
    for seed in range(300):
        low, high = bootstrap_interval(coin(150, 0.6, seed), mean, resamples=400, seed=seed)
        hits += low <= 0.6 <= high
    assert 0.90 <= hits / 300 <= 0.985


def test_a_score_without_spread_has_an_interval_without_width():
    assert bootstrap_interval(np.ones((50, 1)), mean) == (1.0, 1.0)


def test_the_interval_of_f1_comes_from_f1_of_the_drawn_samples():
    rows = np.array([[1, 0, 0]] * 60 + [[0, 1, 0]] * 10 + [[0, 0, 1]] * 10 + [[0, 0, 0]] * 20, float)
    rng = np.random.default_rng(5)
    drawn = [float(f1(rows[rng.integers(100, size=100)])) for _ in range(4000)]
    assert bootstrap_interval(rows, f1, resamples=4000) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01
    )


def test_a_paired_difference_is_sharper_than_two_intervals():
    a = coin(400, 0.8, 3)
    b = a.copy()
    b[:12] = 1 - b[:12]
    found = paired_difference(a, b, mean)
    assert found.value == pytest.approx(a.mean() - b.mean())
    low, high = bootstrap_interval(a, mean)
    assert found.high - found.low < (high - low) / 2


def test_equal_scores_differ_by_exactly_nothing():
    a = coin(100, 0.5, 4)
    found = paired_difference(a, a.copy(), mean)
    assert (found.value, found.low, found.high, found.is_clear) == (0.0, 0.0, 0.0, False)


def test_samples_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="same samples, but there are 3 and 4"):
        paired_difference(np.ones((3, 1)), np.ones((4, 1)), mean)
    with pytest.raises(ValueError, match="no samples"):
        bootstrap_interval(np.ones((0, 1)), mean)


def test_an_average_weighs_its_parts_equally_and_is_sharper_than_each():
    parts = [(coin(200, 0.5, seed), mean) for seed in range(6)]
    low, high = average_interval(parts)
    each = [np.diff(bootstrap_interval(rows, mean))[0] for rows, _ in parts]
    assert high - low == pytest.approx(np.mean(each) / np.sqrt(6), rel=0.15)
    others = [(rows * 0, mean) for rows, _ in parts]
    assert average_difference(parts, others).value == pytest.approx(np.mean([rows.mean() for rows, _ in parts]))


def test_memory_is_bounded_by_drawing_in_pieces(monkeypatch):
    from hf_zspa.evaluation import statistics

    rows = coin(300, 0.5, 9)
    whole = bootstrap_interval(rows, mean, resamples=500)
    monkeypatch.setattr(statistics, "_NUMBERS_AT_ONCE", 300 * 7)
    assert bootstrap_interval(rows, mean, resamples=500) == whole
