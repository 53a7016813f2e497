"""What `hf-zspa tune` concludes from what it has measured."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_zspa.tuning.choice import check_rows, halves, interval, lower_bound, rows_needed


@pytest.mark.parametrize(
    ("stay", "n", "bound"),
    [(149, 149, 0.05 ** (1 / 149)), (10, 10, 0.05**0.1), (1, 10, 1 - 0.95**0.1), (0, 10, 0.0)],
)
def test_the_bound_is_that_of_clopper_and_pearson(stay, n, bound):
    assert lower_bound(stay, n) == pytest.approx(bound, abs=1e-6)


@given(st.integers(1, 400), st.floats(0.0, 1.0))
def test_below_the_bound_what_was_seen_is_rare_and_at_it_five_in_a_hundred(n, share):
    stay = max(1, round(share * n))
    bound = lower_bound(stay, n)
    assert 0 < bound < stay / n + 1e-12
    tail = sum(math.comb(n, k) * bound**k * (1 - bound) ** (n - k) for k in range(stay, n + 1))
    assert tail == pytest.approx(0.05, rel=1e-6)


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_interval_holds_the_share_and_mirrors(stay, n):
    stay = min(stay, n)
    low, high = interval(stay, n)
    assert low <= stay / n <= high
    assert interval(n - stay, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("agreement, needed", [(0.98, 149), (0.95, 59), (0.9, 29), (0.5, 5), (0.01, 1)])
def test_so_many_rows_and_no_fewer_can_show_an_agreement(agreement, needed):
    assert rows_needed(agreement) == needed
    assert lower_bound(needed, needed) >= agreement
    assert needed == 1 or lower_bound(needed - 1, needed - 1) < agreement


@given(st.lists(st.integers(0, 30), min_size=2, max_size=100), st.integers(0, 5))
def test_halves_part_the_images_and_the_judging_one_has_half_the_rows(images, seed):
    choosing, judging = halves(images, seed)
    assert sorted(choosing + judging) == list(range(len(images)))
    assert not {images[i] for i in choosing} & {images[i] for i in judging}
    assert 2 * len(judging) >= len(images)
    assert (choosing, judging) == halves(images, seed)


def test_halves_of_rows_about_an_image_each_are_as_large():
    assert [len(half) for half in halves(range(200))] == [100, 100]
    assert [len(half) for half in halves(range(297))] == [148, 149]


def test_too_few_rows_are_told_how_many_are_needed():
    with pytest.raises(ValueError, match=r"needs 149 rows to judge on, so 297 in all, and these are 100: .* at 0.941;"):
        check_rows(0.98, range(100))
    check_rows(0.98, range(297))
    check_rows(0.9, range(200))
    with pytest.raises(ValueError, match="about one image"):
        check_rows(0.9, [0] * 200)


@pytest.mark.parametrize("agreement", [0.0, 1.0, -1.0, 98.0, math.nan])
def test_an_agreement_is_between_0_and_1(agreement):
    with pytest.raises(ValueError, match="--agreement is"):
        check_rows(agreement, range(100))
