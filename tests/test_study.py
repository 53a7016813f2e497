"""The rules for the size of the core that were searched, by hand."""

import torch

from hf_zspa import select_tokens
from hf_zspa.embedded.study import (
    StudiedPruner,
    above_unrelated,
    by_surprise,
    half_when_crowded,
    near_best,
    outlier_share,
    outliers,
    share,
)

SCORES = torch.tensor([0.0] * 17 + [0.8, 0.9, 1.0])
NONE = SCORES[:, None]


def test_rules_of_one_image():
    assert share(0.5)(SCORES, NONE, 7) == 4
    assert outliers(1.0)(SCORES, NONE, 10) == 3 and outliers(4.0)(SCORES, NONE, 10) == 0
    assert near_best(0.95)(SCORES, NONE, 10) == 1
    assert outlier_share(1.0)(SCORES, NONE, 10) == 3 and outlier_share(1.0)(SCORES, NONE, 2) == 1
    assert half_when_crowded(1.0)(SCORES, NONE, 6) == 3 and half_when_crowded(1.0)(SCORES, NONE, 5) == 0


def test_rules_that_compare_with_unrelated_prompts():
    unrelated = torch.zeros(20, 4)
    unrelated[3] = torch.tensor([0.2, 0.4, 0.6, 0.85])
    assert above_unrelated(1.0)(SCORES, unrelated, 10) == 2
    assert above_unrelated(0.0)(SCORES, unrelated, 10) == 3
    assert by_surprise(1.0)(SCORES, unrelated, 10) == 5
    assert by_surprise(1.0)(SCORES * 0.1, unrelated, 10) == 0


def test_a_fixed_share_is_the_method_itself():
    visual, prompt = torch.randn(60, 16), torch.randn(3, 16)
    for core in (0.0, 0.4, 1.0):
        pruner = StudiedPruner(0.25, share(core), unrelated=torch.randn(5, 16))
        expected = select_tokens(visual, prompt, keep_ratio=0.25, core_ratio=core)
        assert torch.equal(pruner([visual], [prompt])[0], expected)


def test_excess_takes_off_what_a_token_has_for_every_prompt():
    generator = torch.Generator().manual_seed(0)
    common, own = torch.randn(16, generator=generator), torch.randn(16, generator=generator)
    visual = torch.stack([common, own, *torch.randn(8, 16, generator=generator)])
    prompt, unrelated = (3 * common + own)[None], common[None].expand(4, -1)
    chosen = [StudiedPruner(0.1, share(1.0), unrelated=unrelated, excess=excess) for excess in (False, True)]
    assert [pruner([visual], [prompt])[0].tolist() for pruner in chosen] == [[0], [1]]
