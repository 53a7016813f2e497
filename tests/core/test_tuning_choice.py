"""What `hf-zspa tune` concludes from what it has measured."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_zspa.remote_code.zspa_methods import METHODS
from hf_zspa.tuning.apply import said
from hf_zspa.tuning.candidates import SETTINGS, check_keep_ratios, setting, with_own
from hf_zspa.tuning.choice import check_rows, halves, interval, judge, lower_bound, rows_needed
from hf_zspa.tuning.report import markdown, plot, verdict
from hf_zspa.tuning.rows import Measured
from hf_zspa.tuning.tune import conclude


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
def test_half_of_the_images_judge_by_one_row_each_and_all_rows_about_the_others_choose(images, seed):
    choosing, judging = halves(images, seed)
    judges = {images[i] for i in judging}
    assert len(judges) == len(judging) == (len(set(images)) + 1) // 2
    assert choosing == [i for i in range(len(images)) if images[i] not in judges]
    assert (choosing, judging) == halves(images, seed)


def test_the_row_that_judges_is_drawn_of_all_about_its_image():
    images = [image for image in range(200) for _ in range(4)]
    drawn = [row % 4 for row in halves(images)[1]]
    assert all(drawn.count(place) > 10 for place in range(4))
    assert halves(images) != halves(images, 1)


def test_halves_of_rows_about_an_image_each_are_as_large():
    assert [len(half) for half in halves(range(200))] == [100, 100]
    assert [len(half) for half in halves(range(297))] == [148, 149]


def test_too_few_rows_are_told_how_many_are_needed():
    with pytest.raises(
        ValueError, match=r"agreement 0.98 needs 149 pictures .* 297 in all, and these rows are about 100: .* 0.941;"
    ):
        check_rows(0.98, [*range(100)] * 3)
    with pytest.raises(ValueError, match=r"^--agreement 0.98 needs .* lower --agreement$"):
        check_rows(0.98, range(100), "--agreement")
    check_rows(0.98, range(297))
    check_rows(0.9, range(200))
    with pytest.raises(ValueError, match="about one image"):
        check_rows(0.01, [0] * 200)


@pytest.mark.parametrize("agreement", [0.0, 1.0, -1.0, 98.0, math.nan])
def test_an_agreement_is_between_0_and_1(agreement):
    with pytest.raises(ValueError, match=r"^agreement is"):
        check_rows(agreement, range(100))


def whole_answers(*shares, rows=100):
    """`(keep ratios, settings, rows)`: of each candidate's answers the first so many of a hundred stay."""
    return np.arange(rows) % 100 < np.array(shares)[..., None]


def test_settings_are_chosen_on_one_half_and_judged_on_the_other():
    choosing, judging = np.arange(50), np.arange(50, 100)
    whole = np.zeros((1, 3, 100), dtype=bool)
    whole[0, 0, judging] = True  # best where it is not looked at
    whole[0, 1, choosing[:40]] = whole[0, 2, choosing[:40]] = True  # as good as each other where it is
    whole[0, 2, judging[:45]] = True
    kl = np.array([[[0.0], [2.0], [1.0]]]).repeat(100, 2)
    (judged,) = judge(whole, kl, list(choosing), list(judging), 0.5)
    assert (judged.setting, judged.stay, judged.rows) == (2, 45, 50)
    assert judged.bound == lower_bound(45, 50) and judged.reaches


@pytest.mark.parametrize(
    ("gained", "lost", "chosen"),
    [(1, 0, 0), (2, 0, 1), (3, 1, 1), (2, 1, 0), (5, 2, 1), (4, 2, 0), (12, 9, 1), (12, 10, 0), (0, 5, 0)],
)
def test_the_own_setting_is_left_where_equals_would_rarely_look_so_different(gained, lost, chosen):
    by_a_coin = sum(math.comb(gained + lost, k) for k in range(gained, gained + lost + 1)) / 2 ** (gained + lost)
    assert (by_a_coin <= 1 / 3) == bool(chosen)
    own, other = np.ones((2, 100), dtype=bool)
    own[:gained], other[gained : gained + lost] = False, False
    kl = np.array([[[9.0], [0.0]]]).repeat(100, 2)  # which decides nothing
    rows = list(range(100))
    (judged,) = judge(np.stack([own, other])[None], kl, rows, rows, 0.5)
    assert judged.setting == chosen


def test_one_that_may_be_luck_hides_none_that_is_not():
    whole = np.zeros((1, 3, 100), dtype=bool)
    whole[0, 0, :80] = whole[0, 1, 13:96] = whole[0, 2, :82] = True  # 16 gained and 13 lost; 2 gained
    rows = list(range(100))
    assert judge(whole, np.zeros(whole.shape), rows, rows, 0.5)[0].setting == 2


def test_below_a_keep_ratio_that_does_not_reach_the_aim_none_does():
    whole = whole_answers([100], [80], [100], [100])
    rows = list(range(100))
    judged = judge(whole, np.zeros(whole.shape), rows, rows, 0.9)
    assert [each.reaches for each in judged] == [False, False, True, True]
    assert [each.keep_ratio for each in judged] == [0, 1, 2, 3]


@pytest.mark.slow
def test_what_does_not_reach_the_aim_is_chosen_in_five_draws_of_a_hundred_at_most():
    rng = np.random.default_rng(0)
    chosen = 0
    for _ in range(1000):
        whole = rng.random((4, 5, 200)) < np.array([0.8, 0.9, 0.9, 0.97])[:, None, None]
        judged = judge(whole, np.zeros(whole.shape), list(range(100)), list(range(100, 200)), 0.9)
        assert judged[-1].keep_ratio == 3
        chosen += judged[2].reaches  # at 0.9 exactly, the worst there is
    assert 0 < chosen <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)


@pytest.mark.slow
def test_rows_that_share_pictures_pass_falsely_no_more_often():
    rng = np.random.default_rng(0)
    images = [str(image) for image in range(20) for _ in range(10)]
    tokens, settings = np.full(200, 3), list(SETTINGS[:5])
    chosen = 0
    for _ in range(1000):
        share = np.array([0.5, 0.7, 0.7, 0.9])[:, None, None]
        of_image = rng.beta(share, 1 - share, (4, 1, 20)).repeat(10, 2)  # an image's questions are alike
        whole = rng.random((4, 5, 200)) < of_image
        found = conclude(
            Measured(images, [""] * 200, tokens, whole * 3, 1.0 - whole), [0.1, 0.2, 0.3, 0.4], settings, 0.7
        )
        chosen += found.judged[2].reaches  # at 0.7 exactly
    assert chosen <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)


@pytest.fixture
def tuning():
    def make(*shares, agreement=0.9, rows_about=1):
        whole = whole_answers(*shares)
        tokens = np.full(100, 3)
        images = [str(i // rows_about) for i in range(100)]
        measured = Measured(images, ["yes"] * 100, tokens, whole * 3, (~whole) * 0.5)
        settings = [SETTINGS[0], *SETTINGS[3 : 2 + len(shares[0])]]
        return conclude(measured, [0.1, 0.25][: len(shares)], settings, agreement)

    return make


def test_the_report_names_the_smallest_keep_ratio_or_none(tuning):
    found = tuning([80, 99], [99, 100])
    assert found.fields["zspa_keep_ratio"] == 0.1 and found.fields["zspa_method"] == "weighted"
    assert verdict(found).startswith(
        "keep ratio 0.1 is the smallest that leaves 90 % of the answers as they are, by weigh"
    )
    none = tuning([10, 20], [30, 40])
    assert none.fields == {"zspa_keep_ratio": 1.0} and none.as_json()["chosen"] is None
    assert verdict(none).endswith("keep ratio 1.0, no pruning, is the honest answer")
    assert verdict(tuning([50, 92], [50, 92])).endswith("; if as large a share of more pictures stays, it will do")
    (first, *_) = none.candidates()
    assert first["whole"] == {"value": 0.1, "interval": [round(each, 4) for each in interval(10, 100)]}
    assert first["tokens"]["value"] == 0.1 and first["kl"]["value"] == 0.45
    assert markdown(found, "mine").count("\n| 0.1 |") == 1 + 2  # the best, and every candidate


def test_the_report_counts_pictures_where_rows_share_them(tuning):
    found = tuning([100], [100], agreement=0.5, rows_about=5)
    assert (len(found.choosing), len(found.judging)) == (50, 10)
    assert "10 of 10 stay, one about each picture, so at least 74.1 %" in verdict(found)
    text = markdown(found, "mine")
    assert "tuned on 100 rows about 20 pictures" in text
    assert "chosen on 50 rows; the counts are of one row about each of the other 10 pictures." in text
    assert "intervals over pictures" in text
    content = found.as_json()
    assert (content["rows"], content["pictures"], content["judging_rows"]) == (100, 20, 10)
    assert found.candidates()[0]["whole"]["interval"] == [round(each, 4) for each in interval(20, 20)]
    assert re.search("100 rows about 20 pictures of .* 10 of 10 answers about as many pictures are", said(found))
    assert "chosen on the rows about the other pictures." in said(found)
    none = tuning([0], [0], agreement=0.5, rows_about=5)
    assert "0 of 10 stay, one about each picture)" in verdict(none)
    alone = tuning([100], [100])
    assert "picture" not in verdict(alone) + markdown(alone, "mine") + said(alone)


def test_keep_ratios_that_read_alike_are_one():
    assert check_keep_ratios([0.2, 0.1, 0.1000000001]) == [0.1, 0.2]
    with pytest.raises(ValueError, match=r"^keep_ratios is 1, but must be numbers between 0 and 1"):
        check_keep_ratios([0.99999999])


def test_without_matplotlib_there_is_no_plot(tuning, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert not plot(tuning([80, 99], [99, 100]), tmp_path / "plot.png")
    assert not any(tmp_path.iterdir())


def test_every_method_that_travels_is_tried_with_settings_that_it_reads():
    assert list(dict.fromkeys(each.method for each in SETTINGS)) == list(METHODS)
    assert {name for each in SETTINGS for name in each.settings} == {
        "core_ratio", "relevance_weight", "pooling", "centre",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"'wieghted'.*must be.*'weighted'"):
        setting("wieghted")
    for name, value in (("core_ratio", 0.2), ("wieght", 0.5), ("keep_ratio", 0.1)):
        with pytest.raises(ValueError, match=f"{name} is no setting of 'weighted' to try, which are relevance_weight"):
            setting("weighted", **{name: value})


def test_what_a_checkpoint_does_is_tried_first_and_once():
    config = SimpleNamespace(zspa_method="dpp", zspa_relevance_weight=0.5, zspa_pooling="none", zspa_core_ratio=0.9)
    own = setting("dpp", relevance_weight=0.5, pooling="none")
    assert own in SETTINGS
    assert with_own(SETTINGS, config) == [own, *(each for each in SETTINGS if each != own)]
    assert [*map(str, with_own([], config))] == ["dpp, weight 0.5, pooling none"]
